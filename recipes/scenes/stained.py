"""Stained tissue and smears in brightfield, by the light that each stain absorbs."""

import cv2
import numpy as np

from recipes.scenes.camera import expose
from recipes.scenes.canvas import Canvas, clean_labels, stack_layers
from recipes.scenes.noise import Rng, Shape, fractal_noise, log_uniform, ramp
from recipes.scenes.outlines import blob_like, edge_distance
from recipes.scenes.packing import cell_mosaic, pack_discs

NUCLEAR_STAINS = ((0.65, 0.70, 0.29), (0.27, 0.57, 0.78), (0.85, 0.55, 0.15), (0.58, 0.58, 0.58))
"""Absorption of red, green and blue: haematoxylin, DAB, methyl green or blue, grey."""
NUCLEI_LABELLED_SHARE = 0.3
"""Share of the smears in which nuclei are objects, too, in a layer of their own."""
MAX_NUCLEI = 250
"""In packed cells; each is drawn by itself."""
GROUND_STAINS = ((0.07, 0.99, 0.11), (0.30, 0.75, 0.30), (0.25, 0.30, 0.60), (0.5, 0.5, 0.5))


def draw_stained(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei in tissue, cells of a smear, or cells of a tissue with their borders.

    Returns:
        The image, uint8, H x W x 3, and the objects, int32, L x H x W.
    """
    kind = (_nuclei, _smear, _tissue)[rng.choice(3, p=[0.5, 0.25, 0.25])]
    nuclear, ground, labels = kind(rng, shape)
    stain = int(rng.choice(4, p=[0.55, 0.2, 0.15, 0.1]))
    absorbed = _stain(rng, NUCLEAR_STAINS[stain], nuclear)
    absorbed += _stain(rng, GROUND_STAINS[stain], ground)
    light = 1 - rng.uniform(0, 0.08, 3).astype(np.float32)
    pixels = expose(rng, light * np.exp(-absorbed), max_blur=1.6, max_noise=0.05)
    return pixels, labels


def _stain(rng: Rng, colour: tuple[float, float, float], density: np.ndarray) -> np.ndarray:
    varied = np.array(colour) * np.exp(rng.normal(0, 0.2, 3))
    return np.maximum(density, 0)[:, :, None] * varied.astype(np.float32)


def _nuclei(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    background = np.float32(rng.uniform(0, 0.25)) * (1 + 0.4 * fractal_noise(rng, shape, 80, 3))
    canvas = Canvas(background.astype(np.float32))
    typical = log_uniform(rng, 6, 35)
    cover = log_uniform(rng, 0.08, 0.9)
    count = min(200, 4 + round(cover * shape[0] * shape[1] / (4.5 * typical**2)))
    radii = typical * np.exp(rng.normal(0, 0.2, count))
    elongation, strength = log_uniform(rng, 1.05, 2.2), log_uniform(rng, 0.4, 1.6)
    spread = rng.uniform(0.05, 0.35)
    for x, y, radius in pack_discs(rng, shape, radii, gap=rng.uniform(-0.3, 0.4) * typical):
        mask = blob_like(rng, radius, 0.05, elongation * log_uniform(rng, 0.85, 1.2))
        density = strength * np.exp(rng.normal(0, spread)) * _chromatin(rng, mask)
        canvas.place(mask, density, x, y, defocus=rng.uniform(0.5, 1.3))
    return canvas.image, _fibrous(rng, shape), canvas.objects.visible()[None]


def _chromatin(rng: Rng, mask: np.ndarray) -> np.ndarray:
    shape = (mask.shape[0], mask.shape[1])
    depth = edge_distance(mask)
    density = 0.8 + rng.uniform(0, 0.5) * np.exp(-((depth - 1) ** 2) / 3)
    if min(shape) >= 8:
        clumps = fractal_noise(rng, shape, max(shape) / 4, 2, 0.8)
        density = density + rng.uniform(0.05, 0.3) * clumps
    return np.maximum(density, 0.1).astype(np.float32)


def _fibrous(rng: Rng, shape: Shape) -> np.ndarray:
    """Density of the ground's stain: fibres, cytoplasm, and holes without stain."""
    base = 0.35 + 0.15 * fractal_noise(rng, shape, log_uniform(rng, 30, 250), 2, 0.7)
    bend = fractal_noise(rng, shape, 250, 10)
    waves = ramp(rng, shape) * rng.uniform(8, 40) + rng.uniform(0.5, 4) * bend
    density = base + rng.uniform(0, 0.12) * np.sin(waves)
    if rng.random() < 0.5:
        holes = fractal_noise(rng, shape, log_uniform(rng, 40, 200), 8, 0.5)
        density = density * np.clip((1.2 - holes) * 5, 0, 1)
    return (density * log_uniform(rng, 0.3, 1.6)).astype(np.float32)


def _smear(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Single cells with nuclei on an empty ground; the object is the whole cell."""
    nuclear = Canvas(np.zeros(shape, np.float32))
    ground = Canvas(np.full(shape, rng.uniform(0, 0.1), np.float32))
    typical = log_uniform(rng, 12, 70)
    count = min(120, 4 + round(log_uniform(rng, 0.1, 0.9) * shape[0] * shape[1] / (4 * typical**2)))
    radii = typical * np.exp(rng.normal(0, 0.25, count))
    strength, ratio = log_uniform(rng, 0.15, 0.9), rng.uniform(0.2, 0.65)
    without_nucleus = rng.choice([0, 0.1, 1], p=[0.5, 0.3, 0.2])
    for x, y, radius in pack_discs(rng, shape, radii, gap=rng.uniform(-0.5, 0.3) * typical):
        cell = blob_like(rng, radius, 0.06, log_uniform(rng, 1, 1.5))
        density = strength * np.exp(rng.normal(0, 0.15)) * _cytoplasm(rng, cell)
        ground.place(cell, density, x, y, defocus=0.8)
        nuclear.place(cell, rng.uniform(0, 0.15), x, y, defocus=0.8, labelled=False)
        if rng.random() >= without_nucleus:
            nucleus = blob_like(rng, max(2, radius * ratio), 0.06, 1.2)
            shift = rng.normal(0, 0.12, 2) * radius
            nuclear.place(nucleus, _chromatin(rng, nucleus), x + shift[0], y + shift[1])
    nuclei = nuclear.objects.visible()
    if rng.random() >= NUCLEI_LABELLED_SHARE:
        nuclei[:] = 0
    return nuclear.image, ground.image, stack_layers(nuclei, ground.objects.visible())


def _cytoplasm(rng: Rng, mask: np.ndarray) -> np.ndarray:
    shape = (mask.shape[0], mask.shape[1])
    depth = edge_distance(mask)
    relative = depth / max(depth.max(), 1)
    # Red blood cells are pale in the middle, others at the edge.
    density = 1 + rng.uniform(-0.6, 0.5) * relative
    if min(shape) >= 8:
        density = density + rng.uniform(0, 0.15) * fractal_noise(rng, shape, max(shape) / 3, 2, 0.8)
    return np.maximum(density, 0.1).astype(np.float32)


def _tissue(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packed cells, each with borders and mostly a nucleus; the objects are the cells."""
    spacing = log_uniform(rng, 28, 110)
    cells, distance = cell_mosaic(rng, shape, spacing, rng.random(), rng.uniform(0.02, 0.15))
    levels = np.exp(rng.normal(0, 0.15, int(cells.max()) + 1)).astype(np.float32)
    border = np.exp(-((distance / np.float32(rng.uniform(1, 3))) ** 2))
    texture = 1 + rng.uniform(0, 0.2) * fractal_noise(rng, shape, spacing / 2, 2, 0.8)
    ground = rng.uniform(0.1, 0.6) * levels[cells] * texture
    ground += rng.choice([-0.35, 0.3, 0.7]) * border
    nuclear = Canvas(np.zeros(shape, np.float32))
    if rng.random() < 0.75:
        peaks = (distance > spacing * 0.25) & (distance == cv2.dilate(distance, np.ones((15, 15))))
        for y, x in rng.permutation(np.argwhere(peaks))[:MAX_NUCLEI]:
            nucleus = blob_like(rng, spacing * rng.uniform(0.13, 0.2), 0.07, 1.2)
            nuclear.place(nucleus, 0.8 * _chromatin(rng, nucleus), float(x), float(y))
    return nuclear.image, ground.astype(np.float32), clean_labels(cells)[None]
