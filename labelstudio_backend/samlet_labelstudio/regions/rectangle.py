"""Masks for RectangleLabels: the bounding boxes of their larger parts."""

from typing import Any

from samlet.masks import CroppedMask, box_xyxy
from samlet_labelstudio.regions.parts import larger_parts


def values(mask: CroppedMask) -> list[dict[str, Any]]:
    """Give the "value" of the one region, without its label: along pixel edges, in percent.

    Args:
        mask: with a pixel at least.
    """
    x0, y0, x1, y1 = box_xyxy(larger_parts(mask.mask))
    height, width = mask.size
    return [
        {
            "x": 100 * (mask.x + x0) / width,
            "y": 100 * (mask.y + y0) / height,
            "width": 100 * (x1 - x0) / width,
            "height": 100 * (y1 - y0) / height,
            "rotation": 0,
        }
    ]
