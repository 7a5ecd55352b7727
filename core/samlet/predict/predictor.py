"""From an image and prompts to masks: encode once, then pay for each click only the decoder."""

import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from samlet.engines import Engine, ImageState, open_engine
from samlet.errors import UserError
from samlet.images import ResizeLongestSide, resized_shape, to_rgb
from samlet.modeling.fingerprint import encoder_fingerprint
from samlet.modeling.sam import Sam
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.mask_upsampler import MaskUpsampler
from samlet.predict.prompts import Prompts, single
from samlet.predict.roi import frame_of
from samlet.predict.zoom import Look, Zoom, closer
from samlet.utils.single_flight import Shared


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
    `ImageEmbedding`. It works in forked processes, with one thread each, and can be pickled or
    copied: the copy has its model's weights of then, and opens the same engine anew.

    Args:
        model: a model from `samlet.load`.
        engine: "torch", "openvino" or "auto": see `samlet.engines.open_engine`.
        zoom: answer for small objects from a part of the image that is encoded by itself; see
            `samlet.predict.zoom`. None does what the model's card says ("zoom": true), and else
            does not.

    Raises:
        UserError: the engine cannot run here, or the model cannot zoom.

    Example:
        >>> model = samlet.load("nuclei")
        >>> predictor = samlet.Predictor(model)
        >>> embedding = predictor.encode(image)
        >>> masks = predictor.segment(embedding, point_coords=[[120, 80]], point_labels=[1])
        >>> masks.best.shape == image.shape[:2]
        True
    """

    def __init__(self, model: Sam, engine: str | Engine = "auto", zoom: bool | None = None) -> None:
        self.model = model.eval()
        self.engine = open_engine(model, engine)
        wanted = bool(model.card.get("zoom")) if zoom is None else zoom
        self.zoom = Zoom(Predictor(closer(model), self.engine.name, False)) if wanted else None
        self.model_id = encoder_fingerprint(model)
        self._states: WeakKeyDictionary[ImageEmbedding, Shared[ImageState]] = WeakKeyDictionary()
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
        size, shown = (rgb.shape[0], rgb.shape[1]), (resized.shape[0], resized.shape[1])
        embedding = ImageEmbedding(features[0], size, shown, self.model_id)
        return self.with_pixels(embedding, rgb)

    def with_pixels(self, embedding: ImageEmbedding, image: np.ndarray) -> ImageEmbedding:
        """The embedding with its image, if this predictor zooms in on images.

        Args:
            embedding: one that was saved, and so has lost its image.
            image: RGB uint8, h x w x 3; what is shown must be what was encoded.

        Raises:
            UserError: the image is of another shape than what was encoded.
        """
        if self.zoom is None:
            return embedding
        shape = resized_shape(image.shape[0], image.shape[1], self.model.config.image_size)
        # One that was reduced before may differ in its last pixel.
        if np.abs(np.subtract(shape, embedding.input_size)).max() > 1:
            height, width = embedding.original_size
            raise UserError(
                f"An image of {image.shape[1]} x {image.shape[0]} pixels is not the one of "
                f"{width} x {height} that was encoded: encode this one."
            )
        # Copied, as the caller's own array may become another image later.
        return replace(embedding, image=image.copy())

    def segment(
        self,
        embedding: ImageEmbedding,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        zoom: bool = True,
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
            zoom: whether a predictor that zooms in may do so; at once, but coarser, if not. It
                cannot where the embedding has no image (see `with_pixels`), and warns of that.

        Raises:
            UserError: the prompt is malformed, lies outside the image, or the embedding is
                another encoder's.
        """
        points, labels, boxes, masks = single(point_coords, point_labels, box, mask_input)
        return self.segment_batch(embedding, points, labels, boxes, masks, multimask_output, zoom)[
            0
        ]

    @torch.no_grad()
    def segment_batch(
        self,
        embedding: ImageEmbedding,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        mask_inputs: np.ndarray | None = None,
        multimask_output: bool = True,
        zoom: bool = True,
    ) -> list[Masks]:
        """Answer B prompts on one image at once; the arguments are those of `segment`, stacked.

        No prompts (B = 0) are answered by an empty list.

        Args:
            embedding: from `encode`.
            point_coords: B x N x 2.
            point_labels: B x N; -1 is no point, so that prompts of different lengths can be padded.
            boxes: B x 4.
            mask_inputs: B x S/4 x S/4.
            multimask_output: as in `segment`.
            zoom: as in `segment`.

        Raises:
            UserError: as in `segment`.
        """
        prompts = self._checked(embedding, point_coords, point_labels, boxes, mask_inputs)
        if zoom and self.zoom is not None and embedding.image is None:
            warnings.warn(
                "The embedding has lost its image, so masks are coarse: give it back with "
                "predictor.with_pixels(embedding, image), or say zoom=False.",
                stacklevel=2,
            )
            zoom = False
        return self.segment_prompts(embedding, prompts, multimask_output, zoom)

    @torch.no_grad()
    def segment_prompts(
        self,
        embedding: ImageEmbedding,
        prompts: Prompts,
        multimask_output: bool = True,
        zoom: bool = True,
    ) -> list[Masks]:
        """As `segment_batch`, for prompts that are checked, and an embedding with its image."""
        if zoom and self.zoom is not None:
            looks = self.zoom.look(self, embedding, prompts, multimask_output)
            return [self._in_whole(look, embedding) for look in looks]
        low_res_masks, iou_predictions = self.ask(embedding, prompts, multimask_output)
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
        return self.ask(
            embedding,
            self._checked(embedding, point_coords, point_labels, boxes, mask_inputs),
            multimask_output,
        )

    @torch.no_grad()
    def ask(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask_output: bool = True
    ) -> tuple[Tensor, Tensor]:
        """As `decode`, for prompts that are checked."""
        device, size = self.engine.device, embedding.original_size
        coords, labels, boxes, masks = (
            None if part is None else torch.from_numpy(part) for part in prompts.parts()
        )
        points = None
        if coords is not None and labels is not None:
            coords = self.transform.apply_coords_torch(coords, size)
            points = (coords.to(device), labels.to(device))
        if boxes is not None:
            boxes = self.transform.apply_boxes_torch(boxes, size).to(device)
        return self.engine.decode(
            self.state_of(embedding),
            points,
            boxes,
            None if masks is None else masks.unsqueeze(1).to(device),
            multimask_output,
        )

    def enlarge(self, low_res_masks: Tensor, embedding: ImageEmbedding) -> np.ndarray:
        """Bring C x S/4 x S/4 logits to boolean masks, C x H x W, of the embedding's image."""
        size, threshold = embedding.original_size, self.model.mask_threshold
        enlarger = self.enlarger(embedding)
        masks = np.zeros((len(low_res_masks), *size), dtype=bool)
        for mask, logits in zip(masks, low_res_masks.float().cpu().numpy(), strict=True):
            window, left, top = enlarger(logits, threshold)
            height, width = window.shape
            mask[top : top + height, left : left + width] = window > threshold
        return masks

    def enlarger(self, embedding: ImageEmbedding) -> MaskUpsampler:
        """What brings S/4 x S/4 logits to the size of the embedding's image."""
        return _enlarger(
            self.model.config.image_size, embedding.input_size, embedding.original_size
        )

    def _in_whole(self, look: Look, embedding: ImageEmbedding) -> Masks:
        """What was seen in a part of an image, as masks of all of it."""
        left, top, right, bottom = look.view
        masks = np.zeros((len(look.logits), *embedding.original_size), dtype=bool)
        masks[:, top:bottom, left:right] = look.masks()
        grid = self.model.config.image_size // 4
        logits = look.logits_in(frame_of(embedding), grid)
        return Masks(masks, look.iou_predictions.cpu().numpy(), logits.numpy())

    def state_of(self, embedding: ImageEmbedding) -> ImageState:
        """What prompts on an image share; kept as long as the embedding is."""
        # Those who click on other images do not wait while this one's is made.
        with self._lock:
            state = self._states.setdefault(embedding, Shared(1, lambda _: 1))
        return state.get("", lambda: self.engine.prepare(embedding.features.unsqueeze(0)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Engines are opened again where the copy is made.
        return type(self), (self.model, self.engine.name, self.zoom is not None)

    def _checked(
        self,
        embedding: ImageEmbedding,
        point_coords: ArrayLike | None,
        point_labels: ArrayLike | None,
        boxes: ArrayLike | None,
        mask_inputs: ArrayLike | None,
    ) -> Prompts:
        self._check_embedding(embedding)
        size, grid = embedding.original_size, self.model.config.image_size // 4
        return Prompts.checked(point_coords, point_labels, boxes, mask_inputs, size, grid)

    def _check_embedding(self, embedding: ImageEmbedding) -> None:
        if embedding.model_id != self.model_id:
            raise UserError(
                f"The embedding was made by another encoder ({embedding.model_id}) than that of "
                f"{self.model.name} ({self.model_id}); encode the image again."
            )


@lru_cache(maxsize=16)
def _enlarger(image_size: int, input_size: tuple[int, int], size: tuple[int, int]) -> MaskUpsampler:
    return MaskUpsampler(image_size, input_size, size)
