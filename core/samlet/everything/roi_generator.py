"""Everything mode in regions of interest (ROIs), with any way to find the objects of an ROI."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from samlet.everything.candidates import Candidate
from samlet.everything.filters import check_limits, without_covered, without_small_regions
from samlet.everything.tile_merging import TileMerger, TilePart
from samlet.everything.tiling import check_tiles, cut_tolerance, overlap_of
from samlet.everything.working_scale import SearchPlan
from samlet.images import to_rgb
from samlet.masks import Box
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor
from samlet.predict.runner import Runner

BOX_NMS_THRESH = 0.7
"""Box IoU of duplicates within an ROI."""

PLAN_PROGRESS = 0.1
"""Share of the work that is done when the ROIs are chosen."""


class RoiSearch(Protocol):
    """A way to find the objects of an image, ROI by ROI."""

    def plan(
        self, predictor: Predictor, rgb: np.ndarray, tile: int | None, overlap: int | None
    ) -> SearchPlan:
        """Choose where to search.

        Args:
            predictor: what predicts.
            rgb: uint8, H x W x 3.
            tile: side of the ROIs in pixels of the image; None chooses it.
            overlap: pixels that neighbouring ROIs share; None chooses it, too.
        """

    def find(self, runner: Runner, embedding: ImageEmbedding, roi: Box) -> list[Candidate]:
        """Find the objects of an ROI, each once.

        Args:
            runner: of the plan.
            embedding: of the ROI.
            roi: its box in the image.
        """


class RoiMaskGenerator:
    """Generate masks for an image of any size, in memory bounded by an ROI beside the image itself.

    Args:
        predictor: what predicts.
        search: how the objects of an ROI are found.
        max_covered: drop masks of which a larger share, 0 to 1, lies under masks with a higher
            predicted IoU.
        min_mask_region_area: fill holes and drop islands of fewer pixels; 0 leaves them.
        tile: side of the ROIs in pixels of the image; None leaves the choice to the search.
        overlap: pixels that neighbouring ROIs share; None leaves it to the search, too.

    Raises:
        UserError: an argument is out of its range.
    """

    def __init__(
        self,
        predictor: Predictor,
        search: RoiSearch,
        max_covered: float = 1.0,
        min_mask_region_area: int = 0,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        check_limits(min_mask_region_area, max_covered)
        if tile is not None:
            check_tiles(tile, overlap_of(tile, overlap))
        self.predictor, self.search = predictor, search
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
        plan = self.search.plan(self.predictor, rgb, self.tile, self.overlap)
        report(PLAN_PROGRESS)
        x0, y0, x1, y1 = plan.rois[0]
        scale = max(x1 - x0, y1 - y0) / plan.runner.model.config.image_size
        merger = TileMerger(plan.rois, size, cut_tolerance(scale, plan.overlap))
        for number, roi in enumerate(plan.rois, start=1):
            embedding = plan.encode(rgb, roi)
            found = self._filter(self.search.find(plan.runner, embedding, roi), size)
            merger.add(map(TilePart.of_candidate, found))
            report(PLAN_PROGRESS + (1 - PLAN_PROGRESS) * number / len(plan.rois))
        return merger.records()

    def _filter(self, found: list[Candidate], size: tuple[int, int]) -> list[Candidate]:
        if self.min_mask_region_area > 0:
            found = without_small_regions(found, size, self.min_mask_region_area, BOX_NMS_THRESH)
        return without_covered(found, self.max_covered) if self.max_covered < 1 else found
