"""Which parts of a mask are the object."""

import numpy as np
from scipy import ndimage

# Of the largest part's area; what is smaller is a speck beside the object.
_SMALLEST = 0.1


def larger_parts(mask: np.ndarray) -> np.ndarray:
    """Leave out the 4-connected parts that are smaller than a tenth of the largest.

    A speck far away would make a box, or an ellipse, many times too large.

    Args:
        mask: bool, h x w, with a pixel at least.
    """
    parts, _ = ndimage.label(mask)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return np.asarray((areas >= _SMALLEST * areas.max())[parts])
