"""Masks for PolygonLabels: outlines of their larger parts."""

from typing import Any

import numpy as np
from scipy import ndimage

from samlet.masks import CroppedMask, to_polygons
from samlet_labelstudio.regions.parts import larger_parts


def values(mask: CroppedMask, tolerance: float) -> list[dict[str, Any]]:
    """Give the "value" of each region, without its label.

    A polygon of Label Studio is one ring. So each 4-connected part of the mask is a region of its
    own, parts smaller than a tenth of the largest are left out, and holes are filled, together with
    what lies in them: who needs holes uses BrushLabels.

    Args:
        mask: with a pixel at least.
        tolerance: pixels that the outline may be off; see `samlet.masks.to_polygons`.
    """
    filled = np.zeros_like(mask.mask)
    parts, _ = ndimage.label(mask.mask)
    # Each by itself: background between parts that only meet in corners is no hole.
    for part, window in enumerate(ndimage.find_objects(parts), start=1):
        filled[window] |= ndimage.binary_fill_holes(parts[window] == part)
    height, width = mask.size
    return [
        {"points": (100 * outline / (width, height)).tolist(), "closed": True}
        for (outline,) in to_polygons(larger_parts(filled), tolerance, (mask.x, mask.y))
    ]
