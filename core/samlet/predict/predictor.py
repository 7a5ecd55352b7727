"""`Predictor`: encode an image once, then segment with any number of prompts."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from samlet.engines import Engine
from samlet.errors import UserError
from samlet.images import resized_shape, to_rgb
from samlet.modeling.sam import Sam
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.prediction import MaskPrediction
from samlet.predict.prompts import Prompts, single
from samlet.predict.roi import logit_grid_of
from samlet.predict.runner import Runner
from samlet.predict.zoom import (
    RoiPrediction,
    Zoom,
    check_zoom,
    smaller_input_model,
)
from samlet.utils.single_flight import SingleFlightCache

Masks = MaskPrediction
"""The name that `MaskPrediction` had before 0.2."""


MAX_SMALLER_RUNNERS = 8
"""Input sizes beside the model's own that a predictor keeps open."""


class Predictor:
    """Encode images and segment with prompts, with no state between calls.

    One predictor serves any number of images and threads: everything about an image is in its
    `ImageEmbedding`. It works in forked processes, with one thread each, and can be pickled or
    copied: the copy has the model's weights of that moment, and opens the same engine again.

    Args:
        model: a model from `samlet.load`.
        engine: "torch", "openvino" or "auto": see `samlet.engines.open_engine`.
        zoom: segment small objects in a region of interest (ROI) that is encoded by itself; see
            `samlet.predict.zoom`. None does what the model's card says ("zoom": true), and without
            such an entry does not.
        precision: of the image encoder, "float32", "bfloat16", or "auto" for bfloat16 where the
            device computes in it: see `samlet.engines.open_engine`.

    Attributes:
        model: the model.
        engine: what runs it.
        zoom: None where the predictor does not zoom.
        model_id: fingerprint of the encoder; embeddings of other encoders are refused.

    Raises:
        UserError: the engine cannot run here, or not in this precision, or the model cannot zoom.

    Examples:
        >>> model = samlet.load("microscopy")
        >>> predictor = samlet.Predictor(model)
        >>> embedding = predictor.encode(image)
        >>> masks = predictor.segment(embedding, point_coords=[[120, 80]], point_labels=[1])
        >>> masks.best.shape == image.shape[:2]
        True
    """

    def __init__(
        self,
        model: Sam,
        engine: str | Engine = "auto",
        zoom: bool | None = None,
        precision: str = "auto",
    ) -> None:
        self.runner = Runner(model, engine, precision)
        self.model, self.engine = model, self.runner.engine
        self.model_id, self.transform = self.runner.model_id, self.runner.transform
        self._smaller_runners = SingleFlightCache[Runner](MAX_SMALLER_RUNNERS, lambda _: 1)
        wanted = bool(model.card.get("zoom")) if zoom is None else zoom
        self.zoom = self._open_zoom() if wanted else None

    def _open_zoom(self) -> Zoom:
        check_zoom(self.model)
        return Zoom(self.runner, self.runner_at(self.model.config.image_size // 2))

    def runner_at(self, size: int) -> Runner:
        """What runs the model for a smaller input, see `smaller_input_model`; opened once.

        Args:
            size: side of the input in pixels.
        """
        if size == self.model.config.image_size:
            return self.runner

        def open_runner() -> Runner:
            smaller = smaller_input_model(self.model, size)
            return Runner(smaller, self.engine.name, self.engine.precision)

        return self._smaller_runners.get(str(size), open_runner)

    def encode(self, image: np.ndarray) -> ImageEmbedding:
        """Compute an image's embedding.

        Args:
            image: RGB uint8, H x W x 3; any other array that `samlet.images.to_rgb` takes (grey,
                RGBA, 16 bit, float) is brought to that first.

        Raises:
            UserError: the array is not an image.
        """
        rgb = to_rgb(image)
        return self.with_image(self.runner.encode(rgb), rgb)

    def with_image(self, embedding: ImageEmbedding, image: np.ndarray) -> ImageEmbedding:
        """Add the image that zooming needs; without zoom the embedding is returned as it is.

        Args:
            embedding: one that was saved, and so has lost its image.
            image: RGB uint8, h x w x 3, the image that was encoded.

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

    with_pixels = with_image
    """The name that `with_image` had before 0.2."""

    def segment(
        self,
        embedding: ImageEmbedding,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        zoom: bool = True,
    ) -> MaskPrediction:
        """Segment with one prompt.

        Args:
            embedding: from `encode`.
            point_coords: N x 2, (x, y) in pixels of the original image.
            point_labels: N: 1 for a point on the object, 0 for one on the background.
            box: x1, y1, x2, y2 in pixels of the original image.
            mask_input: logits, S/4 x S/4 or 1 x S/4 x S/4: a row of an earlier `low_res_masks`.
            multimask_output: three candidates, best for a single point; or one mask, best for
                a box or several points.
            zoom: False skips the fine pass of a predictor that zooms: faster, but coarser. It is
                skipped with a warning where the embedding has no image, see `with_image`.

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
    ) -> list[MaskPrediction]:
        """Segment with B prompts on one image at once; arguments are those of `segment`, stacked.

        Of no prompts (B = 0) comes an empty list.

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
                "The embedding has no image, so masks are coarse: add it with "
                "predictor.with_image(embedding, image), or pass zoom=False.",
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
    ) -> list[MaskPrediction]:
        """As `segment_batch`, for checked prompts and an embedding with its image."""
        if zoom and self.zoom is not None:
            predictions = self.zoom.predict(embedding, prompts, multimask_output)
            return [self._paste_into_image(one, embedding) for one in predictions]
        low_res_masks, iou_predictions = self.runner.predict_logits(
            embedding, prompts, multimask_output
        )
        return [
            MaskPrediction(
                self.runner.upsample(logits, embedding), iou.cpu().numpy(), logits.cpu().numpy()
            )
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
        """As `segment_batch`, but low-resolution masks of the whole image, without zoom.

        Returns:
            low_res_masks: logits, B x C x S/4 x S/4.
            iou_predictions: B x C.
        """
        prompts = self._checked(embedding, point_coords, point_labels, boxes, mask_inputs)
        return self.runner.predict_logits(embedding, prompts, multimask_output)

    def _paste_into_image(
        self, prediction: RoiPrediction, embedding: ImageEmbedding
    ) -> MaskPrediction:
        left, top, right, bottom = prediction.roi
        masks = np.zeros((len(prediction.logits), *embedding.original_size), dtype=bool)
        masks[:, top:bottom, left:right] = prediction.masks()
        logits = prediction.logits_on(logit_grid_of(embedding), self.runner.grid)
        return MaskPrediction(masks, prediction.iou_predictions.cpu().numpy(), logits.numpy())

    def __reduce__(self) -> tuple[Any, ...]:
        # Engines are opened again where the copy is made.
        arguments = self.model, self.engine.name, self.zoom is not None, self.engine.precision
        return type(self), arguments

    def _checked(
        self,
        embedding: ImageEmbedding,
        point_coords: ArrayLike | None,
        point_labels: ArrayLike | None,
        boxes: ArrayLike | None,
        mask_inputs: ArrayLike | None,
    ) -> Prompts:
        self._check_embedding(embedding)
        size, grid = embedding.original_size, self.runner.grid
        return Prompts.checked(point_coords, point_labels, boxes, mask_inputs, size, grid)

    def _check_embedding(self, embedding: ImageEmbedding) -> None:
        if embedding.model_id != self.model_id:
            raise UserError(
                f"The embedding was made by another encoder ({embedding.model_id}) than that of "
                f"{self.model.name} ({self.model_id}); encode the image again."
            )
