"""Which connected components of a mask are the object."""

import numpy as np
from scipy import ndimage

# Of the largest component's area; what is smaller is a speck beside the object.
_MIN_AREA_RATIO = 0.1


def larger_components(mask: np.ndarray) -> np.ndarray:
    """Remove the 4-connected components that are smaller than a tenth of the largest.

    A speck far away would make a box, or an ellipse, many times too large.

    Args:
        mask: bool, h x w, with at least one pixel.
    """
    components, _ = ndimage.label(mask)
    areas = np.bincount(components.ravel())
    areas[0] = 0
    return np.asarray((areas >= _MIN_AREA_RATIO * areas.max())[components])
