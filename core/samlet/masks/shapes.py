"""Shapes in pixels, drawn as masks: a pixel belongs to a shape if its centre is inside.

Coordinates are (x, y) along pixel edges: pixel (0, 0) covers the square from (0, 0) to (1, 1), its
centre is at (0.5, 0.5). What lies beyond the image is cut off.
"""

import numpy as np
from skimage import draw


def fill_polygon(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Fill a closed polygon; where it crosses itself, by the even-odd rule.

    Args:
        points: float, N x 2 of (x, y), N >= 3; the first may be repeated at the end.
        size: (H, W).

    Returns:
        bool, H x W.
    """
    mask = np.zeros(size, bool)
    mask[draw.polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, size)] = True
    return mask


def fill_ellipse(
    x: float, y: float, radius_x: float, radius_y: float, degrees: float, size: tuple[int, int]
) -> np.ndarray:
    """Fill an ellipse that is turned about its centre; without a radius it is empty.

    Args:
        x: of the centre.
        y: of the centre.
        radius_x: pixels, along x before turning.
        radius_y: pixels, along y before turning.
        degrees: clockwise on the screen.
        size: (H, W).

    Returns:
        bool, H x W.
    """
    mask = np.zeros(size, bool)
    if radius_x > 0 and radius_y > 0:
        turned = -np.deg2rad(degrees)
        inside = draw.ellipse(y - 0.5, x - 0.5, radius_y, radius_x, size, rotation=turned)
        mask[inside] = True
    return mask
