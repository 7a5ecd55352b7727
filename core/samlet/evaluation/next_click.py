"""The next corrective click of a simulated annotator."""

from collections.abc import Collection

import numpy as np
from scipy import ndimage

from samlet.masks import box_xyxy, deepest_point


def next_click(
    predicted: np.ndarray, truth: np.ndarray, clicked: Collection[tuple[int, int]] = ()
) -> tuple[tuple[int, int], int] | None:
    """Find the deepest point of the largest error region.

    Regions are 8-connected. Missing and excess pixels form separate regions; of two regions of
    equal area the missing one is chosen. A pixel that was clicked before does not count as an error
    any more, so a click that the model ignored is not repeated: the next one is as far away from it
    as the region allows.

    Args:
        predicted: bool, H x W.
        truth: bool, H x W.
        clicked: (x, y) of earlier clicks.

    Returns:
        (x, y) in pixels, and the label of the click: 1 (foreground) in a missing region, 0
        (background) in an excess region; None if no error is left.
    """
    wrong = predicted ^ truth
    for x, y in clicked:
        wrong[y, x] = False
    if not wrong.any():
        return None
    x0, y0, x1, y1 = box_xyxy(wrong)
    # Crop to the errors: what follows takes time for each pixel, and most are correct.
    wrong, inside = wrong[y0:y1, x0:x1], truth[y0:y1, x0:x1]
    regions = {1: _largest_region(wrong & inside), 0: _largest_region(wrong & ~inside)}
    label = max(regions, key=lambda label: np.count_nonzero(regions[label]))
    x, y = deepest_point(regions[label])
    return (x0 + x, y0 + y), label


def _largest_region(mask: np.ndarray) -> np.ndarray:
    """The largest region of a mask; empty if the mask is."""
    numbers, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(numbers.ravel())
    areas[0] = 0
    return mask & (numbers == areas.argmax())
