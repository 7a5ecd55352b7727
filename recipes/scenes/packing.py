"""Where many objects lie: apart from each other, or packed as the cells of a tissue."""

import cv2
import numpy as np

from recipes.scenes.noise import Rng, Shape, frame_coordinates, smooth_noise

PACKING_GRID = 4
"""Pixels a cell of the grid on which discs are packed."""


def pack_discs(rng: Rng, shape: Shape, radii: np.ndarray, gap: float = 0) -> np.ndarray:
    """Find places for discs that do not overlap, the largest first.

    Args:
        rng: source of chance.
        shape: height and width.
        radii: of the discs, pixels.
        gap: least distance between two, pixels.

    Returns:
        N x (x, y, radius); discs for which there is no room are left out. Some reach over the
        border.
    """
    rows, columns = shape[0] // PACKING_GRID, shape[1] // PACKING_GRID
    free = np.ones((rows, columns), np.uint8)
    placed: list[tuple[float, float, float]] = []
    for radius in np.sort(radii)[::-1]:
        distance = cv2.distanceTransform(free, cv2.DIST_L2, 3)
        room = np.flatnonzero(distance >= (radius + gap) / PACKING_GRID)
        if not len(room):
            continue
        row, column = divmod(int(room[rng.integers(len(room))]), columns)
        cv2.circle(free, (column, row), max(1, round(radius / PACKING_GRID)), 0, -1)
        centre = (np.array([column, row]) + rng.uniform(0, 1, 2)) * PACKING_GRID
        placed.append((centre[0], centre[1], radius))
    return np.array(placed).reshape(-1, 3)


def cell_mosaic(
    rng: Rng, shape: Shape, spacing: float, regularity: float, wobble: float, missing: float = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Cells that fill the frame, as an epithelium's or a neuropil's.

    Args:
        rng: source of chance.
        shape: height and width.
        spacing: mean distance of cells, pixels.
        regularity: 0 for chance, 1 for nearly a honeycomb.
        wobble: how far borders are bent, relative to the spacing.
        missing: share of the cells that are left out, so that others grow larger.

    Returns:
        The cells, int32, H x W, from 1; and the distance of each pixel to the next border,
        float32, pixels.
    """
    margin = spacing
    rows, columns = (int(np.ceil((side + 2 * margin) / spacing)) for side in shape)
    row, column = np.mgrid[:rows, :columns].reshape(2, -1)
    jitter = rng.uniform(-0.5, 0.5, (2, len(row))) * (1 - 0.75 * regularity) * 1.6
    y = (row + 0.5 + jitter[0]) * spacing
    x = (column + 0.5 + 0.5 * (row % 2) + jitter[1]) * spacing
    big = (int(shape[0] + 2 * margin), int(shape[1] + 2 * margin))
    seeds = np.ones(big, np.uint8)
    inside = (y >= 0) & (x >= 0) & (y < big[0]) & (x < big[1]) & (rng.random(len(y)) >= missing)
    seeds[y[inside].astype(int), x[inside].astype(int)] = 0
    _, nearest = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    cells = warp_labels(rng, nearest, shape, spacing, wobble * spacing)
    return cells, border_distance(cells)


def warp_labels(
    rng: Rng, labels: np.ndarray, shape: Shape, scale: float, strength: float
) -> np.ndarray:
    """Bend a label map and cut its middle out.

    Args:
        rng: source of chance.
        labels: int32, at least as large as `shape`.
        shape: height and width of the result.
        scale: of the bends, pixels.
        strength: how far pixels are moved, pixels.
    """
    x, y = frame_coordinates(shape)
    top, left = (np.array(labels.shape) - shape) / 2
    dx, dy = (
        smooth_noise(rng, shape, scale * 0.6) + 0.5 * smooth_noise(rng, shape, scale * 0.25)
        for _ in range(2)
    )
    # Label numbers are too few to lose anything in float32, the only type of that width here.
    moved = cv2.remap(
        labels.astype(np.float32),
        x + np.float32(left) + np.float32(strength) * dx,
        y + np.float32(top) + np.float32(strength) * dy,
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return moved.astype(np.int32)


def border_distance(labels: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest pixel at which the label changes, float32."""
    interior = np.ones(labels.shape, np.uint8)
    changes = labels[1:] != labels[:-1]
    interior[1:][changes] = 0
    interior[:-1][changes] = 0
    changes = labels[:, 1:] != labels[:, :-1]
    interior[:, 1:][changes] = 0
    interior[:, :-1][changes] = 0
    return cv2.distanceTransform(interior, cv2.DIST_L2, 3)
