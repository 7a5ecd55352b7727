"""Boxes: axis-aligned rectangles (x0, y0, x1, y1) in pixels, half open."""

import numpy as np

from samlet.errors import UserError
from samlet.masks.rle import bounding_slices

Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1), in pixels along pixel edges."""


def box_xyxy(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The bounding box (x0, y0, x1, y1) of an H x W mask: a full mask gives (0, 0, W, H).

    Raises:
        UserError: the mask is empty.
    """
    rows, columns = nonempty_bounding_slices(mask)
    return columns.start, rows.start, columns.stop, rows.stop


def nonempty_bounding_slices(mask: np.ndarray) -> tuple[slice, slice]:
    """The slices of a mask's bounding box.

    Raises:
        UserError: the mask is empty.
    """
    rows, columns = bounding_slices(mask)
    if rows.stop == 0:
        raise UserError("The mask is empty, so it has no box and no point inside: leave it out.")
    return rows, columns
