"""Everything mode keeps several outlines of an object; annotators want one.

SAM itself compares boxes, and loosely, since it looks for the parts of objects as well.
"""

import numpy as np
from pycocotools import mask as coco

from samlet.masks import Cutout

MOST_SHARED = 0.5
"""Masks with a higher IoU are of one object."""


def distinct(found: list[tuple[Cutout, float]]) -> list[tuple[Cutout, float]]:
    """Keep of each object the mask with the highest score.

    Args:
        found: masks of one image, with their scores.

    Returns:
        Those kept, by falling score.
    """
    ranked = sorted(found, key=lambda each: -each[1])
    runs = [coco.frPyObjects(mask.runs(), *mask.size) for mask, _ in ranked]
    shared = np.asarray(coco.iou(runs, runs, [False] * len(runs))).reshape(len(runs), len(runs))
    kept: list[int] = []
    for i in range(len(ranked)):
        if not kept or shared[i, kept].max() <= MOST_SHARED:
            kept.append(i)
    return [ranked[i] for i in kept]
