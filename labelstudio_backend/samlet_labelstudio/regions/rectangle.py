"""Masks for RectangleLabels: their bounding boxes."""

from typing import Any

from samlet.masks import Cutout, box_xyxy


def values(mask: Cutout) -> list[dict[str, Any]]:
    """Give the "value" of the one region, without its label: along pixel edges, in percent.

    Raises:
        UserError: the mask is empty.
    """
    x0, y0, x1, y1 = box_xyxy(mask.mask)
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
