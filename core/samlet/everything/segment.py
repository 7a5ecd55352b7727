"""All objects of an image, each once: the one pipeline behind every *everything*.

The command line, Label Studio, napari, `samlet evaluate`, the demo and the benchmarks call it, so
published figures are of what users get.
"""

from collections.abc import Callable
from typing import Any, Unpack

import numpy as np

from samlet.everything.duplicates import without_duplicates
from samlet.everything.generator import SamAutomaticMaskGenerator
from samlet.everything.proposal_generator import ProposalMaskGenerator
from samlet.everything.settings import EverythingSettings, complete_settings
from samlet.everything.tiling import TiledMaskGenerator
from samlet.predict.predictor import Predictor


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

    Objects are found by the model's proposal head, if it has one, and else by points. Large images
    are searched tile by tile, small objects are seen enlarged in regions of interest, and of
    several masks of one object the best stays.

    Args:
        predictor: what predicts.
        image: RGB uint8, H x W x 3, or any other array that `samlet.images.to_rgb` takes.
        tile: side of the tiles in pixels, see `TiledMaskGenerator`; with proposals None chooses it
            by the objects' size.
        overlap: pixels that neighbouring tiles share, see there.
        progress: called with the fraction done, above 0 to 1. What it raises ends the work and
            reaches the caller.
        settings: arguments of `SamAutomaticMaskGenerator` that differ from what suits the model
            (`samlet.everything.settings.default_settings`); "prompts" can also be "proposals".

    Returns:
        one dictionary per object, by falling "predicted_iou", with the keys of
        `SamAutomaticMaskGenerator.generate`; "segmentation" is COCO's RLE.

    Raises:
        UserError: the array is not an image, or a setting is out of its range.

    Examples:
        >>> predictor = samlet.Predictor(samlet.load("nuclei"))
        >>> objects = samlet.segment_everything(predictor, image)
    """
    generator = open_generator(predictor, tile, overlap, **settings)
    return without_duplicates(generator.generate(image, progress=progress))


def open_generator(
    predictor: Predictor,
    tile: int | None = None,
    overlap: int | None = None,
    **settings: Unpack[EverythingSettings],
) -> TiledMaskGenerator | ProposalMaskGenerator:
    """The generator that `segment_everything` uses; it keeps duplicates.

    Raises:
        UserError: a setting is out of its range.
    """
    chosen = complete_settings(predictor.model, settings)
    if chosen["prompts"] == "proposals":
        del chosen["prompts"]
        return ProposalMaskGenerator(predictor, tile=tile, overlap=overlap, **chosen)
    if "zoom" not in settings:
        chosen["zoom"] = predictor.zoom is not None
    return TiledMaskGenerator(SamAutomaticMaskGenerator(predictor, **chosen), tile, overlap)
