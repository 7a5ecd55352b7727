"""Boxes: axis-aligned rectangles (x0, y0, x1, y1) in pixels, half open."""

import numpy as np

from samlet.errors import UserError
from samlet.masks.rle import bounding_slices

Box = tuple[int, int, int, int]


def box_xyxy(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Bound an H x W mask by (x0, y0, x1, y1) along pixel edges: a full mask gives (0, 0, W, H).

    Raises:
        UserError: the mask is empty.
    """
    rows, columns = nonempty_bounding_slices(mask)
    return columns.start, rows.start, columns.stop, rows.stop


def nonempty_bounding_slices(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that bound a mask, or UserError where it has no pixel."""
    rows, columns = bounding_slices(mask)
    if rows.stop == 0:
        raise UserError("The mask is empty: it has no box and no inside. Leave it out.")
    return rows, columns
