"""Everything mode keeps several outlines of an object; people who label want one.

SAM itself compares boxes, and loosely, since it looks for the parts of objects as well.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from samlet.everything.generator import SamAutomaticMaskGenerator, default_settings
from samlet.everything.tiling import TiledMaskGenerator
from samlet.masks import iou_matrix
from samlet.predict.predictor import Predictor

MOST_SHARED = 0.5
"""Masks with a higher IoU are of one object."""


def distinct_objects(
    predictor: Predictor, image: np.ndarray, progress: Callable[[float], None] | None = None
) -> list[dict[str, Any]]:
    """Find all objects of an image of any size, each once, with the model's own settings.

    Args:
        predictor: whose model and engine.
        image: RGB uint8, H x W x 3.
        progress: see `TiledMaskGenerator.generate`.

    Returns:
        records of everything mode, by falling "predicted_iou".

    Raises:
        UserError: the array is not an image.
    """
    generator = SamAutomaticMaskGenerator(
        predictor.model, engine=predictor.engine, **default_settings(predictor.model)
    )
    return distinct(TiledMaskGenerator(generator).generate(image, progress=progress))


def distinct(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep of each object the mask that the model trusts most.

    Args:
        records: of one image, as everything mode gives them.

    Returns:
        Those kept, by falling "predicted_iou".
    """
    ranked = sorted(records, key=lambda record: -record["predicted_iou"])
    masks = [record["segmentation"] for record in ranked]
    shared = iou_matrix(masks, masks)
    kept: list[int] = []
    for i in range(len(ranked)):
        if not kept or shared[i, kept].max() <= MOST_SHARED:
            kept.append(i)
    return [ranked[i] for i in kept]
