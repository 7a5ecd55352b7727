"""At which scale an image is searched with proposals, and in which regions of interest (ROIs).

Objects are outlined best when they are neither small nor large in the model's input. How large they
are in the image is what a first, cheap look tells: the proposal head on the image at half the input
size or, of a large image, on samples of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from samlet.everything.proposals import Proposals, find_proposals
from samlet.everything.tiling import UNTILED_RATIO, place_tiles
from samlet.masks import Box, CroppedMask
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor
from samlet.predict.roi import full_image_box
from samlet.predict.runner import Runner
from samlet.predict.zoom import has_half_resolution

OBJECT_SIDE = 100.0
"""Side of the median object in the model's input, in pixels, that is aimed at."""

TOLERATED_RATIO = 1.3
"""The whole image is taken where its scale is smaller than the best one by this factor at most."""

MAX_ENLARGEMENT = 4.0
"""Pixels of the model's input per pixel of the image, at most; more shows nothing new."""

SAMPLES_PER_SIDE = 3
"""Samples of a large image, along each of its sides."""

OVERLAP_RATIO = 2.0
"""Overlap of ROIs, relative to the side of the median object."""

MIN_OVERLAP, MAX_OVERLAP = 1 / 16, 1 / 3
"""The same, relative to the side of the ROIs."""


@dataclass(frozen=True)
class SearchPlan:
    """Where an image is searched.

    Attributes:
        runner: encodes each ROI.
        rois: boxes in the image, which cover all of it.
        overlap: pixels that neighbouring ROIs share.
        embeddings: those of ROIs that are known already.
    """

    runner: Runner
    rois: list[Box]
    overlap: int = 0
    embeddings: Mapping[Box, ImageEmbedding] = field(default_factory=dict)

    def encode(self, rgb: np.ndarray, roi: Box) -> ImageEmbedding:
        """The embedding of an ROI of an image, H x W x 3."""
        if (known := self.embeddings.get(roi)) is not None:
            return known
        x0, y0, x1, y1 = roi
        return self.runner.encode(np.ascontiguousarray(rgb[y0:y1, x0:x1]))

    def roi_of(self, mask: CroppedMask) -> Box:
        """The ROI that shows most of a mask, and of several the one in whose middle it is."""
        rows, columns = mask.slices
        first, last = np.array([columns.start, rows.start]), np.array([columns.stop, rows.stop])
        boxes = np.array(self.rois)
        sides = np.minimum(boxes[:, 2:], last) - np.maximum(boxes[:, :2], first)
        shown = sides.clip(0).prod(axis=1)
        offset = np.abs(boxes[:, :2] + boxes[:, 2:] - first - last).max(axis=1)
        return self.rois[int(np.lexsort((offset, -shown))[0])]


def plan_search(
    predictor: Predictor, rgb: np.ndarray, tile: int | None, overlap: int | None
) -> SearchPlan:
    """Choose scale and ROIs for an image.

    Args:
        predictor: of a model with a proposal head.
        rgb: uint8, H x W x 3.
        tile: side of the ROIs in pixels of the image, if that is given; then only the input size is
            chosen.
        overlap: pixels that neighbouring ROIs share, if that is given.
    """
    sides, embeddings = first_look(predictor, rgb)
    side = float(np.median(sides)) if len(sides) else 0.0
    return plan_for_side(predictor, (rgb.shape[0], rgb.shape[1]), side, tile, overlap, embeddings)


def first_look(
    predictor: Predictor, rgb: np.ndarray
) -> tuple[np.ndarray, dict[Box, ImageEmbedding]]:
    """See roughly how large the objects of an image are.

    Args:
        predictor: of a model with a proposal head.
        rgb: uint8, H x W x 3.

    Returns:
        sides of proposals, in pixels of the image; and the embedding of the whole image at
        `first_input_size`, if the image is not too large for that.
    """
    half = predictor.runner_at(first_input_size(predictor))
    whole, longest = full_image_box((rgb.shape[0], rgb.shape[1])), max(rgb.shape[:2])
    if longest > UNTILED_RATIO * predictor.model.config.image_size:
        return _sampled_sides(half, rgb), {}
    embedding = half.encode(rgb)
    scale = half.model.config.image_size / longest
    return proposals_of(half, embedding).sides / scale, {whole: embedding}


def plan_for_side(
    predictor: Predictor,
    size: tuple[int, int],
    side: float,
    tile: int | None,
    overlap: int | None,
    embeddings: Mapping[Box, ImageEmbedding] | None = None,
) -> SearchPlan:
    """Choose scale and ROIs for objects of a known size.

    Args:
        predictor: of any model.
        size: (H, W) of the image.
        side: of the median object in pixels of the image; 0 if there is none.
        tile: see `plan_search`.
        overlap: see there.
        embeddings: of the whole image at `first_input_size`, if it is known.
    """
    input_size, longest = predictor.model.config.image_size, max(size)
    best_scale = min(OBJECT_SIDE / side, MAX_ENLARGEMENT) if side else 1.0
    span = longest if tile is None else tile
    half = predictor.runner_at(first_input_size(predictor))
    for runner in (half, predictor.runner):
        if best_scale <= TOLERATED_RATIO * runner.model.config.image_size / span:
            if tile is None:
                known = (embeddings or {}) if runner is half else {}
                return SearchPlan(runner, [full_image_box(size)], embeddings=known)
            return _tiled(runner, size, tile, _overlap(tile, overlap, side))
    if tile is None:
        tile = round(input_size / best_scale)
    return _tiled(predictor.runner, size, tile, _overlap(tile, overlap, side))


def first_input_size(predictor: Predictor) -> int:
    """Input size of the first look: half the model's own, if the model is used at that anyway."""
    size, model = predictor.model.config.image_size, predictor.model
    is_used_at_half = model.proposal_head is not None or predictor.zoom is not None
    return size // 2 if is_used_at_half and has_half_resolution(model) else size


def proposals_of(runner: Runner, embedding: ImageEmbedding) -> Proposals:
    """The objects that the model's proposal head finds in an embedding."""
    predicted = runner.engine.propose(embedding.features.unsqueeze(0))
    return find_proposals(predicted[0].float().cpu().numpy(), embedding.input_size)


def _sampled_sides(runner: Runner, rgb: np.ndarray) -> np.ndarray:
    """Sides of objects in samples of a large image, which are seen pixel by pixel."""
    side = runner.model.config.image_size
    starts = [
        np.linspace(0, max(length - side, 0), SAMPLES_PER_SIDE).round().astype(int).tolist()
        for length in rgb.shape[:2]
    ]
    found = []
    for y, x in product(*starts):
        sample = np.ascontiguousarray(rgb[y : y + side, x : x + side])
        scale = side / max(sample.shape[:2])
        found.append(proposals_of(runner, runner.encode(sample)).sides / scale)
    return np.concatenate(found)


def _tiled(runner: Runner, size: tuple[int, int], tile: int, overlap: int) -> SearchPlan:
    return SearchPlan(runner, place_tiles(size, tile, overlap), overlap)


def _overlap(tile: int, given: int | None, object_side: float) -> int:
    if given is not None:
        return min(given, tile // 2)
    return round(np.clip(OVERLAP_RATIO * object_side, MIN_OVERLAP * tile, MAX_OVERLAP * tile))
