"""`SamPredictor`: the class that users of `segment_anything` and `mobile_sam` know."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from samlet.engines import Engine, ImageState
from samlet.errors import UserError
from samlet.images import to_rgb
from samlet.modeling.sam import Sam
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor
from samlet.predict.prompts import Prompts, single
from samlet.predict.transforms import ResizeLongestSide


class SamPredictor:
    """Set an image, then predict: the methods and return values of `segment_anything`.

    It holds one image, so it serves one thread; `samlet.Predictor` has no such state.

    With a model that zooms (see `samlet.predict.zoom`) `predict` zooms in on an image from
    `set_image`;
    `predict_torch`, logits instead of masks, and restored features are of the whole image.

    Args:
        sam_model: a model from `samlet.load` or `samlet.sam_model_registry`.
        engine: "torch", "openvino" or "auto": see `samlet.engines.open_engine`.
        zoom: see `samlet.Predictor`.
        precision: see `samlet.Predictor`.

    Raises:
        UserError: the engine cannot run here, or not in this precision, or the model cannot zoom.
    """

    def __init__(
        self,
        sam_model: Sam,
        engine: str | Engine = "auto",
        zoom: bool | None = None,
        precision: str = "auto",
    ) -> None:
        self.model = sam_model.eval()
        self._predictor = Predictor(sam_model, engine, zoom, precision)
        self.transform = ResizeLongestSide(sam_model.config.image_size)
        self.reset_image()

    @property
    def engine(self) -> Engine:
        """The engine that runs the model."""
        return self._predictor.engine

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.model.device

    def reset_image(self) -> None:
        """Remove the image."""
        self.is_image_set = False
        self.features: Tensor | None = None
        self._state: ImageState | None = None
        self._image_embedding: tuple[Tensor, ImageEmbedding] | None = None
        self.original_size: tuple[int, int] | None = None
        self.input_size: tuple[int, int] | None = None

    def set_image(self, image: ArrayLike, image_format: str = "RGB") -> None:
        """Compute the image's embedding.

        Args:
            image: uint8, H x W x 3; or any other array that `samlet.images.to_rgb` takes: grey,
                RGBA, 16 bit, float.
            image_format: order of its channels, "RGB" or "BGR"; opacity comes last in either.

        Raises:
            UserError: the array is not an image.
        """
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format must be RGB or BGR, not {image_format}.")
        array = np.asarray(image)
        if image_format != self.model.image_format and array.ndim == 3 and array.shape[2] >= 3:
            array = np.concatenate([array[..., 2::-1], array[..., 3:]], axis=2)
        rgb = to_rgb(array)
        self.reset_image()
        embedding = self._predictor.runner.encode(rgb)
        self.original_size, self.input_size = embedding.original_size, embedding.input_size
        self.features = embedding.features.unsqueeze(0)
        self.is_image_set = True
        if self._predictor.zoom is not None:
            self._image_embedding = self.features, self._predictor.with_image(embedding, rgb)

    @torch.no_grad()
    def set_torch_image(
        self, transformed_image: Tensor, original_image_size: tuple[int, ...]
    ) -> None:
        """As `set_image`, for an image already resized.

        Args:
            transformed_image: RGB in 0..255, 1 x 3 x h x w, longest side at the input size.
            original_image_size: (H, W) before resizing.
        """
        height, width = transformed_image.shape[-2:]
        if transformed_image.ndim != 4 or max(height, width) != self.model.config.image_size:
            raise ValueError(
                "set_torch_image needs a batch whose longest side is "
                f"{self.model.config.image_size}, not shape {tuple(transformed_image.shape)}."
            )
        self.reset_image()
        self.original_size = (original_image_size[0], original_image_size[1])
        self.input_size = (height, width)
        self.features = self.engine.encode(self.model.preprocess(transformed_image))
        self.is_image_set = True

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict masks for one prompt, in pixels of the original image.

        Args:
            point_coords: N x 2, (x, y).
            point_labels: N: 1 on the object, 0 on the background.
            box: x1, y1, x2, y2.
            mask_input: logits of one mask, 1 x S/4 x S/4 or S/4 x S/4, from an earlier call.
            multimask_output: three candidates, or one mask.
            return_logits: masks as logits instead of booleans.

        Returns:
            masks (C x H x W), predicted IoU (C) and low-resolution logits (C x S/4 x S/4).

        Raises:
            RuntimeError: no image is set.
            UserError: the prompt is malformed, or there is none.
        """
        size = self._image_size()
        grid = self.model.config.image_size // 4
        # As in segment_anything, points and boxes may lie outside.
        prompt = single(point_coords, point_labels, box, mask_input)
        prompts = Prompts.checked(*prompt, None, grid)
        # Users restore an embedding by assigning `features`; its image is unknown then.
        if (
            self._image_embedding is not None
            and self._image_embedding[0] is self.features
            and not return_logits
        ):
            (prediction,) = self._predictor.segment_prompts(
                self._image_embedding[1],
                prompts,
                multimask_output,
                self._predictor.zoom is not None,
            )
            return prediction.masks, prediction.iou_predictions, prediction.low_res_masks
        coords, labels, boxes, masks = (
            None if part is None else torch.from_numpy(part).to(self.device)
            for part in prompts.parts()
        )
        outputs = self.predict_torch(
            None if coords is None else self.transform.apply_coords_torch(coords, size),
            labels,
            None if boxes is None else self.transform.apply_boxes_torch(boxes, size),
            None if masks is None else masks.unsqueeze(1),
            multimask_output,
            return_logits=return_logits,
        )
        masks_np, iou_np, low_res_np = (x[0].detach().cpu().numpy() for x in outputs)
        return masks_np, iou_np, low_res_np

    @torch.no_grad()
    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict masks for B prompts (or 0), in pixels of the resized image (see `transform`).

        Args:
            point_coords: B x N x 2.
            point_labels: B x N.
            boxes: B x 4.
            mask_input: B x 1 x S/4 x S/4.
            multimask_output: three candidates, or one mask.
            return_logits: masks as logits instead of booleans.

        Returns:
            masks (B x C x H x W), predicted IoU (B x C), low-resolution logits (B x C x S/4 x S/4).

        Raises:
            RuntimeError: no image is set.
            UserError: a mask prompt of another shape, or points without labels.
        """
        size = self._image_size()
        features = self.get_image_embedding()
        if self.input_size is None:
            raise RuntimeError("Set an image with .set_image(...) first.")
        points = None
        if point_coords is not None:
            if point_labels is None:
                raise UserError(
                    "point_coords need point_labels: 1 on the object, 0 on the background."
                )
            points = (point_coords, point_labels)
        grid = self.model.config.image_size // 4
        if mask_input is not None and mask_input.shape[1:] != (1, grid, grid):
            raise UserError(
                f"mask_input is B x 1 x {grid} x {grid} logits, as in the low_res_masks of an "
                f"earlier prediction, not {' x '.join(map(str, mask_input.shape))}."
            )
        if self._state is None or self._state.features is not features:
            self._state = self.engine.prepare(features)
        low_res_masks, iou_predictions = self.engine.decode(
            self._state, points, boxes, mask_input, multimask_output
        )
        masks = self.model.postprocess_masks(low_res_masks, self.input_size, size)
        if not return_logits:
            masks = masks > self.model.mask_threshold
        return masks, iou_predictions, low_res_masks

    def get_image_embedding(self) -> Tensor:
        """The image's embedding, 1 x 256 x S/16 x S/16.

        Raises:
            RuntimeError: no image is set.
        """
        if self.features is None:
            raise RuntimeError("Set an image with .set_image(...) to have an embedding.")
        return self.features

    def _image_size(self) -> tuple[int, int]:
        if self.original_size is None:
            raise RuntimeError("Set an image with .set_image(...) before predicting masks.")
        return self.original_size
