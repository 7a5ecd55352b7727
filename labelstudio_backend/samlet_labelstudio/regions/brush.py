"""BrushLabels: masks to the pixel, and strokes as point prompts."""

from typing import Any

import numpy as np
from scipy import ndimage

from samlet.datasets.label_studio.geometry import RegionValue, brush_value, read_brush
from samlet.errors import UserError
from samlet.masks import CroppedMask, crop_mask

_MAX_STROKE_POINTS = 5


def values(mask: CroppedMask) -> list[dict[str, Any]]:
    """Write the "value" of the one region, without its label.

    Raises:
        UserError: the image is too large for a brush mask.
    """
    return [brush_value(mask)]


def points(value: RegionValue) -> np.ndarray:
    """Up to five point prompts, spread inside a stroke.

    Returns:
        float64, N x 2 of (x, y); pixel centres are at integers.

    Raises:
        UserError: no brush mask of the image's size, or an empty one.
    """
    try:
        mask = read_brush(value)
    except UserError as error:
        if not isinstance(value.fields.get("rle"), list):
            raise
        height, width = value.size
        raise UserError(
            f'{value.where} has an "rle" that is no brush mask of {width} x {height} pixels, the '
            "size of the image: draw the stroke again."
        ) from error
    if not mask.any():
        raise UserError(f'{value.where} has an "rle" without a pixel: draw the stroke again.')
    return _spread_points(mask)


def _spread_points(mask: np.ndarray) -> np.ndarray:
    """Points far from each other and from the border of a stroke, the deepest first."""
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
