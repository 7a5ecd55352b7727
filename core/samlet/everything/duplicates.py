"""Everything mode keeps several outlines of an object; people who label want one.

SAM itself compares boxes, and loosely, since it looks for the parts of objects as well.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from samlet.masks import iou_matrix

DUPLICATE_IOU = 0.5
"""Masks with a higher IoU are of one object."""


def without_duplicates(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep of each object the mask with the highest predicted IoU.

    Args:
        records: of one image, as everything mode gives them.

    Returns:
        those kept, by falling "predicted_iou".
    """
    ranked = sorted(records, key=lambda record: -record["predicted_iou"])
    corners = np.array([record["bbox"] for record in ranked], dtype=float).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    kept: list[int] = []
    for i, record in enumerate(ranked):
        # Only masks whose boxes meet are compared, so that ten thousand objects stay cheap.
        first, last = corners[kept, :2], corners[kept, 2:]
        meet = (first <= corners[i, 2:]).all(1) & (last >= corners[i, :2]).all(1)
        rivals = [ranked[kept[j]]["segmentation"] for j in np.flatnonzero(meet)]
        if not (iou_matrix([record["segmentation"]], rivals) > DUPLICATE_IOU).any():
            kept.append(i)
    return [ranked[i] for i in kept]
