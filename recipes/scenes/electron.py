"""Electron micrographs: grey, packed, outlined by membranes."""

import cv2
import numpy as np

from recipes.scenes.camera import expose
from recipes.scenes.canvas import Canvas, clean_labels, stack_layers
from recipes.scenes.noise import (
    Rng,
    Shape,
    fractal_noise,
    frame_coordinates,
    log_uniform,
    smooth_noise,
)
from recipes.scenes.outlines import blob_like, edge_distance
from recipes.scenes.packing import cell_mosaic, pack_discs

ORGANELLES_LABELLED_SHARE = 0.35
"""Share of the scenes of cells in which their organelles are objects, too, in a second layer."""


def draw_electron_micrograph(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Cells with organelles, organelles, or axons in rings of myelin.

    Returns:
        The image, uint8, H x W x 3, and the objects, int32, L x H x W. An axon is what
        is inside its ring.
    """
    kind = (_cells, _organelles, _axons)[rng.choice(3, p=[0.4, 0.25, 0.35])]
    image, layers = kind(rng, shape)
    if rng.random() < 0.2:
        image = 1 - image
    image = (image - 0.5) * np.float32(log_uniform(rng, 0.5, 1.3)) + np.float32(
        rng.uniform(0.4, 0.6)
    )
    return expose(rng, image, max_blur=1.6, max_noise=0.14), layers


def _cells(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    spacing = log_uniform(rng, 24, 130)
    canvas, cells, distance, membrane = _neuropil(rng, shape, spacing, contrast=0.12)
    labels = clean_labels(np.where(distance > membrane, cells, 0))
    if rng.random() < 0.7:
        # Only where a cell is wide enough to hold them.
        _add_organelles(rng, canvas, distance, spacing * log_uniform(rng, 0.08, 0.2), 0.5)
    organelles = canvas.objects.visible()
    if rng.random() >= ORGANELLES_LABELLED_SHARE:
        organelles[:] = 0
    return canvas.image, stack_layers(organelles, labels)


def _organelles(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    radius = log_uniform(rng, 8, 40)
    spacing = radius * log_uniform(rng, 3, 8)
    canvas, _, distance, _ = _neuropil(rng, shape, spacing, contrast=0.05)
    _add_organelles(rng, canvas, distance, radius, 1)
    return canvas.image, canvas.objects.visible()[None]


def _neuropil(
    rng: Rng, shape: Shape, spacing: float, contrast: float
) -> tuple[Canvas, np.ndarray, np.ndarray, float]:
    """A mosaic of cells: the canvas, the cells, distance to the border, half a membrane's width."""
    wobble = rng.uniform(0.05, 0.2)
    cells, distance = cell_mosaic(
        rng, shape, spacing, rng.random() * 0.7, wobble, missing=rng.uniform(0, 0.6)
    )
    levels = rng.normal(0, contrast, int(cells.max()) + 1).astype(np.float32)
    image = np.float32(rng.uniform(0.5, 0.75)) + levels[cells]
    grain = fractal_noise(rng, shape, log_uniform(rng, 8, 60), 2, rng.uniform(0.5, 0.9))
    image += np.float32(rng.uniform(0.01, 0.09)) * grain
    half_width = rng.uniform(0.7, 1 + 0.025 * spacing)
    membrane = np.exp(-((distance / np.float32(half_width)) ** 2))
    image -= np.float32(rng.uniform(0.2, 0.55)) * membrane
    return Canvas(image), cells, distance, half_width


def _add_organelles(
    rng: Rng, canvas: Canvas, distance: np.ndarray, radius: float, density: float
) -> None:
    """Mitochondria, and vesicles as a part of the scenery."""
    shape = (canvas.objects.labels.shape[0], canvas.objects.labels.shape[1])
    rows, columns = shape
    share = density * log_uniform(rng, 0.03, 0.25)
    count = min(120, 4 + round(share * rows * columns / (4 * radius**2)))
    radii = radius * np.exp(rng.normal(0, 0.25, count))
    darkness = rng.uniform(0.12, 0.4)
    for x, y, size in pack_discs(rng, shape, radii, gap=2):
        room = distance[min(max(int(y), 0), rows - 1), min(max(int(x), 0), columns - 1)]
        if room < 0.35 * size:
            continue
        mask = blob_like(rng, size * 0.85, 0.06, log_uniform(rng, 1, 2.6))
        canvas.place(mask, _mitochondrion(rng, mask, size, darkness), x, y, defocus=0.7)
    if rng.random() < 0.5:
        for x, y in rng.uniform(0, 1, (int(rng.integers(10, 200)), 2)) * (columns, rows):
            at = (int(x), int(y))
            if canvas.objects.labels[at[1], at[0]] == 0 and distance[at[1], at[0]] > 5:
                cv2.circle(canvas.image, at, int(rng.integers(2, 5)), rng.uniform(0.3, 0.5), 1)


def _mitochondrion(rng: Rng, mask: np.ndarray, size: float, darkness: float) -> np.ndarray:
    shape = (mask.shape[0], mask.shape[1])
    x, y = frame_coordinates(shape)
    angle, period = rng.uniform(0, np.pi), max(4.0, size * rng.uniform(0.18, 0.4))
    across = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    bend = fractal_noise(rng, shape, max(8, size), 4) if min(shape) > 6 else np.float32(0)
    cristae = np.sin(across * np.float32(2 * np.pi / period) + rng.uniform(0.6, 2.5) * bend)
    depth = edge_distance(mask)
    rim = np.exp(-(((depth - 1) / np.float32(1.2)) ** 2))
    level = 0.62 - darkness + rng.normal(0, 0.03)
    return (level + rng.uniform(0, 0.09) * cristae - 0.18 * rim).astype(np.float32)


def _axons(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
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


_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def _plane(values: np.ndarray | float, size: Shape) -> np.ndarray:
    return np.broadcast_to(np.asarray(values, np.float32), size)
