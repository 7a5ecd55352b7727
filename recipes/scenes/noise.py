"""Random fields: the material of grounds, surfaces and textures. All are float32."""

import cv2
import numpy as np

Rng = np.random.Generator
Shape = tuple[int, int]
"""Height and width, pixels."""


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A number between `low` and `high`, as often in each octave."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def white_noise(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Normal noise without correlation: mean 0, standard deviation 1."""
    return rng.standard_normal(shape, dtype=np.float32)


def smooth_noise(rng: Rng, shape: Shape, cell: float) -> np.ndarray:
    """Noise of one scale, H x W, mean about 0, standard deviation about 0.7.

    Args:
        rng: source of chance.
        shape: height and width.
        cell: distance between independent values, pixels.
    """
    return _enlarge(_grain(rng, _grid(shape, cell)), shape)


def fractal_noise(
    rng: Rng, shape: Shape, coarsest: float, finest: float = 2, persistence: float = 0.6
) -> np.ndarray:
    """Noise of several octaves, H x W, mean 0, standard deviation 1.

    Args:
        rng: source of chance.
        shape: height and width.
        coarsest: scale of the largest features, pixels.
        finest: no feature is smaller than this, pixels.
        persistence: amplitude of an octave relative to the next coarser one.
    """
    # Each octave is added at its own resolution, so that all together cost little more than one.
    field = _grain(rng, _grid(shape, coarsest))
    cell, amplitude = coarsest / 2, persistence
    while cell >= finest:
        grid = _grid(shape, cell)
        field = _enlarge(field, grid) + np.float32(amplitude) * _grain(rng, grid)
        cell, amplitude = cell / 2, amplitude * persistence
    field = _enlarge(field, shape)
    return (field - field.mean()) / (field.std() + np.float32(1e-6))


def blur(field: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of H x W or H x W x C; wide ones at a lower resolution.

    Args:
        field: float32.
        sigma: pixels; nothing is done below 0.2.
    """
    if sigma < 0.2:
        return field
    factor = min(int(sigma / 3), min(field.shape[:2]) // 4)
    if factor < 2:
        return cv2.GaussianBlur(field, (0, 0), sigma)
    height, width = field.shape[:2]
    small = cv2.resize(field, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / factor)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def pad(field: np.ndarray, margin: int, mode: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    """As `numpy.pad`, with zeros or what else OpenCV's `mode` says, at a tenth of its cost."""
    return cv2.copyMakeBorder(field, margin, margin, margin, margin, mode, value=0)


def frame_coordinates(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """The x of every column, 1 x W, and the y of every row, H x 1: float32, pixels."""
    columns = np.arange(shape[1], dtype=np.float32)
    return columns[None], np.arange(shape[0], dtype=np.float32)[:, None]


def ramp(rng: Rng, shape: Shape) -> np.ndarray:
    """A linear gradient in a random direction, -1 to 1 over the longer side."""
    x, y = frame_coordinates(shape)
    angle = rng.uniform(0, 2 * np.pi)
    longer = max(shape)
    along = (x - shape[1] / 2) * np.float32(np.cos(angle))
    across = (y - shape[0] / 2) * np.float32(np.sin(angle))
    return (along + across) * np.float32(2 / longer)


def _grid(shape: Shape, cell: float) -> Shape:
    return max(2, round(shape[0] / cell) + 1), max(2, round(shape[1] / cell) + 1)


def _grain(rng: Rng, shape: Shape) -> np.ndarray:
    """White noise without the finest detail, which would show the grid when it is enlarged."""
    return np.float32(2.2) * cv2.GaussianBlur(white_noise(rng, shape), (3, 3), 0.75)


def _enlarge(field: np.ndarray, shape: Shape) -> np.ndarray:
    return cv2.resize(field, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
