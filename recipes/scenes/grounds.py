"""Grounds of photograph-like scenes: with edges of their own, which belong to no object."""

import cv2
import numpy as np

from recipes.scenes.noise import (
    Rng,
    Shape,
    blur,
    fractal_noise,
    frame_coordinates,
    log_uniform,
    ramp,
    smooth_noise,
)
from recipes.scenes.packing import cell_mosaic
from recipes.scenes.surfaces import contrasting_colour, mix, random_colour


def draw_ground(rng: Rng, shape: Shape) -> np.ndarray:
    """A ground of one or two materials, float32, H x W x 3, about 0 to 1."""
    colour = random_colour(rng)
    ground = _material(rng, shape, colour)
    if rng.random() < 0.35:
        other = contrasting_colour(rng, colour, log_uniform(rng, 0.1, 0.7))
        ground += _border(rng, shape)[:, :, None] * (_material(rng, shape, other) - ground)
    if rng.random() < 0.3:
        _add_strokes(rng, ground)
    if rng.random() < 0.25:
        ground = blur(ground, log_uniform(rng, 1, 12))
    return ground


def grey_pattern(rng: Rng, shape: Shape) -> np.ndarray:
    """One of the patterns that a material may have, float32, H x W, 0 to 1."""
    match rng.choice(6, p=[0.3, 0.15, 0.15, 0.15, 0.1, 0.15]):
        case 0:
            noise = fractal_noise(rng, shape, log_uniform(rng, 30, 400), 2, rng.uniform(0.4, 0.8))
            return np.clip(0.5 + 0.22 * noise, 0, 1)
        case 1:
            bend = rng.uniform(0, 0.25) * fractal_noise(rng, shape, 300, 20)
            waves = np.sin((ramp(rng, shape) + bend) * np.float32(np.pi * log_uniform(rng, 3, 50)))
            return 0.5 + 0.5 * np.clip(waves * log_uniform(rng, 1, 6), -1, 1)
        case 2:
            return _mosaic(rng, shape)
        case 3:
            ridges = np.abs(fractal_noise(rng, shape, log_uniform(rng, 40, 300), 3, 0.5))
            return np.clip(ridges * rng.uniform(0.6, 2), 0, 1)
        case 4:
            return _bricks(rng, shape)
        case _:
            noise = fractal_noise(rng, shape, log_uniform(rng, 15, 150), 3, 0.5)
            return np.clip(0.5 + noise * log_uniform(rng, 0.5, 6), 0, 1)


def _material(rng: Rng, shape: Shape, colour: np.ndarray) -> np.ndarray:
    if rng.random() < 0.2:
        ground = np.empty((*shape, 3), np.float32)
        ground[:] = colour
    else:
        other = contrasting_colour(rng, colour, log_uniform(rng, 0.03, 0.5))
        ground = mix(colour, other, grey_pattern(rng, shape))
    light = 1 + rng.uniform(0, 0.3) * ramp(rng, shape)
    if rng.random() < 0.6:
        light += rng.uniform(0.02, 0.15) * fractal_noise(rng, shape, log_uniform(rng, 8, 100), 2)
    ground *= light[:, :, None]
    return ground


def _border(rng: Rng, shape: Shape) -> np.ndarray:
    """Where the second material is, H x W, 0 to 1: a horizon, or irregular areas."""
    if rng.random() < 0.5:
        field = ramp(rng, shape) + rng.uniform(-0.5, 0.5)
        field = field + rng.uniform(0, 0.04) * fractal_noise(rng, shape, 200, 8)
    else:
        field = 0.5 * smooth_noise(rng, shape, log_uniform(rng, 80, 350))
    return np.clip(0.5 + field * log_uniform(rng, 10, 200), 0, 1)


def _mosaic(rng: Rng, shape: Shape) -> np.ndarray:
    spacing = log_uniform(rng, 20, 120)
    cells, distance = cell_mosaic(rng, shape, spacing, rng.random(), rng.uniform(0, 0.3))
    values = rng.random(int(cells.max()) + 1, dtype=np.float32)
    joints = np.clip(distance / (spacing * rng.uniform(0.02, 0.15)), 0, 1)
    return values[cells] * joints if rng.random() < 0.5 else joints


def _bricks(rng: Rng, shape: Shape) -> np.ndarray:
    x, y = frame_coordinates(shape)
    width, height = log_uniform(rng, 20, 160), log_uniform(rng, 15, 80)
    row = np.floor(y / height)
    offset = (row % 2) * rng.choice([0, 0.5])
    across = (x / width + offset) % 1 * width
    along = y % height
    joint = rng.uniform(1, 5)
    bricks = (across > joint) & (along > joint)
    tone = rng.random((int(shape[0] / height) + 1, int(shape[1] / width) + 3), dtype=np.float32)
    column = np.floor(x / width + offset).astype(int)
    return np.where(bricks, 0.4 + 0.6 * tone[row.astype(int), column], 0).astype(np.float32)


def _add_strokes(rng: Rng, ground: np.ndarray) -> None:
    """Thin lines and scratches: edges that enclose nothing."""
    rows, columns = ground.shape[:2]
    for _ in range(int(rng.integers(5, 60))):
        start = rng.uniform(0, 1, 2) * (columns, rows)
        steps = rng.normal(0, 1, (6, 2)) * 8 + rng.normal(0, 1, 2) * log_uniform(rng, 4, 50)
        points = np.rint(start + np.cumsum(steps, 0)).astype(np.int32)
        colour = np.clip(ground[int(start[1]), int(start[0])] + rng.normal(0, 0.25), 0, 1)
        thickness = 1 if rng.random() < 0.7 else 2
        cv2.polylines(
            ground,
            [points],
            False,
            [float(c) for c in np.broadcast_to(colour, 3)],
            thickness,
            cv2.LINE_AA,
        )
