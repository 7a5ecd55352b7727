"""Axons in rings of myelin, as electron microscopes show them."""

import cv2
import numpy as np

from recipes.scenes.canvas import Canvas
from recipes.scenes.noise import Rng, Shape, fractal_noise, log_uniform, smooth_noise
from recipes.scenes.outlines import blob_like, edge_distance
from recipes.scenes.packing import pack_discs

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def draw_axons(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Axons of all sizes, close together.

    Returns:
        The image, float32, H x W, and the axons without their rings, int32, 1 x H x W.
    """
    base = rng.uniform(0.3, 0.6)
    grain = fractal_noise(rng, shape, log_uniform(rng, 10, 80), 2, 0.8)
    canvas = Canvas(np.float32(base) + np.float32(rng.uniform(0.02, 0.14)) * grain)
    typical = log_uniform(rng, 9, 75)
    count = min(260, 8 + round(1.3 * shape[0] * shape[1] / (4 * typical**2)))
    radii = np.clip(typical * np.exp(rng.normal(0, 0.55, count)), 5, 170)
    bright = rng.random() < 0.6
    ring_level = rng.uniform(0.75, 0.98) if bright else rng.uniform(0.02, 0.2)
    inner_level = rng.uniform(0.12, 0.45) if bright else rng.uniform(0.5, 0.85)
    share, roughness = rng.uniform(0.18, 0.45), log_uniform(rng, 0.03, 0.18)
    fuzz = rng.uniform(0, 0.12)
    stripes, period = rng.choice([0, rng.uniform(0, 0.08)]), rng.uniform(0.8, 2)
    for x, y, radius in pack_discs(rng, shape, radii, gap=rng.uniform(-0.2, 0.05) * typical):
        outer = np.pad(blob_like(rng, radius, roughness, log_uniform(rng, 1, 1.6)), 2)
        size = (outer.shape[0], outer.shape[1])
        depth = edge_distance(outer)
        uneven = smooth_noise(rng, size, max(4, radius / 2)) if radius > 8 else np.float32(0)
        grainy = (
            fractal_noise(rng, size, max(4, radius / 2), 2, 0.8) if radius > 8 else np.float32(0)
        )
        ring = depth.max() * share * rng.uniform(0.7, 1.3)
        inner = depth > ring * (1 + 0.25 * uneven)
        inner = outer & cv2.morphologyEx(inner.astype(np.uint8), cv2.MORPH_OPEN, _CROSS).view(bool)
        if inner.sum() < 12:
            continue
        lamellae = stripes * np.sin(depth * np.float32(period))
        surface = ring_level + fuzz * grainy + lamellae - 0.3 * np.exp(-depth) * (ring_level - base)
        canvas.place(outer, _plane(surface, size), x, y, defocus=0.8, labelled=False)
        level = inner_level + rng.normal(0, 0.05)
        inside = level + rng.uniform(0.2, 1) * fuzz * grainy
        surface = np.array(_plane(inside, size))
        if radius > 14:
            _add_axoplasm(rng, surface, inner, radius, 0.2 * (ring_level - inner_level))
        canvas.place(inner, surface, x, y, defocus=0.8)
    return canvas.image, canvas.objects.visible()[None]


def _add_axoplasm(
    rng: Rng, surface: np.ndarray, inner: np.ndarray, radius: float, contrast: float
) -> None:
    """Organelles inside an axon, and the gap where it came off its myelin; all belong to it."""
    rows, columns = inner.shape
    for _ in range(int(rng.integers(0, 6))):
        centre = (int(rng.uniform(0.3, 0.7) * columns), int(rng.uniform(0.3, 0.7) * rows))
        size = np.maximum(1, radius * rng.uniform(0.04, 0.15, 2)).astype(int).tolist()
        level = float(surface[centre[1], centre[0]] + contrast * rng.uniform(0.3, 2))
        cv2.ellipse(surface, centre, size, rng.uniform(0, 180), 0, 360, level, -1)
        cv2.ellipse(surface, centre, size, rng.uniform(0, 180), 0, 360, level + contrast, 1)
    if rng.random() < 0.2:
        moved = np.roll(inner, rng.integers(-4, 5, 2) * max(1, int(radius / 20)), (0, 1))
        surface[inner & ~moved] -= 1.5 * contrast


def _plane(values: np.ndarray | float | np.floating, size: Shape) -> np.ndarray:
    return np.broadcast_to(np.asarray(values, np.float32), size)
