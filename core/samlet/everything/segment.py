"""All objects of an image, each once: the one pipeline behind every *everything*.

The command line, Label Studio, napari, `samlet evaluate`, the demo and the benchmarks call it, so
published figures are of what users get.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Unpack

import numpy as np

from samlet.everything.distance_maps import DistanceThresholds
from samlet.everything.distance_search import DistancePromptSearch, WatershedSearch
from samlet.everything.duplicates import without_duplicates
from samlet.everything.generator import SamAutomaticMaskGenerator
from samlet.everything.proposal_search import ProposalSearch
from samlet.everything.roi_generator import RoiMaskGenerator, RoiSearch
from samlet.everything.search import MaskFilter
from samlet.everything.settings import POINT_PROMPTS, EverythingSettings, complete_settings
from samlet.everything.tiling import TiledMaskGenerator
from samlet.predict.predictor import Predictor

STABILITY_SCORE_OFFSET = 1.0
"""How far the threshold moves up and down, in logits, to see how stable a mask is."""


def segment_everything(
    predictor: Predictor,
    image: np.ndarray,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    progress: Callable[[float], None] | None = None,
    **settings: Unpack[EverythingSettings],
) -> list[dict[str, Any]]:
    """Find all objects of an image of any size, each once.

    Objects are found by the model's instance decoder or proposal head, if it has one, and else by
    points. Large images are searched tile by tile, and of several masks of one object the best
    stays. Without an instance decoder, small objects are seen enlarged in regions of interest.

    Args:
        predictor: what predicts.
        image: RGB uint8, H x W x 3, or any other array that `samlet.images.to_rgb` takes.
        tile: side of the tiles in pixels, see `TiledMaskGenerator`; with proposals None chooses it
            by the objects' size.
        overlap: pixels that neighbouring tiles share, see there.
        progress: called with the fraction done, above 0 to 1. What it raises ends the work and
            reaches the caller.
        settings: arguments of `SamAutomaticMaskGenerator` that differ from what suits the model
            (`samlet.everything.settings.default_settings`); for further ones see
            `samlet.everything.settings.EverythingSettings`.

    Returns:
        one dictionary per object, by falling "predicted_iou", with the keys of
        `SamAutomaticMaskGenerator.generate`; "segmentation" is COCO's RLE. Objects of a watershed
        have the mean probability of foreground as "predicted_iou".

    Raises:
        UserError: the array is not an image, or a setting is out of its range.

    Examples:
        >>> predictor = samlet.Predictor(samlet.load("microscopy"))
        >>> objects = samlet.segment_everything(predictor, image)
    """
    generator = open_generator(predictor, tile, overlap, **settings)
    return without_duplicates(generator.generate(image, progress=progress))


def open_generator(
    predictor: Predictor,
    tile: int | None = None,
    overlap: int | None = None,
    **settings: Unpack[EverythingSettings],
) -> TiledMaskGenerator | RoiMaskGenerator:
    """The generator that `segment_everything` uses; it keeps duplicates.

    Raises:
        UserError: a setting is out of its range.
    """
    chosen = complete_settings(predictor.model, settings)
    if chosen["prompts"] in POINT_PROMPTS:
        if "zoom" not in settings:
            chosen["zoom"] = predictor.zoom is not None
        return TiledMaskGenerator(SamAutomaticMaskGenerator(predictor, **chosen), tile, overlap)
    return RoiMaskGenerator(
        predictor,
        open_search(predictor, chosen),
        chosen.get("max_covered", 1.0),
        chosen.get("min_mask_region_area", 0),
        tile,
        overlap,
    )


def open_search(predictor: Predictor, chosen: Mapping[str, Any]) -> RoiSearch:
    """The way in which a model's own head finds objects.

    Args:
        predictor: of a model with that head.
        chosen: complete settings, whose prompts are not points.

    Raises:
        UserError: the model has no such head, or a setting is out of its range.
    """
    if chosen["prompts"] == "watershed":
        smoothing, min_size = chosen["distance_smoothing"], chosen["min_size"]
        return WatershedSearch(predictor, _distance_thresholds(chosen), smoothing, min_size)
    mask_filter = mask_filter_of(predictor, chosen)
    if chosen["prompts"] == "distances":
        thresholds, min_size = _distance_thresholds(chosen), chosen["min_size"]
        return DistancePromptSearch(predictor, mask_filter, thresholds, min_size)
    return ProposalSearch(predictor, mask_filter)


def mask_filter_of(predictor: Predictor, chosen: Mapping[str, Any]) -> MaskFilter:
    """Which masks pass, by complete settings of masks that are predicted from prompts."""
    return MaskFilter(
        chosen["pred_iou_thresh"],
        chosen["stability_score_thresh"],
        STABILITY_SCORE_OFFSET,
        predictor.model.mask_threshold,
    )


def _distance_thresholds(chosen: Mapping[str, Any]) -> DistanceThresholds:
    return DistanceThresholds(
        **{part.name: chosen[part.name] for part in fields(DistanceThresholds)}
    )
