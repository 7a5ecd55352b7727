"""RectangleLabels: bounding boxes of masks, and box prompts."""

from typing import Any

import numpy as np

from samlet.datasets.label_studio.geometry import Rectangle, RegionValue
from samlet.masks import CroppedMask, box_xyxy
from samlet_labelstudio.regions.components import larger_components


def values(mask: CroppedMask) -> list[dict[str, Any]]:
    """Write the "value" of the one region, without its label: the box of the larger components.

    Args:
        mask: with at least one pixel.
    """
    x0, y0, x1, y1 = box_xyxy(larger_components(mask.mask))
    return [Rectangle(mask.x + x0, mask.y + y0, x1 - x0, y1 - y0).to_value(mask.size)]


def bounds(value: RegionValue) -> np.ndarray:
    """The least and the greatest (x, y) of a rectangle, in pixels: float64, 2 x 2.

    Raises:
        UserError: a field is missing or wrong, or the rectangle has no area.
    """
    rectangle = Rectangle.read(value)
    value.check_not_zero(width=rectangle.width, height=rectangle.height)
    return rectangle.bounds()
