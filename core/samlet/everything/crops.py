"""Grids of points and overlapping crops for everything mode.

Boxes are (x0, y0, x1, y1) in pixels of the image. Crops are half open: the whole image is
(0, 0, W, H). Source: Segment Anything, arXiv 2304.02643, appendix B.
"""

from collections.abc import Sequence
from itertools import product
from math import ceil

import numpy as np

from samlet.errors import UserError
from samlet.masks import Box

EDGE_TOLERANCE = 20
"""Masks that end this near to a crop's edge, in pixels, count as cut off by it."""


def point_grid(points_per_side: int) -> np.ndarray:
    """Spread n x n points evenly over the unit square.

    Returns:
        float64, n * n x 2, (x, y) in 0..1: the centres of n x n cells, row by row.
    """
    centres = (np.arange(points_per_side) + 0.5) / points_per_side
    return np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)


def layer_grids(
    points_per_side: int | None, given: Sequence[np.ndarray] | None, layers: int, factor: int
) -> list[np.ndarray]:
    """Choose the points of the whole image (layer 0) and of each layer of crops.

    Args:
        points_per_side: of layer 0's grid; None where grids are given.
        given: one grid a layer, N x 2, (x, y) in 0..1; None where points_per_side is given.
        layers: how many layers of crops there are.
        factor: by how much points_per_side shrinks from each layer to the next.

    Returns:
        float64, N x 2, at least `layers` + 1 of them.

    Raises:
        UserError: both or none of the two are given, a given grid is malformed or missing, or a
            layer is left without points.
    """
    if (points_per_side is None) == (given is None):
        raise UserError("Give either points_per_side or point_grids, and None for the other.")
    if points_per_side is not None:
        sides = [int(points_per_side / factor**layer) for layer in range(layers + 1)]
        if min(sides) < 1:
            raise UserError(
                f"points_per_side {points_per_side}, divided by {factor} in each of {layers} crop "
                "layers, leaves a layer without points: take more points or fewer layers."
            )
        return [point_grid(side) for side in sides]
    grids = [np.asarray(grid, dtype=float) for grid in given or ()]
    if len(grids) <= layers:
        raise UserError(f"{layers} crop layers need {layers + 1} point_grids, not {len(grids)}.")
    for grid in grids:
        if grid.ndim != 2 or grid.shape[1] != 2 or not grid.size:
            raise UserError(f"A point grid has two columns, x and y, not shape {grid.shape}.")
        if not ((grid >= 0) & (grid <= 1)).all():
            raise UserError("The points of a grid are fractions of the image, 0 to 1.")
    return grids


def crop_boxes(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[tuple[Box, int]]:
    """Cut the image into 2 x 2 crops in layer 1, 4 x 4 in layer 2, and so on.

    Args:
        size: (H, W) of the image.
        layers: how many layers of crops beside the whole image, which is layer 0.
        overlap_ratio: overlap of layer 1's crops as a fraction of the image's shorter side, halved
            from each layer to the next.

    Returns:
        (box, layer) of the image and each crop, column by column. Images with fewer pixels than
        crops get only as many crops as hold a pixel.
    """
    height, width = size
    found = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / count))
        columns, rows = (_spans(length, count, overlap) for length in (width, height))
        found += [((x0, y0, x1, y1), layer) for (x0, x1), (y0, y1) in product(columns, rows)]
    return found


def _spans(length: int, count: int, overlap: int) -> list[tuple[int, int]]:
    span = ceil((length + overlap * (count - 1)) / count)
    starts = (i * (span - overlap) for i in range(count))
    return [(start, min(start + span, length)) for start in starts if start < length]


def is_cut_off(box: Box, crop: Box, size: tuple[int, int], tolerance: int = EDGE_TOLERANCE) -> bool:
    """Tell whether a mask's box ends near an edge of the crop that is no edge of the image.

    Args:
        box: the mask's, in pixels of the image.
        crop: the crop that it was found in.
        size: (H, W) of the image.
        tolerance: how near, in pixels.
    """
    height, width = size
    return any(
        abs(side - crop_side) <= tolerance < abs(side - image_side)
        for side, crop_side, image_side in zip(box, crop, (0, 0, width, height), strict=True)
    )
