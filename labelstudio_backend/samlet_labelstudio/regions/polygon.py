"""PolygonLabels and closed VectorLabels: outlines of masks."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from samlet.datasets.label_studio.geometry import polygon_value
from samlet.masks import CroppedMask, to_polygons
from samlet_labelstudio.regions.components import larger_components

_WriteOutline = Callable[[np.ndarray, tuple[int, int]], dict[str, Any]]


def values(
    mask: CroppedMask, tolerance: float, write: _WriteOutline = polygon_value
) -> list[dict[str, Any]]:
    """Write the "value" of each region, without its label.

    A polygon or vector of Label Studio is one ring. So each 4-connected component of the mask is a
    region of its own, components smaller than a tenth of the largest are left out, and holes are
    filled, together with what is in them: whoever needs holes uses BrushLabels.

    Args:
        mask: with at least one pixel.
        tolerance: how far the outline may deviate, in pixels; see `samlet.masks.to_polygons`.
        write: makes a value of an outline and the size of the image.
    """
    filled = np.zeros_like(mask.mask)
    components, _ = ndimage.label(mask.mask)
    # Each by itself: background between components that only meet in corners is no hole.
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        filled[box] |= ndimage.binary_fill_holes(components[box] == number)
    return [
        write(outline, mask.size)
        for (outline,) in to_polygons(larger_components(filled), tolerance, (mask.x, mask.y))
    ]
