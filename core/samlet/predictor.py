"""From an image and prompts to masks: encode once, then pay for each click only the decoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from samlet.crops import Enlarger
from samlet.embedding import ImageEmbedding
from samlet.engines import Engine, ImageState, open_engine
from samlet.errors import UserError
from samlet.fingerprint import encoder_fingerprint
from samlet.images import to_rgb
from samlet.modeling.sam import Sam
from samlet.transforms import ResizeLongestSide


@dataclass(frozen=True)
class Masks:
    """The answer to one prompt.

    Attributes:
        masks: bool, C x H x W at the image's size; C is 3 candidates or 1 mask.
        iou_predictions: float32, C: the model's own estimate of each mask's IoU.
        low_res_masks: float32, C x S/4 x S/4 logits; one of them can be the next `mask_input`.
    """

    masks: np.ndarray
    iou_predictions: np.ndarray
    low_res_masks: np.ndarray

    @property
    def best_index(self) -> int:
        """Index of the mask that the model trusts most."""
        return int(self.iou_predictions.argmax())

    @property
    def best(self) -> np.ndarray:
        """The mask that the model trusts most: bool, H x W."""
        return self.masks[self.best_index]


class Predictor:
    """Encode images and answer prompts, with no state between calls.

    One predictor serves any number of images and threads: everything about an image is in its
    `ImageEmbedding`.

    Args:
        model: a model from `samlet.load`.
        engine: "torch", "openvino" or "auto": see `samlet.engines.open_engine`.

    Raises:
        UserError: the engine cannot run here.

    Example:
        >>> model = samlet.load("nuclei")
        >>> predictor = samlet.Predictor(model)
        >>> embedding = predictor.encode(image)
        >>> masks = predictor.segment(embedding, point_coords=[[120, 80]], point_labels=[1])
        >>> masks.best.shape == image.shape[:2]
        True
    """

    def __init__(self, model: Sam, engine: str | Engine = "auto") -> None:
        self.model = model.eval()
        self.engine = open_engine(model, engine)
        self.model_id = encoder_fingerprint(model)
        self._states: WeakKeyDictionary[ImageEmbedding, ImageState] = WeakKeyDictionary()
        self._lock = Lock()
        self.transform = ResizeLongestSide(model.config.image_size)

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> ImageEmbedding:
        """Compute an image's embedding.

        Args:
            image: RGB uint8, H x W x 3; any other array that `samlet.images.to_rgb` takes (grey,
                RGBA, 16 bit, float) is brought to that first.

        Raises:
            UserError: the array is not an image.
        """
        rgb = to_rgb(image)
        resized = self.transform.apply_image(rgb)
        pixels = torch.from_numpy(resized).permute(2, 0, 1).to(self.model.device)
        features = self.engine.encode(self.model.preprocess(pixels).unsqueeze(0))
        return ImageEmbedding(features[0], rgb.shape[:2], resized.shape[:2], self.model_id)

    def segment(
        self,
        embedding: ImageEmbedding,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
    ) -> Masks:
        """Answer one prompt.

        Args:
            embedding: from `encode`.
            point_coords: N x 2, (x, y) in pixels of the original image.
            point_labels: N: 1 for a point on the object, 0 for one beside it.
            box: x1, y1, x2, y2 in pixels of the original image.
            mask_input: logits, S/4 x S/4 or 1 x S/4 x S/4: a row of an earlier `low_res_masks`.
            multimask_output: three candidates, best for a single point; or one mask, best for
                a box or several points.

        Raises:
            UserError: the prompt is malformed, lies outside the image, or the embedding is
                another encoder's.
        """
        if box is not None and np.size(box) != 4:
            raise UserError("A box has four numbers: x1, y1, x2, y2.")
        return self.segment_batch(
            embedding,
            None if point_coords is None else _numbers(point_coords, "point_coords")[None],
            None if point_labels is None else _numbers(point_labels, "point_labels")[None],
            None if box is None else np.reshape(box, (1, 4)),
            None if mask_input is None else np.reshape(mask_input, (1, *np.shape(mask_input)[-2:])),
            multimask_output,
        )[0]

    @torch.no_grad()
    def segment_batch(
        self,
        embedding: ImageEmbedding,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        mask_inputs: np.ndarray | None = None,
        multimask_output: bool = True,
    ) -> list[Masks]:
        """Answer B prompts on one image at once; the arguments are those of `segment`, stacked.

        Args:
            embedding: from `encode`.
            point_coords: B x N x 2.
            point_labels: B x N; -1 is no point, so that prompts of different lengths can be padded.
            boxes: B x 4.
            mask_inputs: B x S/4 x S/4.
            multimask_output: as in `segment`.

        Raises:
            UserError: as in `segment`.
        """
        low_res_masks, iou_predictions = self.decode(
            embedding, point_coords, point_labels, boxes, mask_inputs, multimask_output
        )
        return [
            Masks(self.enlarge(logits, embedding), iou.cpu().numpy(), logits.cpu().numpy())
            for logits, iou in zip(low_res_masks, iou_predictions, strict=True)
        ]

    @torch.no_grad()
    def decode(
        self,
        embedding: ImageEmbedding,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        mask_inputs: np.ndarray | None = None,
        multimask_output: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """As `segment_batch`, without bringing the masks to the image's size.

        Returns:
            low_res_masks: logits, B x C x S/4 x S/4.
            iou_predictions: B x C.
        """
        self._check_embedding(embedding)
        size = embedding.original_size
        points = _points(point_coords, point_labels, size)
        checked_boxes = _boxes(boxes, size)
        grid = self.model.config.image_size // 4
        masks = _masks(mask_inputs, grid)
        counts = {len(x) for x in (points and points[0], checked_boxes, masks) if x is not None}
        if not counts:
            raise UserError("Nothing was asked for: give points, a box or a mask.")
        if len(counts) > 1:
            raise UserError("Points, boxes and masks of a batch must be equally many.")
        device = self.model.device
        if points is not None:
            coords = self.transform.apply_coords_torch(points[0], size)
            points = (coords.to(device), points[1].to(device))
        if checked_boxes is not None:
            checked_boxes = self.transform.apply_boxes_torch(checked_boxes, size).to(device)
        return self.engine.decode(
            self._state_of(embedding),
            points,
            checked_boxes,
            None if masks is None else masks.to(device),
            multimask_output,
        )

    def enlarge(self, low_res_masks: Tensor, embedding: ImageEmbedding) -> np.ndarray:
        """Bring C x S/4 x S/4 logits to boolean masks, C x H x W, of the embedding's image."""
        size, threshold = embedding.original_size, self.model.mask_threshold
        enlarger = _enlarger(self.model.config.image_size, embedding.input_size, size)
        masks = np.zeros((len(low_res_masks), *size), dtype=bool)
        for mask, logits in zip(masks, low_res_masks.float().cpu().numpy(), strict=True):
            window, left, top = enlarger(logits, threshold)
            height, width = window.shape
            mask[top : top + height, left : left + width] = window > threshold
        return masks

    def _state_of(self, embedding: ImageEmbedding) -> ImageState:
        """What prompts on an image share; kept as long as the embedding is."""
        with self._lock:
            state = self._states.get(embedding)
            if state is None:
                state = self.engine.prepare(embedding.features.unsqueeze(0))
                self._states[embedding] = state
            return state

    def _check_embedding(self, embedding: ImageEmbedding) -> None:
        if embedding.model_id != self.model_id:
            raise UserError(
                f"The embedding was made by another encoder ({embedding.model_id}) than that of "
                f"{self.model.name} ({self.model_id}); encode the image again."
            )


