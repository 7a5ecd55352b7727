"""Cells in transmitted light: phase contrast and differential interference contrast.

Both are made from the cells' thickness. Phase contrast shows thickness less its own wide blur,
which is where the bright halos around dark cells come from; interference contrast shows its slope.
"""

import cv2
import numpy as np
from scipy import ndimage

from recipes.scenes.camera import expose
from recipes.scenes.canvas import Canvas
from recipes.scenes.noise import Rng, Shape, blur, fractal_noise, log_uniform
from recipes.scenes.outlines import Outline, blob, blob_like, edge_distance, spindle, stellate
from recipes.scenes.packing import cell_mosaic, pack_discs


def draw_phase_contrast(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Adherent cells, elongated, stellate or rounded, single or touching.

    Returns:
        The image, uint8, H x W x 3, and the cells, int32, 1 x H x W.
    """
    typical = log_uniform(rng, 12, 55)
    flatness, granules = log_uniform(rng, 0.15, 1), log_uniform(rng, 0.15, 1.5)
    if rng.random() < 0.2:
        thickness = _confluent(rng, shape, 2 * typical, flatness, granules)
    else:
        thickness = _separate(rng, shape, typical, flatness, granules)
    labels = thickness.objects.visible()
    _add_debris(rng, thickness, typical)
    height = thickness.image
    image = _phase(rng, height, typical) if rng.random() < 0.8 else _interference(rng, height)
    ground = fractal_noise(rng, shape, log_uniform(rng, 20, 300), 6)
    image += np.float32(log_uniform(rng, 0.002, 0.025)) * ground
    return expose(rng, image, max_blur=1.2, max_noise=0.022), labels[None]


def _separate(rng: Rng, shape: Shape, typical: float, flatness: float, granules: float) -> Canvas:
    """The thickness of cells that have room, or grow over each other."""
    thickness = Canvas(np.zeros(shape, np.float32))
    count = min(90, round(log_uniform(rng, 0.1, 0.8) * shape[0] * shape[1] / (9 * typical**2)) + 3)
    radii = typical * np.exp(rng.normal(0, 0.3, count))
    outlines = _outlines(rng)
    rounded_share = rng.choice([0, 0.05, 0.3, 1], p=[0.3, 0.4, 0.25, 0.05])
    # Thick cells shift the phase by more than the microscope can tell, and may look bright.
    thick = rng.choice([1, -1])
    for x, y, radius in pack_discs(rng, shape, radii, gap=rng.uniform(-0.7, 0.2) * typical):
        if rng.random() < rounded_share:
            mask = blob_like(rng, radius * 0.6, 0.04, 1.1)
            height = thick * _dome(mask, 0.5) * rng.uniform(1.2, 2.2)
        else:
            mask = outlines[rng.integers(len(outlines))](rng, radius)
            height = _cell(rng, mask, radius, flatness * log_uniform(rng, 0.6, 1.6), granules)
        # Where cells lie over each other, the upper one is seen, and a little of the lower one.
        thickness.place(mask, height, x, y, alpha=mask * np.float32(0.9), defocus=0.6)
    return thickness


def _confluent(rng: Rng, shape: Shape, spacing: float, flatness: float, granules: float) -> Canvas:
    """The thickness of cells that fill the frame, each with its nucleus."""
    cells, distance = cell_mosaic(
        rng, shape, spacing, rng.random(), rng.uniform(0.03, 0.2), rng.uniform(0, 0.5)
    )
    thickness = Canvas(flatness * np.tanh(distance / np.float32(spacing * rng.uniform(0.05, 0.3))))
    height = thickness.image
    height += flatness * 0.15 * granules * fractal_noise(rng, shape, spacing / 3, 2, 0.8)
    thickness.objects.add_all(cells)
    if rng.random() < 0.3:
        # Places that are still free.
        open_ground = fractal_noise(rng, shape, 4 * spacing, 20, 0.4) > rng.uniform(0.3, 1.2)
        free = np.bincount(cells.ravel(), open_ground.ravel()) > 0.5 * np.bincount(cells.ravel())
        height[free[cells]] = 0
        thickness.objects.labels[free[cells]] = 0
    for box in ndimage.find_objects(thickness.objects.labels):
        if box is not None:
            depth = np.where(height[box] > 0, distance[box], 0)
            _add_nucleus(rng, height[box], depth, 0.55 * spacing, flatness)
    _add_granules(rng, height, np.where(height > 0, distance, 0), granules)
    return thickness


def _outlines(rng: Rng) -> list[Outline]:
    choices: list[list[Outline]] = [
        [stellate, spindle],
        [stellate],
        [spindle],
        [blob, stellate],
        [blob],
    ]
    return choices[rng.choice(len(choices), p=[0.35, 0.25, 0.1, 0.2, 0.1])]


def _phase(rng: Rng, height: np.ndarray, typical: float) -> np.ndarray:
    wide = blur(height, typical * log_uniform(rng, 0.08, 0.3))
    narrow = blur(height, log_uniform(rng, 0.8, 2))
    signal = (height - rng.uniform(0.6, 1) * wide) + rng.uniform(0.5, 2.5) * (height - narrow)
    image = -signal * np.float32(log_uniform(rng, 0.045, 0.2) / _strength(signal))
    # Halos are brighter than cells are dark, and end where the detector's range does.
    image = np.where(image > 0, rng.uniform(0.8, 1.6) * image, image)
    image = np.tanh(image * 1.5) * np.float32(0.5)
    if rng.random() < 0.1:
        image = -image
    return image + np.float32(rng.uniform(0.35, 0.6))


def _strength(signal: np.ndarray) -> float:
    """Typical size of what is not ground."""
    return max(float(np.percentile(np.abs(signal[::4, ::4]), 95)), 1e-3)


def _interference(rng: Rng, height: np.ndarray) -> np.ndarray:
    smooth = blur(height, rng.uniform(0.6, 1.5))
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * cv2.Sobel(smooth, -1, 1, 0) + np.sin(angle) * cv2.Sobel(
        smooth, -1, 0, 1
    )
    # Not so strong that the faint outside of a blurred edge looks like a part of the cell.
    strength = max(_strength(slope), 0.3 * float(np.abs(slope).max()))
    slope *= np.float32(log_uniform(rng, 0.2, 0.7) / strength)
    return np.tanh(slope) * np.float32(0.4) + np.float32(rng.uniform(0.4, 0.6))


def _dome(mask: np.ndarray, power: float) -> np.ndarray:
    """Thickness that grows from the edge inwards, 0 to 1."""
    depth = edge_distance(mask)
    # The distance has creases, which a cell has not.
    smooth = blur(depth, 0.15 * float(depth.max()))
    return (np.where(mask, smooth, 0) / max(smooth.max(), 1)) ** np.float32(power)


def _cell(
    rng: Rng, mask: np.ndarray, radius: float, flatness: float, granules: float
) -> np.ndarray:
    """Thickness of a spread cell with its nucleus, nucleoli and granules."""
    shape = (mask.shape[0], mask.shape[1])
    height = flatness * (0.35 + 0.65 * _dome(mask, 0.7))
    if min(shape) < 8:
        return height
    height = height + flatness * 0.3 * granules * fractal_noise(rng, shape, radius / 2, 2, 0.8)
    # The edge of a spread cell is a little thicker than what is behind it.
    depth = edge_distance(mask)
    height += flatness * rng.uniform(0, 0.5) * np.exp(-((depth - 1) ** 2) / 2)
    _add_nucleus(rng, height, depth, radius, flatness)
    _add_granules(rng, height, depth, granules)
    return height.astype(np.float32)


def _add_nucleus(
    rng: Rng, height: np.ndarray, depth: np.ndarray, radius: float, flatness: float
) -> None:
    if radius < 10 or min(height.shape) < 8 or rng.random() < 0.15:
        return
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    size = (max(2, round(radius * rng.uniform(0.25, 0.4))), max(2, round(radius * 0.28)))
    nucleus = np.zeros(height.shape, np.float32)
    centre = (int(column), int(row))
    cv2.ellipse(nucleus, centre, size, rng.uniform(0, 180), 0, 360, 1.0, -1)
    rim = nucleus - cv2.erode(nucleus, np.ones((3, 3), np.uint8))
    height += flatness * (rng.uniform(-0.25, 0.25) * nucleus + rng.uniform(0, 0.25) * rim)
    for _ in range(int(rng.integers(0, 4))):
        spot = np.array(centre) + rng.normal(0, 0.35, 2) * size
        strength = flatness * rng.uniform(0.3, 1)
        dot = np.zeros(height.shape, np.float32)
        cv2.circle(dot, (int(spot[0]), int(spot[1])), max(1, round(radius * 0.05)), strength, -1)
        height += dot


def _add_granules(rng: Rng, height: np.ndarray, depth: np.ndarray, amount: float) -> None:
    inside = np.flatnonzero(depth > 2)
    count = min(int(len(inside) * 0.012 * amount * rng.uniform(0.3, 2)) + 1, len(inside))
    if not count:
        return
    rows, columns = np.divmod(rng.choice(inside, count), height.shape[1])
    granules = np.zeros(height.shape, np.float32)
    np.add.at(granules, (rows, columns), rng.normal(0.3, 0.5, count) * amount)
    sigma = rng.uniform(0.6, 1.2)
    height += blur(granules, sigma) * np.float32(4 * sigma**2)


def _add_debris(rng: Rng, canvas: Canvas, typical: float) -> None:
    """Specks, remains, and what floats out of focus: no objects."""
    rows, columns = canvas.objects.labels.shape
    for _ in range(int(rng.integers(0, 5))):
        mask = blob_like(rng, typical * rng.uniform(0.3, 1), 0.15, 1.6)
        shape = (mask.shape[0], mask.shape[1])
        drift = rng.uniform(0.02, 0.2) * fractal_noise(rng, shape, typical, 3, 0.8)
        x, y = rng.uniform(0, 1, 2) * (columns, rows)
        if canvas.objects.labels[int(y), int(x)] == 0:
            edge = mask * np.float32(0.5)
            canvas.place(mask, drift, x, y, alpha=edge, defocus=typical / 8, labelled=False)
    for _ in range(int(rng.integers(0, 60))):
        mask = blob_like(rng, log_uniform(rng, 1, max(1.5, typical / 9)), 0.3, 1.5)
        x, y = rng.uniform(0, 1, 2) * (columns, rows)
        # Not over a cell, whose label it would not change.
        if canvas.objects.labels[int(y), int(x)] == 0:
            canvas.place(mask, rng.normal(0.1, 0.3), x, y, defocus=0.7, labelled=False)
