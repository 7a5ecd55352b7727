"""Connected regions of a mask: the point to click on, and removing small regions."""

from typing import Literal

import numpy as np
from scipy import ndimage

from samlet.masks.boxes import nonempty_bounding_slices


def deepest_point(mask: np.ndarray) -> tuple[int, int]:
    """Find the pixel farthest from the mask's border, where a careful annotator clicks.

    What lies beyond the image counts as background. Of several such pixels the middle one in
    reading order is taken, so that a line is clicked on near its middle.

    Args:
        mask: H x W, bool or 0 and 1.

    Returns:
        (x, y) of a pixel inside the mask.

    Raises:
        UserError: the mask is empty.
    """
    rows, columns = nonempty_bounding_slices(mask)
    inside = np.pad(np.asarray(mask[rows, columns], dtype=bool), 1)
    depth = ndimage.distance_transform_edt(inside)
    ys, xs = np.nonzero(depth == depth.max())
    middle = len(ys) // 2
    return int(xs[middle]) - 1 + columns.start, int(ys[middle]) - 1 + rows.start


def remove_small_regions(
    mask: np.ndarray, area_thresh: float, mode: Literal["holes", "islands"]
) -> tuple[np.ndarray, bool]:
    """Fill holes or remove islands smaller than a threshold, as segment_anything.utils.amg does.

    Regions are 8-connected. If all islands are small, the largest stays (the first of equals). A
    region of background that touches the border counts as a hole, too, if it is small enough.

    Args:
        mask: H x W bool.
        area_thresh: pixels; smaller regions are filled or removed.
        mode: "holes" or "islands".

    Returns:
        the mask, bool H x W, and whether it changed.
    """
    regions, count = ndimage.label(~mask if mode == "holes" else mask, structure=np.ones((3, 3)))
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    small = sizes < area_thresh
    if not small.any():
        return mask, False
    if mode == "islands" and small.all():
        small[np.argmax(sizes)] = False
    flips = np.concatenate([[False], small])
    return mask ^ flips[regions], True
