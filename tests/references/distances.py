"""Inputs of the tests of micro-sam's instance decoder, drawn from seeds.

Reference outputs for them are in `distances.npz`, which `make_distances` writes.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import ndimage

FILE = Path(__file__).with_suffix(".npz")

GRID = 8
"""Side of the embedding."""

INPUT_SIZE, ORIGINAL_SIZE = (100, 128), (75, 96)
"""(height, width) of the image in the decoder's output, and of the image itself."""

LAYOUTS = {"bilinear": False, "transposed": True}
"""Both ways to enlarge, and whether that is by transposed convolutions."""

SCENES = {
    # Seed, noise, and parameters: centre, boundary, foreground, smoothing, minimal size.
    "clean": (0, 0.0, (0.5, 0.5, 0.5, 1.6, 0)),
    "noisy": (1, 0.1, (0.4, 0.5, 0.5, 2.0, 100)),
    "very noisy": (2, 0.4, (0.3, 0.4, 0.6, 1.2, 50)),
    "not smoothed": (3, 0.1, (0.5, 0.5, 0.5, 0.0, 20)),
}


def random_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights of these shapes; running statistics among them, which have to be ignored."""
    rng = np.random.default_rng(0)
    state = {}
    for name in sorted(shapes):
        shape = shapes[name]
        if name.endswith("num_batches_tracked"):
            state[name] = np.array(7, np.int64)
        elif name.endswith("running_var"):
            state[name] = rng.uniform(0.5, 2, shape).astype(np.float32)
        else:
            spread = 1 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[1:]))
            state[name] = (spread * rng.standard_normal(shape)).astype(np.float32)
    return state


def random_embedding() -> np.ndarray:
    """Float32, 1 x 256 x GRID x GRID."""
    return np.random.default_rng(1).standard_normal((1, 256, GRID, GRID)).astype(np.float32)


def label_scene(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Objects that touch, are cut by the border, thin, tiny, in parts, or bent around nothing.

    Returns:
        int64, H x W; 0 is background.
    """
    labels, _ = _ellipses(np.random.default_rng(seed), size)
    y, x = np.mgrid[: size[0], : size[1]]
    radius = np.hypot(y - 50, x - 70)
    labels[radius < 24] = 0
    labels[(radius < 22) & (radius > 14) & (x < 80)] = 90
    labels[:14, 40:100] = 0
    labels[4:6, 45:95], labels[8:12, 50:54], labels[8:12, 60:90:7] = 91, 92, 93
    labels[10:18, 2:12], labels[18:30, 12:20] = 94, 94
    return labels


def _ellipses(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels of thirty ellipses, and the distance to the middle of the nearest; 1 outside."""
    y, x = np.mgrid[: size[0], : size[1]]
    labels, center = np.zeros(size, int), np.ones(size)
    for number in range(1, 31):
        cy, cx = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        ry, rx = rng.uniform(6, 24, 2)
        radius = np.hypot((y - cy) / ry, (x - cx) / rx)
        nearest = radius < center
        labels[nearest], center[nearest] = number, radius[nearest]
    return labels, center


def distance_scene(seed: int, noise: float, size: tuple[int, int] = (192, 256)) -> np.ndarray:
    """Maps as a good decoder predicts them for ellipses that touch and overlap, with noise.

    Returns:
        float32, 3 x H x W: foreground, distance to the centre, distance to the boundary.
    """
    rng = np.random.default_rng(seed)
    labels, center = _ellipses(rng, size)
    boundary = np.ones(size)
    for number in np.unique(labels[labels > 0]):
        depth = ndimage.distance_transform_edt(labels == number)
        boundary[labels == number] = 1 - (depth / depth.max())[labels == number]
    maps = np.stack([labels > 0, center, boundary]).astype(float)
    smooth = [
        ndimage.gaussian_filter(one, 1) + noise * ndimage.gaussian_filter(error, 1)
        for one, error in zip(maps, rng.standard_normal(maps.shape), strict=True)
    ]
    return np.clip(smooth, 0, 1).astype(np.float32)
