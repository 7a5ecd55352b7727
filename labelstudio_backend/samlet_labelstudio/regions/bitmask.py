"""BitmaskLabels: masks to the pixel, and strokes as point prompts."""

from typing import Any

import numpy as np

from samlet.datasets.label_studio.bitmask import bitmask_value, read_bitmask
from samlet.datasets.label_studio.geometry import RegionValue
from samlet.errors import UserError
from samlet.masks import CroppedMask
from samlet_labelstudio.regions.strokes import spread_points


def values(mask: CroppedMask) -> list[dict[str, Any]]:
    """Write the "value" of the one region, without its label."""
    return [bitmask_value(mask)]


def points(value: RegionValue) -> np.ndarray:
    """Up to five point prompts, spread inside a stroke.

    Returns:
        float64, N x 2 of (x, y); pixel centres are at integers.

    Raises:
        UserError: no bitmask of the image's size, or an empty one.
    """
    mask = read_bitmask(value)
    if not mask.any():
        raise UserError(f"{value.where} has a bitmask without a pixel: draw the stroke again.")
    return spread_points(mask)
