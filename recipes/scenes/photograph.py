"""Photograph-like scenes: any objects on any ground, lit from one side."""

from collections.abc import Sequence

import numpy as np

from recipes.scenes.camera import expose
from recipes.scenes.canvas import Canvas
from recipes.scenes.grounds import draw_ground
from recipes.scenes.noise import Rng, Shape, log_uniform
from recipes.scenes.objects import choose_kind
from recipes.scenes.packing import pack_discs

MIN_RADIUS, MAX_RADIUS = 3.0, 170.0
MAX_COVER = 1.1
"""Objects' areas together, relative to the frame's."""


def draw_photograph(
    rng: Rng, shape: Shape, sprites: Sequence[np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Objects that lie over each other, in colour or, a third of the time, in grey.

    Args:
        rng: source of chance.
        shape: height and width.
        sprites: rendered pictures, RGBA; None for outlines only.

    Returns:
        The image, uint8, H x W x 3, and the objects, int32, 1 x H x W.
    """
    canvas = Canvas(draw_ground(rng, shape))
    light = rng.uniform(0, 2 * np.pi)
    contrast = log_uniform(rng, 0.06, 0.7)
    alike = rng.random() < 0.35
    kinds = [choose_kind(rng, sprites, contrast) for _ in range(1 if alike else rng.integers(2, 9))]
    radii = _radii(rng, shape, alike)
    places = _places(rng, shape, radii)
    shadows = rng.random() < 0.6
    depth_of_field = rng.uniform(0, 2.5) if rng.random() < 0.3 else 0
    for x, y, radius in places:
        ground = canvas.image[int(np.clip(y, 0, shape[0] - 1)), int(np.clip(x, 0, shape[1] - 1))]
        drawn = kinds[rng.integers(len(kinds))](rng, radius, ground, light)
        if shadows:
            length = radius * rng.uniform(0.1, 0.35)
            canvas.shade(
                drawn.mask,
                rng.uniform(0.35, 0.85),
                x - length * np.cos(light),
                y - length * np.sin(light),
                max(0.5, radius * rng.uniform(0.03, 0.15)),
            )
        blurred = rng.random() ** 2 * depth_of_field * min(1, radius / 15)
        canvas.place(drawn.mask, drawn.surface, x, y, alpha=drawn.alpha, defocus=max(0.3, blurred))
    image = canvas.image
    if rng.random() < 0.33:
        image = image @ rng.dirichlet([4, 6, 3]).astype(np.float32)
    return expose(rng, image), canvas.visible_labels()[None]


def _radii(rng: Rng, shape: Shape, alike: bool) -> np.ndarray:
    """Of 3 to 60 objects, the largest first or mixed."""
    typical = log_uniform(rng, 8, 130)
    spread = rng.uniform(0.08, 0.3) if alike else rng.uniform(0.2, 0.8)
    count = round(log_uniform(rng, 3, 60))
    if typical < 20:
        # A few small objects in a large frame would be nearly nothing to learn from.
        count = max(count, 25)
    radii = np.clip(typical * np.exp(rng.normal(0, spread, count)), MIN_RADIUS, MAX_RADIUS)
    covered = np.cumsum(np.pi * radii**2) / (shape[0] * shape[1])
    radii = radii[: max(3, int((covered < MAX_COVER).sum()))]
    return -np.sort(-radii) if rng.random() < 0.6 else radii


def _places(rng: Rng, shape: Shape, radii: np.ndarray) -> np.ndarray:
    """N x (x, y, radius): anywhere, apart from each other, or in heaps."""
    arrangement = rng.random()
    if arrangement < 0.35:
        return pack_discs(rng, shape, radii, gap=rng.uniform(-4, 6))
    if arrangement < 0.8:
        centres = rng.uniform(0, 1, (len(radii), 2)) * (shape[1], shape[0])
    else:
        heaps = rng.uniform(0.15, 0.85, (int(rng.integers(1, 4)), 2)) * (shape[1], shape[0])
        spread = rng.uniform(0.08, 0.2) * min(shape)
        centres = heaps[rng.integers(len(heaps), size=len(radii))]
        centres = centres + rng.normal(0, spread, centres.shape)
        centres = np.clip(centres, 0, (shape[1] - 1, shape[0] - 1))
    return np.column_stack([centres, radii])
