"""Electron micrographs: grey, packed, outlined by membranes."""

from typing import NamedTuple

import cv2
import numpy as np

from recipes.scenes.axons import draw_axons
from recipes.scenes.camera import expose
from recipes.scenes.canvas import Canvas, clean_labels, stack_layers
from recipes.scenes.noise import (
    Rng,
    Shape,
    fractal_noise,
    frame_coordinates,
    log_uniform,
)
from recipes.scenes.outlines import blob_like, edge_distance, fibre
from recipes.scenes.packing import border_distance, cell_mosaic, pack_discs

ORGANELLES_LABELLED_SHARE = 0.35
"""Share of the scenes of cells in which their organelles are objects, too, in a second layer."""


def draw_electron_micrograph(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Cells with organelles, organelles, or axons in rings of myelin.

    Returns:
        The image, uint8, H x W x 3, and the objects, int32, L x H x W. An axon is what
        is inside its ring.
    """
    kind = (_cells, _organelles, draw_axons)[rng.choice(3, p=[0.4, 0.25, 0.35])]
    image, layers = kind(rng, shape)
    if rng.random() < 0.2:
        image = 1 - image
    image = (image - 0.5) * np.float32(log_uniform(rng, 0.5, 1.3)) + np.float32(
        rng.uniform(0.4, 0.6)
    )
    return expose(rng, image, max_blur=1.6, max_noise=0.14), layers


def _cells(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    spacing = log_uniform(rng, 24, 130)
    tissue = (_packed if rng.random() < 0.75 else _suspended)(rng, shape, spacing)
    canvas, membrane = _with_membranes(rng, tissue, spacing, contrast=0.12)
    labels = clean_labels(np.where(tissue.depth > membrane, tissue.cells, 0))
    if rng.random() < 0.7:
        # Only where a cell is wide enough to hold them.
        _add_organelles(rng, canvas, tissue, spacing * log_uniform(rng, 0.08, 0.2), 0.5)
    organelles = canvas.objects.visible()
    if rng.random() >= ORGANELLES_LABELLED_SHARE:
        organelles[:] = 0
    return canvas.image, stack_layers(organelles, labels)


def _organelles(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    radius = log_uniform(rng, 8, 40)
    spacing = radius * log_uniform(rng, 3, 8)
    tissue = _packed(rng, shape, spacing)
    canvas, _ = _with_membranes(rng, tissue, spacing, contrast=0.05)
    _add_organelles(rng, canvas, tissue, radius, 1)
    return canvas.image, canvas.objects.visible()[None]


class _Tissue(NamedTuple):
    """Cells, int32, H x W, 0 for none, and each pixel's distance to the next border, pixels."""

    cells: np.ndarray
    depth: np.ndarray


def _packed(rng: Rng, shape: Shape, spacing: float) -> _Tissue:
    """Cells that fill the frame."""
    wobble, missing = rng.uniform(0.05, 0.2), rng.uniform(0, 0.6)
    return _Tissue(*cell_mosaic(rng, shape, spacing, rng.random() * 0.7, wobble, missing))


def _suspended(rng: Rng, shape: Shape, spacing: float) -> _Tissue:
    """Cells with resin between them."""
    canvas = Canvas(np.zeros(shape, np.float32))
    count = 10 + round(shape[0] * shape[1] / spacing**2)
    radii = 0.5 * spacing * np.exp(rng.normal(0, 0.35, count))
    roughness = log_uniform(rng, 0.03, 0.25)
    for x, y, radius in pack_discs(rng, shape, radii, gap=rng.uniform(-0.1, 0.2) * spacing):
        canvas.place(blob_like(rng, radius, roughness, log_uniform(rng, 1, 2)), 0, x, y)
    cells = canvas.objects.visible()
    return _Tissue(cells, border_distance(cells))


def _with_membranes(
    rng: Rng, tissue: _Tissue, spacing: float, contrast: float
) -> tuple[Canvas, float]:
    """The tissue in grey, and half a membrane's width, pixels."""
    shape = (tissue.cells.shape[0], tissue.cells.shape[1])
    levels = rng.normal(0, contrast, int(tissue.cells.max()) + 1).astype(np.float32)
    # Resin, if there is any.
    levels[0] = rng.uniform(-0.1, 0.25)
    image = np.float32(rng.uniform(0.5, 0.75)) + levels[tissue.cells]
    grain = fractal_noise(rng, shape, log_uniform(rng, 8, 60), 2, rng.uniform(0.5, 0.9))
    image += np.float32(rng.uniform(0.01, 0.09)) * np.where(tissue.cells > 0, grain, 0.3 * grain)
    half_width = rng.uniform(0.7, 1 + 0.025 * spacing)
    membrane = np.exp(-((tissue.depth / np.float32(half_width)) ** 2))
    image -= np.float32(rng.uniform(0.2, 0.55)) * membrane
    return Canvas(image), half_width


def _add_organelles(
    rng: Rng, canvas: Canvas, tissue: _Tissue, radius: float, density: float
) -> None:
    """Mitochondria, and vesicles as a part of the scenery."""
    shape = rows, columns = (tissue.cells.shape[0], tissue.cells.shape[1])
    distance = np.where(tissue.cells > 0, tissue.depth, 0)
    share = density * log_uniform(rng, 0.03, 0.25)
    count = min(120, 4 + round(share * rows * columns / (4 * radius**2)))
    radii = radius * np.exp(rng.normal(0, 0.25, count))
    darkness = rng.uniform(0.12, 0.4)
    draw = (_mitochondrion, _granule)[rng.choice(2, p=[0.7, 0.3])]
    sausages = rng.uniform(0, 0.4)
    for x, y, size in pack_discs(rng, shape, radii, gap=2):
        room = distance[min(max(int(y), 0), rows - 1), min(max(int(x), 0), columns - 1)]
        if room < 0.35 * size:
            continue
        if rng.random() < sausages:
            mask = fibre(rng, size * 0.7)
        else:
            mask = blob_like(rng, size * 0.85, 0.06, log_uniform(rng, 1, 2.6))
        canvas.place(mask, draw(rng, mask, size, darkness), x, y, defocus=0.7)
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


def _granule(rng: Rng, mask: np.ndarray, size: float, darkness: float) -> np.ndarray:
    """A vesicle with a membrane: dark, or bright inside, and dark in its middle."""
    depth = edge_distance(mask)
    level = 0.6 - darkness * rng.choice([1.2, 0.5, -0.6]) + rng.normal(0, 0.04)
    core = rng.choice([0, 0, 0.3]) * np.clip(depth / max(depth.max(), 1) - 0.4, 0, 0.4)
    rim = np.exp(-(((depth - 1) / np.float32(1.3)) ** 2))
    return (level - core - rng.uniform(0.1, 0.35) * rim).astype(np.float32)
