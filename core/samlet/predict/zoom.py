"""Zooming in: a small object is segmented in a region of interest (ROI) that is encoded by itself.

A model sees an image with its longest side at the input size, and predicts masks at a quarter of
that. An object that is a few pixels wide there cannot be outlined. So prompts are answered in two
passes: a coarse pass on the whole image, which tells how large the object is (a box tells it by
itself), then a fine pass on a square ROI around the object. The pass with the highest predicted IoU
is the answer.

Source: the zoom-in of interactive segmentation, f-BRS (arXiv 2001.10331), section 4.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from math import ceil, floor, log
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from samlet.errors import UserError
from samlet.masks import Box
from samlet.modeling.initialisation import WithoutRandomWeights
from samlet.modeling.sam import Sam
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.prompts import Prompts
from samlet.predict.roi import (
    ROI_SCALE_STEP,
    LogitGrid,
    choose_roi,
    full_image_box,
    logit_grid_of,
    object_box,
    resample_logits,
)
from samlet.predict.runner import Runner
from samlet.utils.single_flight import SingleFlightCache

MAX_CACHED_ROIS = 4
"""ROIs per image whose embeddings are kept while it is being worked on."""

MIN_SCALE_STEPS = 1.8
"""An ROI is replaced only by one that is two scale steps (less rounding) larger or smaller."""

MAX_PASSES = 4
"""Passes per prompt at most; more than two where the object is not as large as it seemed."""


def check_zoom(model: Sam) -> None:
    """Check that a model can be used at half its input size.

    Raises:
        UserError: its encoder is tied to its own size, or half of it does not fit.
    """
    if not has_half_resolution(model):
        raise UserError(
            f"{model.name} cannot zoom, as its encoder cannot be used at "
            f"{model.config.image_size // 2} px, half its input size: leave zoom out."
        )


def has_half_resolution(model: Sam) -> bool:
    """Whether a model's encoder can be used at half its input size."""
    return has_free_size(model) and model.config.image_size % 64 == 0


def has_free_size(model: Sam) -> bool:
    """Whether a model's encoder takes images of other sizes than its own."""
    return model.config.sam_vit is None


def smaller_input_model(model: Sam, size: int) -> Sam:
    """The same weights for a smaller input, which lies in the middle of the model's own.

    Positions are those of the middle: the Fourier features that encode them are as far apart as
    they were.

    Args:
        model: one whose encoder takes images of any size, see `has_free_size`.
        size: of the new input in pixels, a multiple of 32.

    Returns:
        the model without its instance decoder, which is used at the model's own input size only.
    """
    with WithoutRandomWeights():
        smaller = Sam(replace(model.config, image_size=size, instance_decoder=None))
    smaller.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.startswith("instance_decoder.")}
    )
    positions = smaller.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    positions *= size / model.config.image_size
    smaller.name, smaller.card = model.name, model.card
    return smaller.to(model.device).eval()


@dataclass(frozen=True)
class RoiPrediction:
    """The prediction for one prompt, and the ROI that it was made in.

    Attributes:
        roi: box of the ROI in the image.
        runner: what predicted it.
        embedding: of the ROI.
        logits: C x h x w, low-resolution masks of the ROI.
        iou_predictions: C.
    """

    roi: Box
    runner: Runner
    embedding: ImageEmbedding
    logits: Tensor
    iou_predictions: Tensor

    @property
    def best_iou(self) -> float:
        """The highest predicted IoU."""
        return float(self.iou_predictions.max())

    @property
    def logit_grid(self) -> LogitGrid:
        """Where the logits lie in the image."""
        return logit_grid_of(self.embedding, self.roi[:2])

    def masks(self) -> np.ndarray:
        """Masks of the ROI: bool, C x its height x its width."""
        return self.runner.upsample(self.logits, self.embedding)

    def logits_on(self, grid: LogitGrid, side: int) -> Tensor:
        """The logits resampled on another grid, C x side x side."""
        return resample_logits(self.logits.float().cpu(), self.logit_grid, grid, side)