@lru_cache(maxsize=16)
def _enlarger(image_size: int, input_size: tuple[int, int], size: tuple[int, int]) -> Enlarger:
    return Enlarger(image_size, input_size, size)


def _numbers(values: ArrayLike, name: str) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be numbers, as many in every row.") from error
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds a value that is not a finite number.")
    return array


def _points(
    coords: ArrayLike | None, labels: ArrayLike | None, size: Sequence[int]
) -> tuple[Tensor, Tensor] | None:
    if coords is None:
        if labels is not None:
            raise UserError("point_labels need point_coords.")
        return None
    if labels is None:
        raise UserError("point_coords need point_labels: 1 on the object, 0 beside it.")
    xy, kind = _numbers(coords, "point_coords"), _numbers(labels, "point_labels")
    if xy.ndim != 3 or xy.shape[-1] != 2 or xy.shape[1] == 0:
        raise UserError("Points must have two columns, x and y, and at least one row.")
    if kind.shape != xy.shape[:2]:
        raise UserError(f"{xy.shape[1]} points need as many labels, not {kind.shape[-1:]}.")
    if not np.isin(kind, (-1, 0, 1)).all():
        raise UserError("A point's label is 1 (on the object) or 0 (beside it).")
    height, width = size
    inside = (xy >= 0).all(-1) & (xy[..., 0] <= width) & (xy[..., 1] <= height)
    outside = ~inside & (kind >= 0)
    if outside.any():
        x, y = xy[outside][0]
        raise UserError(
            f"The point {x:g},{y:g} lies outside the image, which is {width} x {height} pixels."
        )
    return torch.from_numpy(xy), torch.from_numpy(kind)


def _boxes(boxes: ArrayLike | None, size: Sequence[int]) -> Tensor | None:
    if boxes is None:
        return None
    array = _numbers(boxes, "The box")
    if array.ndim != 2 or array.shape[1] != 4:
        raise UserError("A box has four numbers: x1, y1, x2, y2.")
    height, width = size
    for x1, y1, x2, y2 in array:
        told = f"{x1:g},{y1:g},{x2:g},{y2:g}"
        if x1 >= x2 or y1 >= y2:
            raise UserError(
                f"The box {told} is inside out: give x1,y1,x2,y2 with x1 < x2 and y1 < y2."
            )
        if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            raise UserError(
                f"The box {told} lies outside the image, which is {width} x {height} pixels."
            )
    return torch.from_numpy(array)


def _masks(masks: np.ndarray | None, grid: int) -> Tensor | None:
    if masks is None:
        return None
    array = _numbers(masks, "The mask prompt")
    if array.ndim != 3 or array.shape[1:] != (grid, grid):
        raise UserError(
            f"A mask prompt is {grid} x {grid} logits, as in low_res_masks of an earlier answer."
        )
    return torch.from_numpy(array).unsqueeze(1)
