"""Strokes of a brush as point prompts."""

import numpy as np
from scipy import ndimage

from samlet.masks import crop_mask

_MAX_STROKE_POINTS = 5


def spread_points(mask: np.ndarray) -> np.ndarray:
    """Up to five points far from each other and from the border of a stroke, the deepest first.

    Args:
        mask: bool, H x W, with at least one pixel.

    Returns:
        float64, N x 2 of (x, y); pixel centres are at integers.
    """
    stroke = crop_mask(mask)
    depth = ndimage.distance_transform_edt(np.pad(stroke.mask, 1))[1:-1, 1:-1]
    deepest = depth.max()
    ys, xs = np.nonzero(depth >= deepest / 2)
    candidates = np.stack([xs, ys], axis=1).astype(float)
    # Of the deepest the middle one, so that a line gets a point near its middle.
    first = np.flatnonzero(depth[ys, xs] == deepest)
    chosen = [candidates[first[len(first) // 2]]]
    distance = np.hypot(*(candidates - chosen[0]).T)
    # A point nearer than the stroke's depth adds no information: a dot is one click.
    while len(chosen) < _MAX_STROKE_POINTS and distance.max() > deepest:
        chosen.append(candidates[distance.argmax()])
        distance = np.minimum(distance, np.hypot(*(candidates - chosen[-1]).T))
    return np.stack(chosen) + np.array([stroke.x, stroke.y])
