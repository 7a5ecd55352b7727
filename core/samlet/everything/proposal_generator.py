"""Everything mode with a model's proposal head: it finds the objects, and prompts outline them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from samlet.errors import UserError
from samlet.everything.candidates import Candidate, box_nms
from samlet.everything.filters import check_limits, without_covered, without_small_regions
from samlet.everything.proposals import Proposals
from samlet.everything.search import MaskFilter
from samlet.everything.tile_merging import TileMerger, TilePart
from samlet.everything.tiling import check_tiles, cut_tolerance
from samlet.everything.working_scale import plan_search, proposals_of
from samlet.images import to_rgb
from samlet.masks import Box
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor
from samlet.predict.runner import Runner
from samlet.predict.window_decoder import DecodedMask, decode_windows
from samlet.predict.zoom import has_free_size

WINDOW_SIZE = 256
"""Side of the window in which an object is decoded, in pixels of the model's input."""

WINDOW_RATIO = 1.7
"""The window's side is this multiple of an object's longer side, or the whole ROI is decoded."""

MIN_COMPLETENESS = 0.3
"""Proposals with less of it are left out, see `Proposals`."""

STABILITY_SCORE_OFFSET = 1.0
BOX_NMS_THRESH = 0.7

FIRST_LOOK_PROGRESS = 0.1
"""Share of the work that is done when the scale is chosen."""


class ProposalMaskGenerator:
    """Generate masks for an image of any size from a model's own proposals.

    The proposal head finds objects and how large they are; from that the working scale is chosen,
    and where the image at that scale is larger than the model's input, it is searched in
    overlapping ROIs. In each, the head finds objects once more, and each is outlined from a point
    and a box. Of large images nothing but the image itself is as large as the image.

    Args:
        predictor: of a model with a proposal head.
        pred_iou_thresh: keep masks with a higher predicted IoU, 0 to 1.
        stability_score_thresh: keep masks at least as stable when the threshold moves, 0 to 1.
        max_covered: drop masks of which a larger share, 0 to 1, lies under masks with a higher
            predicted IoU.
        min_mask_region_area: fill holes and drop islands of fewer pixels; 0 leaves them.
        tile: side of the ROIs in pixels of the image; None chooses it by the objects' size.
        overlap: pixels that neighbouring ROIs share; None chooses it, too.

    Raises:
        UserError: the model has no proposal head, or an argument is out of its range.
    """

    def __init__(
        self,
        predictor: Predictor,
        pred_iou_thresh: float,
        stability_score_thresh: float,
        max_covered: float = 1.0,
        min_mask_region_area: int = 0,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        if predictor.model.proposal_head is None:
            raise UserError(
                f"{predictor.model.name} has no proposal head: choose other prompts, or finetune "
                "it with samlet finetune, which trains one."
            )
        check_limits(min_mask_region_area, max_covered)
        if tile is not None:
            check_tiles(tile, tile // 4 if overlap is None else overlap)
        self.predictor = predictor
        self.mask_filter = MaskFilter(
            pred_iou_thresh,
            stability_score_thresh,
            STABILITY_SCORE_OFFSET,
            predictor.model.mask_threshold,
        )
        self.max_covered = max_covered
        self.min_mask_region_area = min_mask_region_area
        self.tile, self.overlap = tile, overlap

    @torch.no_grad()
    def generate(
        self, image: np.ndarray, *, progress: Callable[[float], None] | None = None
    ) -> list[dict[str, Any]]:
        """Find all masks of an image.

        Args:
            image: RGB uint8, H x W x 3, not copied (a `numpy.memmap` will do); or any other array
                that `samlet.images.to_rgb` takes.
            progress: called with the fraction done, above 0 to 1. What it raises ends the work and
                reaches the caller.

        Returns:
            records as `TiledMaskGenerator.generate` makes them; tiles are ROIs.

        Raises:
            UserError: the array is not an image.
        """
        rgb = to_rgb(image)
        size = (rgb.shape[0], rgb.shape[1])
        report = progress or (lambda share: None)
        plan = plan_search(self.predictor, rgb, self.tile, self.overlap)
        report(FIRST_LOOK_PROGRESS)
        x0, y0, x1, y1 = plan.rois[0]
        scale = max(x1 - x0, y1 - y0) / plan.runner.model.config.image_size
        merger = TileMerger(plan.rois, size, cut_tolerance(scale, plan.overlap))
        for number, roi in enumerate(plan.rois, start=1):
            x0, y0, x1, y1 = roi
            embedding = plan.embeddings.get(roi)
            if embedding is None:
                embedding = plan.runner.encode(np.ascontiguousarray(rgb[y0:y1, x0:x1]))
            found = self._search(plan.runner, embedding, roi, size)
            merger.add(map(TilePart.of_candidate, found))
            report(FIRST_LOOK_PROGRESS + (1 - FIRST_LOOK_PROGRESS) * number / len(plan.rois))
        return merger.records()

    def _search(
        self, runner: Runner, embedding: ImageEmbedding, roi: Box, size: tuple[int, int]
    ) -> list[Candidate]:
        """The candidates of an ROI."""
        proposals = proposals_of(runner, embedding)
        proposals = proposals[proposals.completeness >= MIN_COMPLETENESS]
        upsampler = runner.upsampler(embedding)
        (height, width), (h, w) = embedding.original_size, embedding.input_size
        to_image = np.array([width / w, height / h])
        candidates = []
        for decoded in self._decode(runner, embedding, proposals):
            point = proposals.points[decoded.prompt] * to_image + roi[:2]
            candidate = self.mask_filter.candidate(
                decoded.logits, upsampler, decoded.iou, point, roi
            )
            if candidate is not None:
                candidates.append(candidate)
        kept = box_nms(candidates, [c.predicted_iou for c in candidates], BOX_NMS_THRESH)
        if self.min_mask_region_area > 0:
            kept = without_small_regions(kept, size, self.min_mask_region_area, BOX_NMS_THRESH)
        return without_covered(kept, self.max_covered) if self.max_covered < 1 else kept

    def _decode(
        self, runner: Runner, embedding: ImageEmbedding, proposals: Proposals
    ) -> Iterator[DecodedMask]:
        """Small objects in windows, and the others, and those that do not fit, in the whole ROI."""
        input_size = runner.model.config.image_size
        is_large = np.ones(len(proposals), dtype=bool)
        if input_size > WINDOW_SIZE and has_free_size(runner.model):
            sides = (proposals.boxes[:, 2:] - proposals.boxes[:, :2]).max(axis=1, initial=0)
            is_large = sides * WINDOW_RATIO > WINDOW_SIZE
            window = self.predictor.runner_at(WINDOW_SIZE)
            small = np.flatnonzero(~is_large)
            for decoded in self._decode_in(window, embedding, proposals, small):
                if decoded.is_cut:
                    is_large[decoded.prompt] = True
                else:
                    yield decoded
        yield from self._decode_in(runner, embedding, proposals, np.flatnonzero(is_large))

    def _decode_in(
        self, runner: Runner, embedding: ImageEmbedding, proposals: Proposals, numbers: np.ndarray
    ) -> Iterator[DecodedMask]:
        chosen = proposals[numbers]
        for decoded in decode_windows(
            runner, embedding, chosen.points, chosen.boxes, self.mask_filter.min_iou
        ):
            yield replace(decoded, prompt=int(numbers[decoded.prompt]))
