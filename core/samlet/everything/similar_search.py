"""The search for objects like examples, ROI by ROI: the model's own objects, and likely places."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from samlet.everything.candidates import Candidate, box_nms
from samlet.everything.likeness import EmbeddingGrid, Likeness, colours_of
from samlet.everything.roi_generator import BOX_NMS_THRESH, RoiSearch
from samlet.everything.search import MaskFilter, decode_points
from samlet.everything.tile_merging import intersection
from samlet.everything.working_scale import SearchPlan
from samlet.masks import Box, CroppedMask, area, from_rle
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor
from samlet.predict.runner import Runner

MIN_PLACE_LIKENESS = 0.6
"""Likeness, smoothed, above which a place is clicked on; on labelled images it was more than this
in the middle of almost every object, and less in almost all of the background."""

PLACE_DISTANCE = 0.5
"""Distance between such places, relative to the side of the median example."""

MAX_SIZE_RATIO = 4.0
"""The area of an object is at most this many times that of the largest example, and at least this
part of that of the smallest."""

SAME_OBJECT_SHARE = 0.5
"""A mask that shares more of its own pixels with an example, or of the example's, is the example's.
"""


@dataclass(frozen=True)
class SimilarSearch:
    """Find the objects of one image that are like examples, see `RoiSearch`.

    Attributes:
        image: RGB uint8, H x W x 3.
        search_plan: where it is searched.
        examples: objects of the image, none of them empty.
        likeness: to the examples.
        mask_filter: which masks are found.
        model_search: finds the model's own objects; None if it has no head for that.
    """

    image: np.ndarray
    search_plan: SearchPlan
    examples: Sequence[CroppedMask]
    likeness: Likeness
    mask_filter: MaskFilter
    model_search: RoiSearch | None

    def plan(
        self, predictor: Predictor, rgb: np.ndarray, tile: int | None, overlap: int | None
    ) -> SearchPlan:
        """See `RoiSearch`; it is known already."""
        return self.search_plan

    def find(self, runner: Runner, embedding: ImageEmbedding, roi: Box) -> list[Candidate]:
        """See `RoiSearch`."""
        grid = EmbeddingGrid.of(embedding, roi)
        found: list[Candidate] = []
        if self.model_search is not None:
            found += self._similar(self.model_search.find(runner, embedding, roi), grid)
        points = self._places(grid, found)
        if len(points):
            found += self._similar(self._click(runner, embedding, points, roi), grid)
        return box_nms(found, [each.predicted_iou for each in found], BOX_NMS_THRESH)

    def _places(self, grid: EmbeddingGrid, found: Iterable[Candidate]) -> np.ndarray:
        """Where another object is likely: N x 2, (x, y) in pixels of the image."""
        likeness = self.likeness.of_places(grid.vectors).reshape(grid.features.shape[1:])
        side = np.median([area(example.mask) for example in self.examples]) ** 0.5
        reach = PLACE_DISTANCE * side / grid.cell[::-1]
        smooth = ndimage.gaussian_filter(likeness, reach / 2)
        neighbourhood = 2 * np.maximum(reach.round().astype(int), 1) + 1
        is_peak = smooth == ndimage.maximum_filter(smooth, neighbourhood)
        is_place = is_peak & (smooth > MIN_PLACE_LIKENESS)
        x, y = grid.centres
        for mask in (*self.examples, *(each.cutout(self.examples[0].size) for each in found)):
            rows, columns = mask.slices
            inner_y = np.flatnonzero((y >= rows.start) & (y < rows.stop))
            inner_x = np.flatnonzero((x >= columns.start) & (x < columns.stop))
            is_covered = mask.mask[np.ix_(y[inner_y] - mask.y, x[inner_x] - mask.x)]
            is_place[np.ix_(inner_y, inner_x)] &= ~is_covered
        rows_of, columns_of = np.nonzero(is_place)
        return np.stack([x[columns_of], y[rows_of]], axis=1)

    def _click(
        self, runner: Runner, embedding: ImageEmbedding, points: np.ndarray, roi: Box
    ) -> Iterator[Candidate]:
        upsampler = runner.upsampler(embedding)
        for logits, iou, prompt in decode_points(
            runner, embedding, points - roi[:2], self.mask_filter.min_iou
        ):
            candidate = self.mask_filter.candidate(logits, upsampler, iou, points[prompt], roi)
            if candidate is not None:
                yield candidate

    def _similar(self, candidates: Iterable[Candidate], grid: EmbeddingGrid) -> Iterator[Candidate]:
        """Those of a suitable size that are no example, with their likeness."""
        areas = [area(example.mask) for example in self.examples]
        smallest, largest = min(areas) / MAX_SIZE_RATIO, max(areas) * MAX_SIZE_RATIO
        for candidate in candidates:
            mask = from_rle(candidate.rle)
            if not smallest <= area(mask) <= largest or self._is_example(candidate.box, mask):
                continue
            x, y = candidate.box[:2]
            alike = self.likeness.of_object(
                grid.pooled(mask, x, y), colours_of(self.image, mask, x, y)
            )
            yield replace(candidate, likeness=alike)

    def _is_example(self, box: Box, mask: np.ndarray) -> bool:
        left, top, right, bottom = box
        for example in self.examples:
            rows, columns = example.slices
            example_box = (columns.start, rows.start, columns.stop, rows.stop)
            common = intersection((left, top, right + 1, bottom + 1), example_box)
            if common is None:
                continue
            x0, y0, x1, y1 = common
            own = mask[y0 - top : y1 - top, x0 - left : x1 - left]
            others = example.mask[y0 - example.y : y1 - example.y, x0 - example.x : x1 - example.x]
            if area(own & others) > SAME_OBJECT_SHARE * min(area(mask), area(example.mask)):
                return True
        return False
