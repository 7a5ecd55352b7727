"""Everything mode: all masks of an image, with no prompt but a grid of points.

Source: Segment Anything, arXiv 2304.02643, appendix B; the interface is segment_anything's. Two
shortcuts leave the masks as they are: what the predicted IoU rejects is never enlarged, and the
rest only within the window where its logits matter.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import torch

from samlet.engines import Engine
from samlet.errors import UserError
from samlet.everything.candidates import Candidate, cut, suppress
from samlet.everything.crops import crop_boxes, is_cut_off, layer_grids
from samlet.everything.point_prompts import coarse_to_fine, region_points
from samlet.everything.refine import look_closer
from samlet.images import to_rgb
from samlet.masks import Box, Cutout, area, from_rle, remove_small_regions
from samlet.modeling.sam import Sam
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.mask_upsampler import MaskUpsampler
from samlet.predict.predictor import Predictor

HOPEFUL = 0.75
"""Masks that reach this share of both thresholds are looked at again, where that is done."""

SEARCHED = 0.7
"""Share of the work that is done by then."""


class SamAutomaticMaskGenerator:
    """Generate masks for a whole image, as `segment_anything`'s class of this name does.

    Every point of a grid is a prompt for three masks. They are kept if the model trusts them, if
    they are stable when the threshold moves, if no crop cuts them off, and if no better mask has
    nearly the same box. With `zoom` each is then clicked on again in its middle, in a part of the
    image that shows it large, and must pass there.

    Args:
        model: a model from `samlet.load`.
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
        zoom: look again at each mask, see `samlet.everything.refine`. None does so where the
            model's card says that it zooms. Not in segment_anything.

    Raises:
        UserError: an argument is out of its range, `points_per_side` and `point_grids` are both
            given or both missing, the engine cannot run here, or the model cannot zoom.

    Example:
        >>> generator = SamAutomaticMaskGenerator(samlet.load("nuclei"), points_per_side=16)
        >>> records = generator.generate(image)
    """

    def __init__(
        self,
        model: Sam,
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
    ) -> None:
        own = _thresholds(model)
        if pred_iou_thresh is None:
            pred_iou_thresh = own["pred_iou_thresh"]
        if stability_score_thresh is None:
            stability_score_thresh = own["stability_score_thresh"]
        if max_covered is None:
            max_covered = own["max_covered"]
        for name, value, least in (
            ("points_per_batch", points_per_batch, 1),
            ("stability_score_offset", stability_score_offset, 0),
            ("crop_n_layers", crop_n_layers, 0),
            ("crop_n_points_downscale_factor", crop_n_points_downscale_factor, 1),
            ("min_mask_region_area", min_mask_region_area, 0),
        ):
            if value < least:
                raise UserError(f"{name} must be at least {least}, not {value}.")
        if not 0 <= crop_overlap_ratio < 1:
            raise UserError(f"crop_overlap_ratio must be 0 to below 1, not {crop_overlap_ratio}.")
        if not 0 <= max_covered <= 1:
            raise UserError(f"max_covered must be 0 to 1, not {max_covered}.")
        if output_mode not in OUTPUT_MODES:
            raise UserError(f"output_mode must be {', '.join(OUTPUT_MODES)}, not {output_mode!r}.")
        if prompts not in PROMPTS:
            raise UserError(f"prompts must be {', '.join(PROMPTS)}, not {prompts!r}.")
        if prompts == "hierarchical" and points_per_side is None:
            raise UserError("Hierarchical prompts need points_per_side, not grids of your own.")
        self.model = model
        self.predictor = Predictor(model, engine, zoom)
        self.point_grids = layer_grids(
            points_per_side, point_grids, crop_n_layers, crop_n_points_downscale_factor
        )
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self._least_iou = pred_iou_thresh if pred_iou_thresh > 0 else -inf
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
        zooms, tell = self.predictor.zoom is not None, progress or (lambda share: None)
        crops = crop_boxes(size, self.crop_n_layers, self.crop_overlap_ratio)
        kept: list[Candidate] = []
        for number, (crop, layer) in enumerate(crops):
            x0, y0, x1, y1 = crop
            pixels = np.ascontiguousarray(rgb[y0:y1, x0:x1])
            embedding = self.predictor.encode(pixels)
            if number == 0:
                whole = embedding
            found: list[Candidate] = []
            for batch, share in self._search(pixels, embedding, crop, size, layer):
                found += batch
                tell((number + share) / len(crops) * (SEARCHED if zooms else 1))
            kept += self._best(found)
        if len(crops) > 1:
            areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (c.crop for c in kept)]
            kept = suppress(kept, [1 / area for area in areas], self.crop_nms_thresh)
        if zooms:
            found = []
            seen = look_closer(self.predictor, whole, kept, self._least_iou, self._examine)
            for batch, share in seen:
                found += batch
                tell(SEARCHED + (1 - SEARCHED) * share)
            kept = self._best(found)
        if self.min_mask_region_area > 0:
            kept = self._without_small_regions(kept, size)
        if self.max_covered < 1:
            kept = self._without_covered(kept, size)
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

    def _best(self, found: Sequence[Candidate]) -> list[Candidate]:
        return suppress(found, [c.predicted_iou for c in found], self.box_nms_thresh)

    def _search(
        self,
        pixels: np.ndarray,
        embedding: ImageEmbedding,
        crop: Box,
        whole: tuple[int, int],
        layer: int,
    ) -> Iterator[tuple[list[Candidate], float]]:
        """Yield the good masks of each batch of points in one crop, and the share done."""
        size, enlarger = embedding.original_size, self.predictor.enlarger(embedding)
        hope = 1 if self.predictor.zoom is None else HOPEFUL
        rounds = self._rounds(pixels, self.point_grids[layer])
        covered, done, total = np.zeros(size, dtype=bool), 0, sum(map(len, rounds))
        for planned in rounds:
            points = planned * (size[1], size[0])
            columns, rows = points.astype(int).T
            points = points[~covered[rows.clip(0, size[0] - 1), columns.clip(0, size[1] - 1)]]
            done += len(planned) - len(points)
            if not len(points):
                yield [], done / total
            for start in range(0, len(points), self.points_per_batch):
                batch = points[start : start + self.points_per_batch]
                found = [
                    candidate
                    for logits, iou, prompt in self._trusted(embedding, batch, hope)
                    if (
                        candidate := self._examine(
                            logits, enlarger, iou, batch[prompt] + crop[:2], crop, hope
                        )
                    )
                    and not is_cut_off(candidate.box, crop, whole)
                ]
                if len(rounds) > 1:
                    self._cover(covered, found, crop)
                done += len(batch)
                yield found, done / total

    def _rounds(self, pixels: np.ndarray, grid: np.ndarray) -> list[np.ndarray]:
        """The points of a crop, (x, y) in 0..1; later ones may prove needless."""
        if self.prompts == "regions":
            return [region_points(pixels)]
        if self.prompts == "hierarchical":
            return coarse_to_fine(round(len(grid) ** 0.5))
        return [grid]

    def _cover(self, covered: np.ndarray, found: list[Candidate], crop: Box) -> None:
        """Mark in a crop, bool H x W, what needs no more clicks: masks halfway to full trust."""
        for candidate in found:
            if candidate.predicted_iou > (1 + self.pred_iou_thresh) / 2:
                x0, y0, x1, y1 = candidate.box
                inside = (
                    slice(y0 - crop[1], y1 + 1 - crop[1]),
                    slice(x0 - crop[0], x1 + 1 - crop[0]),
                )
                covered[inside] |= from_rle(candidate.rle)

    def _trusted(
        self, embedding: ImageEmbedding, points: np.ndarray, hope: float
    ) -> Iterator[tuple[np.ndarray, float, int]]:
        """Masks with a high predicted IoU: their logits, that IoU, and which point gave them.

        The IoU is known before the mask is made, so most masks never are.
        """
        engine, transform = self.predictor.engine, self.predictor.transform
        coords = torch.from_numpy(transform.apply_coords(points, embedding.original_size)).float()
        coords = coords.unsqueeze(1).to(self.model.device)
        labels = torch.ones(len(points), 1, dtype=torch.int, device=self.model.device)
        first = 0
        for answer in engine.answer(self.predictor.state_of(embedding), (coords, labels)):
            ious = answer.iou_predictions[:, 1:]
            trusted = ious > hope * self._least_iou
            hopeful = trusted.any(dim=1)
            if hopeful.any():
                logits = engine.upscale(answer.tokens[hopeful], answer.kernels[hopeful, 1:])
                masks = logits[trusted[hopeful]].float().cpu().numpy()
                prompts = (trusted.nonzero()[:, 0] + first).tolist()
                yield from zip(masks, ious[trusted].tolist(), prompts, strict=True)
            first += len(ious)

    def _examine(
        self,
        logits: np.ndarray,
        enlarger: MaskUpsampler,
        iou: float,
        point: np.ndarray,
        crop: Box,
        hope: float = 1,
    ) -> Candidate | None:
        """Enlarge a mask; None if it is empty or not stable."""
        threshold, offset = self.model.mask_threshold, self.stability_score_offset
        window, left, top = enlarger(logits, threshold - offset, order="F")
        mask = window > threshold
        if not mask.any():
            return None
        low, high = (np.count_nonzero(window > threshold + sign * offset) for sign in (-1, 1))
        # In float32, as the reference: a mask exactly at the threshold must not fall below it.
        stability = np.float32(high) / np.float32(low)
        if stability < np.float32(hope * self.stability_score_thresh):
            return None
        box, rle = cut(mask, crop[0] + left, crop[1] + top)
        return Candidate(box, rle, iou, float(stability), point.tolist(), crop)

    def _without_small_regions(
        self, candidates: list[Candidate], size: tuple[int, int]
    ) -> list[Candidate]:
        """Fill small holes, drop small islands, and then suppress new duplicates."""
        cleaned, untouched = [], []
        for candidate in candidates:
            mask, filled = remove_small_regions(
                candidate.cutout(size).whole(), self.min_mask_region_area, "holes"
            )
            mask, dropped = remove_small_regions(mask, self.min_mask_region_area, "islands")
            if filled or dropped:
                box, rle = cut(mask)
                candidate = replace(candidate, box=box, rle=rle)
            cleaned.append(candidate)
            untouched.append(not (filled or dropped))
        return suppress(
            cleaned,
            untouched,
            max(self.box_nms_thresh, self.crop_nms_thresh),
        )

    def _without_covered(
        self, candidates: Sequence[Candidate], size: tuple[int, int]
    ) -> list[Candidate]:
        """Leave out what lies mostly under better masks; of the same quality the first stays."""
        covered, bare = np.zeros(size, dtype=bool), []
        for i in sorted(range(len(candidates)), key=lambda i: -candidates[i].predicted_iou):
            x0, y0, x1, y1 = candidates[i].box
            mask, below = from_rle(candidates[i].rle), covered[y0 : y1 + 1, x0 : x1 + 1]
            if below[mask].mean() <= self.max_covered:
                below |= mask
                bare.append(i)
        return [candidates[i] for i in sorted(bare)]

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


def _xywh(box: Box) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]


OUTPUT_MODES: dict[str, Callable[[Cutout], Any]] = {
    "binary_mask": Cutout.whole,
    "uncompressed_rle": Cutout.runs,
    "coco_rle": Cutout.rle,
}
"""What `segmentation` can be, and how it is made from a mask."""


PROMPTS = ("grid", "hierarchical", "regions")
"""Where everything mode may click; see `samlet.everything.point_prompts`."""


THRESHOLDS = {"pred_iou_thresh": 0.88, "stability_score_thresh": 0.95, "max_covered": 1.0}
"""Those of segment_anything, for models whose cards do not ask for others."""


def default_settings(model: Sam) -> dict[str, Any]:
    """Settings that suit a model: those of its card, or else segment_anything's thresholds.

    Prompts are by region: on BBBC038 that finds what a grid of 32 x 32 finds in a third of the
    time, with fewer masks that are no object (`benchmarks/everything.py`).
    """
    standard = {
        "zoom": bool(model.card.get("zoom")),
        "prompts": "regions",
        "points_per_side": 32,
    }
    return standard | THRESHOLDS | model.card.get("everything", {})


def _thresholds(model: Sam) -> dict[str, float]:
    card = model.card.get("everything", {})
    return {name: card.get(name, value) for name, value in THRESHOLDS.items()}
