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
from samlet.masks import Box
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
    size, full = (rgb.shape[0], rgb.shape[1]), predictor.runner
    input_size = predictor.model.config.image_size
    half = predictor.runner_at(first_input_size(predictor))
    whole, longest = full_image_box(size), max(size)
    embeddings = {}
    if longest <= UNTILED_RATIO * input_size:
        embeddings[whole] = half.encode(rgb)
        scale = half.model.config.image_size / longest
        sides = proposals_of(half, embeddings[whole]).sides / scale
    else:
        sides = _sampled_sides(half, rgb)
    if len(sides):
        side = float(np.median(sides))
        best_scale = min(OBJECT_SIDE / side, MAX_ENLARGEMENT)
    else:
        side, best_scale = 0.0, 1.0
    span = longest if tile is None else tile
    for runner in (half, full):
        if best_scale <= TOLERATED_RATIO * runner.model.config.image_size / span:
            if tile is None:
                return SearchPlan(runner, [whole], embeddings=embeddings if runner is half else {})
            return _tiled(runner, size, tile, _overlap(tile, overlap, side))
    if tile is None:
        tile = round(input_size / best_scale)
    return _tiled(full, size, tile, _overlap(tile, overlap, side))


def first_input_size(predictor: Predictor) -> int:
    """Input size of the first look: half the model's own, where its encoder can do that."""
    size = predictor.model.config.image_size
    return size // 2 if has_half_resolution(predictor.model) else size


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
