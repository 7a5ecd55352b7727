"""BrushLabels: masks to the pixel, and strokes as point prompts."""

from typing import Any

import numpy as np

from samlet.datasets.label_studio.geometry import RegionValue, brush_value, read_brush
from samlet.errors import UserError
from samlet.masks import CroppedMask
from samlet_labelstudio.regions.strokes import spread_points


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
    return spread_points(mask)