class Zoom:
    """Predicts from ROIs of images; safe to use from several threads.

    Args:
        full: runs the model at its own input size, on whole images.
        half: runs the same model for half that size, on ROIs; see `smaller_input_model`.
    """

    def __init__(self, full: Runner, half: Runner) -> None:
        self._full, self._half = full, half
        self._rois = WeakKeyDictionary[ImageEmbedding, SingleFlightCache[ImageEmbedding]]()
        self._lock = Lock()

    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask_output: bool
    ) -> list[RoiPrediction]:
        """Answer B prompts, each in an ROI that suits its object.

        Args:
            embedding: of the whole image, with the image.
            prompts: in pixels of that image.
            multimask_output: three candidates, or one mask.
        """
        pending: dict[int, Box | None] = {
            row: self._first_roi(prompts, row, embedding) for row in range(len(prompts))
        }
        predictions: dict[int, RoiPrediction] = {}
        for number in range(1, MAX_PASSES + 1):
            rows_by_roi: dict[Box | None, list[int]] = defaultdict(list)
            for row, roi in pending.items():
                rows_by_roi[roi].append(row)
            pending = {}
            for roi, rows in rows_by_roi.items():
                batch = self.predict_in(roi, embedding, prompts.rows(rows), multimask_output)
                for row, prediction in zip(rows, batch, strict=True):
                    # Some objects, such as large cells, are segmented better in the whole image.
                    before = predictions.get(row)
                    if before is None or prediction.best_iou >= before.best_iou:
                        predictions[row] = prediction
                    # A box has told already how large the object is.
                    if prompts.boxes is None and number < MAX_PASSES:
                        better = self._better_roi(prediction, roi, *prompts.clicks(row), embedding)
                        if better != roi:
                            pending[row] = better
            if not pending:
                break
        return [predictions[row] for row in range(len(prompts))]

    def predict_in(
        self,
        roi: Box | None,
        embedding: ImageEmbedding,
        prompts: Prompts,
        multimask_output: bool = True,
    ) -> list[RoiPrediction]:
        """Answer B prompts in one ROI; None is the whole image at full input size."""
        runner, part = self._full, embedding
        if roi is None:
            roi = full_image_box(embedding.original_size)
        else:
            runner, part = self._half, self._encoded(embedding, roi)
            grids = logit_grid_of(embedding), logit_grid_of(part, roi[:2])
            prompts = _prompts_in_roi(prompts, roi, *grids, runner.grid)
        outputs = runner.predict_logits(part, prompts, multimask_output)
        return [RoiPrediction(roi, runner, part, *output) for output in zip(*outputs, strict=True)]

    def _encoded(self, embedding: ImageEmbedding, roi: Box) -> ImageEmbedding:
        with self._lock:
            rois = self._rois.setdefault(embedding, SingleFlightCache(MAX_CACHED_ROIS, lambda _: 1))
        return rois.get(str(roi), lambda: self._encode(embedding, roi))

    def _encode(self, embedding: ImageEmbedding, roi: Box) -> ImageEmbedding:
        assert embedding.image is not None
        x0, y0, x1, y1 = roi
        # A huge image may be kept with fewer pixels than its masks have.
        y_scale, x_scale = np.divide(embedding.image.shape[:2], embedding.original_size)
        rows = slice(floor(y0 * y_scale), max(ceil(y1 * y_scale), floor(y0 * y_scale) + 1))
        columns = slice(floor(x0 * x_scale), max(ceil(x1 * x_scale), floor(x0 * x_scale) + 1))
        part = self._half.encode(np.ascontiguousarray(embedding.image[rows, columns]))
        return replace(part, original_size=(y1 - y0, x1 - x0))

    def _first_roi(self, prompts: Prompts, row: int, embedding: ImageEmbedding) -> Box | None:
        model = self._full.model
        points, labels = prompts.clicks(row)
        box = None
        if prompts.boxes is not None:
            box = tuple(prompts.boxes[row].tolist())
        elif prompts.mask_inputs is not None:
            mask = prompts.mask_inputs[row] > model.mask_threshold
            box = object_box(mask, logit_grid_of(embedding), points[labels == 1])
        if box is None:
            return None
        return choose_roi(box, points, embedding.original_size, model.config.image_size)

    def _better_roi(
        self,
        prediction: RoiPrediction,
        roi: Box | None,
        points: np.ndarray,
        labels: np.ndarray,
        embedding: ImageEmbedding,
    ) -> Box | None:
        """An ROI of a scale that suits the object much better than this one, or this one."""
        logits = prediction.logits[int(prediction.iou_predictions.argmax())]
        mask = (logits > prediction.runner.model.mask_threshold).cpu().numpy()
        box = object_box(mask, prediction.logit_grid, points[labels == 1])
        if box is None:
            return roi
        size = embedding.original_size
        better = choose_roi(box, points, size, self._full.model.config.image_size)
        if roi is None:
            return better
        sides = [max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (better or full_image_box(size), roi)]
        scale_steps = abs(log(sides[0] / sides[1], ROI_SCALE_STEP))
        return better if scale_steps > MIN_SCALE_STEPS else roi


def _prompts_in_roi(
    prompts: Prompts, roi: Box, image_grid: LogitGrid, roi_grid: LogitGrid, side: int
) -> Prompts:
    """The same prompts in pixels of an ROI."""
    corner = np.array(roi[:2], np.float32)
    coords, boxes, masks = prompts.point_coords, prompts.boxes, prompts.mask_inputs
    if masks is not None:
        masks = resample_logits(torch.from_numpy(masks), image_grid, roi_grid, side).numpy()
    return Prompts(
        None if coords is None else (coords - corner).clip(0, np.subtract(roi[2:], roi[:2])),
        prompts.point_labels,
        None if boxes is None else boxes - np.tile(corner, 2),
        masks,
    )
