"""Fluorescence: bright objects on a dark ground, with haze and photon noise."""

import numpy as np

from recipes.scenes.camera import expose
from recipes.scenes.canvas import Canvas, clean_labels
from recipes.scenes.noise import Rng, Shape, blur, fractal_noise, log_uniform
from recipes.scenes.outlines import blob, blob_like, edge_distance, fibre, spindle, stellate
from recipes.scenes.packing import cell_mosaic, pack_discs


def draw_fluorescence(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei, whole cells, or a tissue of which the membranes or the insides glow.

    Returns:
        The image, uint8, H x W x 3, and the objects, int32, 1 x H x W.
    """
    if rng.random() < 0.3:
        signal, labels = _tissue(rng, shape)
    else:
        signal, labels = _separate(rng, shape)
    haze = blur(signal, log_uniform(rng, 10, 60)) * np.float32(rng.uniform(0, 0.6))
    floor = log_uniform(rng, 0.01, 0.15)
    image = floor + signal + haze
    image *= 1 + np.float32(rng.uniform(0, 0.15)) * fractal_noise(rng, shape, 300, 40)
    image = np.clip(image / max(float(np.percentile(image[::8, ::8], 99.5)), 0.05), 0, 1.2)
    image = (image * rng.uniform(0.4, 1)) ** np.float32(log_uniform(rng, 0.6, 1.3))
    if rng.random() < 0.25:
        tint = np.array([[0.2, 0.4, 1], [0.1, 1, 0.2], [1, 0.2, 0.1], [1, 0.9, 0.1]])
        image = image[:, :, None] * tint[rng.integers(4)].astype(np.float32)
    pixels = expose(rng, image, max_blur=2.0, max_noise=0.1, poisson=rng.uniform(0.3, 1))
    return pixels, labels[None]


def _separate(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    canvas = Canvas(np.zeros(shape, np.float32))
    typical = log_uniform(rng, 5, 45)
    cover = log_uniform(rng, 0.05, 0.9)
    count = min(180, round(cover * shape[0] * shape[1] / (4 * typical**2)) + 3)
    radii = typical * np.exp(rng.normal(0, 0.25, count))
    kind = rng.choice(4, p=[0.55, 0.2, 0.15, 0.1])
    roughness = log_uniform(rng, 0.02, 0.2)
    spread = log_uniform(rng, 0.05, 0.6)
    clumps = rng.uniform(0, 0.35)
    for x, y, radius in pack_discs(rng, shape, radii, gap=rng.uniform(-0.5, 0.3) * typical):
        if kind == 0:
            mask = blob_like(rng, radius, roughness, log_uniform(rng, 1, 1.8))
        else:
            mask = ((stellate, blob), (spindle,), (fibre,))[kind - 1][0](rng, radius * 0.8)
        brightness = np.exp(rng.normal(0, spread))
        surface = _inside(rng, mask, clumps, nucleus=kind == 1)
        canvas.place(mask, surface * np.float32(brightness), x, y, defocus=rng.uniform(0.5, 2))
    return canvas.image, canvas.objects.visible()


def _inside(rng: Rng, mask: np.ndarray, clumps: float, nucleus: bool) -> np.ndarray:
    shape = (mask.shape[0], mask.shape[1])
    depth = edge_distance(mask)
    relative = depth / max(depth.max(), 1)
    surface = 0.7 + 0.3 * relative
    if min(shape) >= 8:
        surface = surface + clumps * fractal_noise(rng, shape, max(shape) / 3, 3, 0.7)
    if nucleus:
        # The nucleus of a stained cell is darker or brighter; it belongs to the cell.
        core = relative > rng.uniform(0.45, 0.7)
        surface = np.where(core, surface * rng.choice([0.35, 0.6, 1.6, 2.5]), surface)
    return np.clip(surface, 0.05, 4).astype(np.float32)


def _tissue(rng: Rng, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    spacing = log_uniform(rng, 22, 110)
    cells, distance = cell_mosaic(rng, shape, spacing, rng.random(), rng.uniform(0.02, 0.2))
    count = int(cells.max()) + 1
    width = rng.uniform(1, 1 + spacing * 0.05)
    membrane = np.exp(-((distance / np.float32(width)) ** 2))
    levels = np.exp(rng.normal(0, rng.uniform(0.05, 0.5), count)).astype(np.float32)[cells]
    texture = 1 + rng.uniform(0, 0.3) * fractal_noise(rng, shape, spacing / 2, 2, 0.7)
    if rng.random() < 0.6:
        signal = membrane * (1 + 0.3 * fractal_noise(rng, shape, 60, 4))
        signal += rng.uniform(0, 0.35) * levels * texture
        labels = cells
    else:
        gap = rng.uniform(0.5, 2.5)
        signal = np.where(distance > gap, levels * texture, np.float32(0))
        # As the gap between the cells is not a cell.
        labels = np.where(distance > gap, cells, 0)
    if rng.random() < 0.4:
        core = distance > spacing * rng.uniform(0.2, 0.28)
        signal = np.where(core, signal + rng.uniform(-0.3, 0.8), signal)
    return np.maximum(signal, 0).astype(np.float32), clean_labels(labels)
