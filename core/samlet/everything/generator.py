"""Everything mode: all masks of an image, with no prompt but a grid of points.

Source: Segment Anything, arXiv 2304.02643, appendix B; the interface is segment_anything's. Two
shortcuts leave the masks as they are: what the predicted IoU rejects is never enlarged, and the
rest only within the window where its logits matter.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from samlet.engines import Engine
from samlet.errors import UserError
from samlet.everything.candidates import Candidate, box_nms
from samlet.everything.crops import crop_boxes, layer_grids
from samlet.everything.filters import check_limits, without_covered, without_small_regions
from samlet.everything.refine import refine_candidates
from samlet.everything.search import MaskFilter, PointSearch
from samlet.everything.settings import POINT_PROMPTS, default_settings
from samlet.images import to_rgb
from samlet.masks import Box, CroppedMask, area
from samlet.modeling.sam import Sam
from samlet.predict.predictor import Predictor

FIRST_PASS_RELAXATION = 0.75
"""Share of both thresholds that the first pass asks for, where a second pass refines the masks."""

FIRST_PASS_PROGRESS = 0.7
"""Share of the work that is done after the first pass."""


class SamAutomaticMaskGenerator:
    """Generate masks for a whole image, as `segment_anything`'s class of this name does.

    Every point of a grid is a prompt for three masks. They are kept if their predicted IoU is high,
    if they are stable when the threshold moves, if no crop cuts them off, and if no better mask has
    nearly the same box. With `zoom` each is then predicted again from a click in its middle, in a
    region of interest around it, and must pass again.

    `samlet.segment_everything` is what people who label images want: one mask per object, with the
    model's own settings, of images of any size.

    Args:
        model: a model from `samlet.load`, or a `Predictor`, which then decides on the engine.
        points_per_side: the grid is points_per_side x points_per_side; None with `point_grids`.
        points_per_batch: points decoded at once; more may be faster and take more memory.
        pred_iou_thresh: keep masks with a higher predicted IoU, 0 to 1; 0 keeps all. None takes
            what the model's card asks for, or else segment_anything's 0.88.
        stability_score_thresh: keep masks at least as stable, 0 to 1; 0 keeps all. None takes what
            the model's card asks for, or else segment_anything's 0.95.
        stability_score_offset: how far the threshold moves up and down, in logits, to see how
            stable a mask is.
        box_nms_thresh: of masks from one crop whose boxes overlap by a higher IoU, the one with
            the highest predicted IoU stays.
        crop_n_layers: search again in 2 x 2 crops of the image (1), also in 4 x 4 crops (2), ...
        crop_nms_thresh: of masks from several crops whose boxes overlap by a higher IoU, the one
            from the smallest crop stays.
        crop_overlap_ratio: overlap of layer 1's crops, as a fraction of the image's shorter side.
        crop_n_points_downscale_factor: layer n has this to the power of n fewer points a side.
        point_grids: one grid a layer in place of `points_per_side`: N x 2, (x, y) in 0..1.
        min_mask_region_area: fill holes and drop islands of fewer pixels; 0 leaves them.
        max_covered: drop masks of which a larger share, 0 to 1, lies under masks with a higher
            predicted IoU; 1 keeps all, also parts of objects. None takes what the model's card
            asks for, or else 1. Not in segment_anything.
        output_mode: "binary_mask", "uncompressed_rle" or "coco_rle": see `generate`.
        prompts: where the points are. "grid" is segment_anything's; "hierarchical" goes through the
            same grid from coarse to fine, and leaves out what confident masks have covered;
            "regions" clicks on each region of even colour, and ignores the grid.
        engine: "torch", "openvino" or "auto": see `samlet.engines.open_engine`.
        zoom: refine each mask in a second pass, see `samlet.everything.refine`. None does so where
            the predictor zooms, which without one is what the model's card says. Not in
            segment_anything.
        precision: of the image encoder, see `samlet.Predictor`.

    Raises:
        UserError: an argument is out of its range, `points_per_side` and `point_grids` are both
            given or both missing, the engine cannot run here, or not in this precision, or the
            model cannot zoom.

    Examples:
        >>> generator = SamAutomaticMaskGenerator(samlet.load("microscopy"), points_per_side=16)
        >>> records = generator.generate(image)
    """

    def __init__(
        self,
        model: Sam | Predictor,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        prompts: str = "grid",
        engine: str | Engine = "auto",
        max_covered: float | None = None,
        zoom: bool | None = None,
        precision: str = "auto",
    ) -> None:
        self.predictor = _predictor_for(model, engine, zoom, precision)
        self.model = self.predictor.model
        self.zooms = self.predictor.zoom is not None and zoom is not False
        card = default_settings(self.model, prompts)
        if pred_iou_thresh is None:
            pred_iou_thresh = card["pred_iou_thresh"]
        if stability_score_thresh is None:
            stability_score_thresh = card["stability_score_thresh"]
        if max_covered is None:
            max_covered = card["max_covered"]
        for name, value, least in (
            ("points_per_batch", points_per_batch, 1),
            ("stability_score_offset", stability_score_offset, 0),
            ("crop_n_layers", crop_n_layers, 0),
            ("crop_n_points_downscale_factor", crop_n_points_downscale_factor, 1),
        ):
            if value < least:
                raise UserError(f"{name} must be at least {least}, not {value}.")
        if not 0 <= crop_overlap_ratio < 1:
            raise UserError(f"crop_overlap_ratio must be 0 to below 1, not {crop_overlap_ratio}.")
        check_limits(min_mask_region_area, max_covered)
        if output_mode not in OUTPUT_MODES:
            raise UserError(f"output_mode must be {', '.join(OUTPUT_MODES)}, not {output_mode!r}.")
        if prompts not in POINT_PROMPTS:
            raise UserError(f"prompts must be {', '.join(POINT_PROMPTS)}, not {prompts!r}.")
        if prompts == "hierarchical" and points_per_side is None:
            raise UserError("Hierarchical prompts need points_per_side, not grids of your own.")
        self.point_grids = layer_grids(
            points_per_side, point_grids, crop_n_layers, crop_n_points_downscale_factor
        )
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
        self.prompts = prompts
        self.max_covered = max_covered
        self.warns = True

    @torch.no_grad()
    def generate(
        self, image: np.ndarray, *, progress: Callable[[float], None] | None = None
    ) -> list[dict[str, Any]]:
        """Find all masks of an image.

        Args:
            image: RGB uint8, H x W x 3, or any other array that `samlet.images.to_rgb` takes.
            progress: called after each batch of points with the fraction done, above 0 to 1. What
                it raises ends the work and reaches the caller.

        Returns:
            one dictionary a mask, by falling `predicted_iou`, with masks from smaller crops first
            and those whose small regions changed last. A mask without a pixel is left out, whatever
            the thresholds are.

            - segmentation: bool, H x W; or RLE over columns, {"size": [H, W], "counts": ...}, with
              counts a list of run lengths ("uncompressed_rle") or COCO's string ("coco_rle").
            - area: pixels of the mask, int.
            - bbox: x, y, width, height in whole pixels, from the first to the last pixel, so that
              a mask of one pixel has width and height 0.
            - predicted_iou: the model's own estimate of the mask's quality, about 0 to 1.
            - point_coords: [[x, y]], the point that found it.
            - stability_score: IoU of the mask with the threshold moved up and down, 0 to 1.
            - crop_box: x, y, width, height of the part of the image that it was found in.

        Raises:
            UserError: the array is not an image.
        """
        rgb = to_rgb(image)
        size = (rgb.shape[0], rgb.shape[1])
        report = progress or (lambda share: None)
        mask_filter = MaskFilter(
            self.pred_iou_thresh,
            self.stability_score_thresh,
            self.stability_score_offset,
            self.model.mask_threshold,
        )
        search = PointSearch(
            self.predictor.runner,
            mask_filter.relaxed(FIRST_PASS_RELAXATION) if self.zooms else mask_filter,
            (1 + self.pred_iou_thresh) / 2,
            self.prompts,
            self.points_per_batch,
        )
        crops = crop_boxes(size, self.crop_n_layers, self.crop_overlap_ratio)
        kept: list[Candidate] = []
        for number, (crop, layer) in enumerate(crops):
            x0, y0, x1, y1 = crop
            pixels = np.ascontiguousarray(rgb[y0:y1, x0:x1])
            embedding = self.predictor.encode(pixels)
            if number == 0:
                whole = embedding
            found: list[Candidate] = []
            grid = self.point_grids[layer]
            for batch, share in search.search(pixels, embedding, crop, size, grid):
                found += batch
                done = (number + share) / len(crops)
                report(done * (FIRST_PASS_PROGRESS if self.zooms else 1))
            kept += self._nms(found)
        if len(crops) > 1:
            areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (c.crop for c in kept)]
            kept = box_nms(kept, [1 / area for area in areas], self.crop_nms_thresh)
        if self.zooms:
            found = []
            for batch, share in refine_candidates(
                self.predictor, whole, kept, mask_filter, self.points_per_batch
            ):
                found += batch
                report(FIRST_PASS_PROGRESS + (1 - FIRST_PASS_PROGRESS) * share)
            kept = self._nms(found)
        if self.min_mask_region_area > 0:
            nms_thresh = max(self.box_nms_thresh, self.crop_nms_thresh)
            kept = without_small_regions(kept, size, self.min_mask_region_area, nms_thresh)
        if self.max_covered < 1:
            kept = without_covered(kept, self.max_covered)
        if not kept and self.warns:
            self.warn_of_nothing()
        return [self._record(candidate, size) for candidate in kept]

    def warn_of_nothing(self) -> None:
        """Say that thresholds may be too high for a model that does not name its own."""
        if not self.model.card.get("everything"):
            warnings.warn(
                f"No mask has a predicted IoU above {self.pred_iou_thresh:g} and a stability of "
                f"{self.stability_score_thresh:g}: if there are objects, lower pred_iou_thresh and "
                f"stability_score_thresh, for which {self.model.name} has no values of its own.",
                stacklevel=3,
            )

    def _nms(self, found: Sequence[Candidate]) -> list[Candidate]:
        return box_nms(found, [c.predicted_iou for c in found], self.box_nms_thresh)

    def _record(self, candidate: Candidate, size: tuple[int, int]) -> dict[str, Any]:
        cutout = candidate.cutout(size)
        return {
            "segmentation": OUTPUT_MODES[self.output_mode](cutout),
            "area": area(cutout.mask),
            "bbox": _xywh(candidate.box),
            "predicted_iou": candidate.predicted_iou,
            "point_coords": [candidate.point],
            "stability_score": candidate.stability_score,
            "crop_box": _xywh(candidate.crop),
        }


def _predictor_for(
    model: Sam | Predictor, engine: str | Engine, zoom: bool | None, precision: str
) -> Predictor:
    if isinstance(model, Sam):
        return Predictor(model, engine, zoom, precision)
    if engine not in ("auto", model.engine):
        raise UserError("Give the engine to the Predictor, not to the mask generator as well.")
    if precision not in ("auto", model.engine.precision):
        raise UserError("Give the precision to the Predictor, not to the mask generator as well.")
    if zoom and model.zoom is None:
        raise UserError("zoom=True needs a Predictor that zooms: make it with zoom=True.")
    return model


def _xywh(box: Box) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]


OUTPUT_MODES: dict[str, Callable[[CroppedMask], Any]] = {
    "binary_mask": CroppedMask.to_full,
    "uncompressed_rle": CroppedMask.to_uncompressed_rle,
    "coco_rle": CroppedMask.to_rle,
}
"""What `segmentation` can be, and how it is made from a mask."""
