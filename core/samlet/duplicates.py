"""Everything mode keeps several outlines of an object; people who label want one.

SAM itself compares boxes, and loosely, since it looks for the parts of objects as well.
"""

from collections.abc import Sequence
from typing import Any

from samlet.evaluation.matching import iou_matrix

MOST_SHARED = 0.5
"""Masks with a higher IoU are of one object."""


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
