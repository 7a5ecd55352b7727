"""Objects of photograph-like scenes: rendered pictures, and outlines with drawn surfaces."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from recipes.scenes.canvas import Canvas
from recipes.scenes.noise import Rng, log_uniform
from recipes.scenes.outlines import Outline, choose_outline
from recipes.scenes.surfaces import (
    contrasting_colour,
    draw_surface,
    mix,
    random_colour,
    shading,
    texture,
)

MIN_ALPHA = 127
"""Pixels of a rendered picture above this belong to the object."""
COMPOSED_SHARE = 0.35
"""Share of the kinds of outlines that have parts, which may be taken for objects."""
PARTS_LABELLED_SHARE = 0.3
"""Share of those of which the parts are objects, in a layer of their own."""


class Drawn(NamedTuple):
    """An object that is ready to be placed.

    Attributes:
        mask: bool, h x w.
        alpha: opacity, float32, h x w, 0 to 1.
        surface: float32, h x w x 3.
        parts: bool, h x w each: parts that are objects, too.
    """

    mask: np.ndarray
    alpha: np.ndarray
    surface: np.ndarray
    parts: tuple[np.ndarray, ...] = ()


class _Part(NamedTuple):
    """Something on an object: its outline, size and shift relative to the object's, and colour."""

    outline: Outline
    size: float
    shift: tuple[float, float]
    colour: np.ndarray


Kind = Callable[[Rng, float, np.ndarray, float], Drawn]
"""Draws an object from a random source, a radius in pixels, the ground's colour where it will lie,
and the direction of the light in radians."""


def choose_kind(rng: Rng, sprites: Sequence[np.ndarray] | None, contrast: float) -> Kind:
    """A kind of object; what it draws is alike, as the cells of a culture or the cars of a road.

    Args:
        rng: source of chance.
        sprites: rendered pictures, RGBA; None if there are none.
        contrast: how far the colours of outlines lie from the ground's.
    """
    if sprites is not None and rng.random() < 0.55:
        return _sprite_kind(rng, sprites[int(rng.integers(len(sprites)))])
    return _outline_kind(rng, contrast)


def _outline_kind(rng: Rng, contrast: float) -> Kind:
    outline = choose_outline(rng)
    shared = random_colour(rng) if rng.random() < 0.5 else None
    smooth_edge = rng.random() < 0.9
    parts = _choose_parts(rng) if rng.random() < COMPOSED_SHARE else []
    parts_labelled = rng.random() < PARTS_LABELLED_SHARE

    def draw(rng: Rng, radius: float, ground: np.ndarray, light: float) -> Drawn:
        mask = outline(rng, radius)
        if shared is None or np.abs(shared - ground).max() < 0.05:
            colour = contrasting_colour(rng, ground, contrast)
        else:
            colour = np.clip(shared + rng.normal(0, 0.04, 3), 0, 1).astype(np.float32)
        alpha = mask.astype(np.float32)
        if smooth_edge and min(mask.shape) > 4:
            alpha = np.where(mask, cv2.blur(alpha, (3, 3)), 0)
        surface = draw_surface(rng, mask, colour, light)
        masks = [_add_part(rng, surface, mask, part, radius, light) for part in parts]
        return Drawn(mask, alpha, surface, _conspicuous(mask, masks) if parts_labelled else ())

    return draw


def _choose_parts(rng: Rng) -> list[_Part]:
    count = int(rng.integers(1, 6))
    return [
        _Part(
            choose_outline(rng),
            log_uniform(rng, 0.1, 0.55),
            (rng.normal(0, 0.4), rng.normal(0, 0.4)),
            random_colour(rng),
        )
        for _ in range(count)
    ]


def _add_part(
    rng: Rng, surface: np.ndarray, mask: np.ndarray, part: _Part, radius: float, light: float
) -> np.ndarray:
    """Draw a part onto the surface of an object; returns its pixels, bool, h x w."""
    own = part.outline(rng, max(1.0, radius * part.size))
    on = Canvas(surface)
    rows, columns = mask.shape
    x, y = columns / 2 + part.shift[0] * radius, rows / 2 + part.shift[1] * radius
    on.place(own, draw_surface(rng, own, part.colour, light), x, y, defocus=0.4)
    return (on.objects.labels > 0) & mask


def _conspicuous(mask: np.ndarray, parts: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The parts that are neither tiny nor nearly everything."""
    whole = mask.sum()
    return tuple(p for p in parts if p.sum() > 60 and 0.05 < p.sum() / whole < 0.6)


def _sprite_kind(rng: Rng, rgba: np.ndarray) -> Kind:
    recolour = _recolouring(rng)
    premultiplied = _premultiplied(rgba)
    upright = rng.random() < 0.4
    # Another surface on a rendered outline, so that outlines rather than drawings are learnt.
    resurface = rng.random() < 0.2

    def draw(rng: Rng, radius: float, ground: np.ndarray, light: float) -> Drawn:
        angle = rng.normal(0, 15) if upright else rng.uniform(0, 360)
        turned = _transformed(rng, premultiplied, radius, angle)
        mask = turned[:, :, 3] > MIN_ALPHA
        alpha = turned[:, :, 3].astype(np.float32) / 255
        if resurface:
            colour = contrasting_colour(rng, ground, log_uniform(rng, 0.08, 0.6))
            return Drawn(mask, alpha, draw_surface(rng, mask, colour, light))
        surface = turned[:, :, :3].astype(np.float32) / np.maximum(turned[:, :, 3:], 1)
        return Drawn(mask, alpha, recolour(np.minimum(surface, 1), mask, light))

    return draw


def _premultiplied(rgba: np.ndarray) -> np.ndarray:
    """Colours times alpha, so that what is transparent leaves no trace when pixels are averaged."""
    alpha = rgba[:, :, 3:].astype(np.uint16)
    return np.concatenate([(rgba[:, :, :3] * alpha // 255).astype(np.uint8), rgba[:, :, 3:]], 2)


def _transformed(rng: Rng, rgba: np.ndarray, radius: float, angle: float) -> np.ndarray:
    """The picture scaled, stretched, flipped and turned; its colours are multiplied by alpha."""
    height, width = rgba.shape[:2]
    stretch = log_uniform(rng, 0.75, 1.33)
    scale = 2 * radius / (height * width) ** 0.5
    size = (max(3, round(width * scale * stretch)), max(3, round(height * scale / stretch)))
    smaller = size[0] < width or size[1] < height
    small = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        small = small[:, ::-1].copy()
    matrix: np.ndarray = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), angle, 1)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    full = (
        int(np.ceil(size[0] * cos + size[1] * sin)) + 1,
        int(np.ceil(size[0] * sin + size[1] * cos)) + 1,
    )
    matrix[:, 2] += (full[0] - size[0]) / 2, (full[1] - size[1]) / 2
    return cv2.warpAffine(small, matrix, full, flags=cv2.INTER_LINEAR)


def _recolouring(rng: Rng) -> Callable[[np.ndarray, np.ndarray, float], np.ndarray]:
    """A change of colours for all objects of a kind: of (surface, mask, light)."""
    mode = int(rng.choice(5, p=[0.4, 0.2, 0.15, 0.15, 0.1]))
    order = rng.permutation(3)
    tint, seed = random_colour(rng), int(rng.integers(2**31))
    gain, gamma = rng.uniform(0.6, 1.1), log_uniform(rng, 0.5, 1.8)

    def change(surface: np.ndarray, mask: np.ndarray, light: float) -> np.ndarray:
        if mode == 1:
            surface = surface[:, :, order]
        elif mode == 2:
            grey = surface.mean(2)
            surface = mix(tint * 0.3, np.minimum(tint * 1.5, 1), grey)
        elif mode == 3:
            local = np.random.default_rng(seed)
            surface = surface * (0.55 + 0.6 * texture(local, mask.shape))[:, :, None]
        elif mode == 4:
            surface = 1 - surface
        if mode:
            surface = gain * surface**gamma * shading(mask, light, 0.4)[:, :, None]
        return surface.astype(np.float32)

    return change
