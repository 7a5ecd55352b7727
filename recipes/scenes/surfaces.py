"""Colours, textures and shading of objects."""

import cv2
import numpy as np

from recipes.scenes.noise import Rng, Shape, blur, fractal_noise, log_uniform, ramp, white_noise
from recipes.scenes.outlines import edge_distance

SHADING_SIDE = 96
"""Shading is smooth, so that it is computed at this many pixels at most."""


def random_colour(rng: Rng) -> np.ndarray:
    """RGB, 3, 0 to 1; greyish ones are as frequent as vivid ones."""
    value = rng.uniform(0.06, 1) ** 0.8
    saturation = rng.beta(0.9, 1.4)
    hue = rng.uniform(0, 1)
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (value * (1 - saturation * (1 - wheel))).astype(np.float32)


def contrasting_colour(rng: Rng, colour: np.ndarray, contrast: float) -> np.ndarray:
    """A colour at a distance of about `contrast` (0 to 1) from another one."""
    direction = rng.normal(size=3) + rng.normal() * 1.5
    direction /= np.abs(direction).max() + 1e-6
    other = colour + contrast * direction
    # Outside the range: to the other side.
    if other.mean() < 0.02 or other.mean() > 0.98:
        other = colour - contrast * direction
    return np.clip(other, 0.02, 0.98).astype(np.float32)


def mix(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """From colour `low` (where `share` is 0) to `high` (1): H x W x 3."""
    return low + share[:, :, None] * (high - low)


def texture(rng: Rng, shape: Shape) -> np.ndarray:
    """Pattern of one of several kinds, H x W, 0 to 1."""
    size = float(max(shape))
    match rng.integers(7):
        case 0:
            noise = fractal_noise(rng, shape, size * rng.uniform(0.2, 1), persistence=0.7)
            return np.clip(0.5 + 0.25 * noise, 0, 1)
        case 1:
            waves = ramp(rng, shape) * rng.uniform(2, 12)
            waves = waves + rng.uniform(0, 0.6) * fractal_noise(rng, shape, size / 2, 4)
            return 0.5 + 0.5 * np.clip(np.sin(waves * np.pi) * log_uniform(rng, 1, 8), -1, 1)
        case 2:
            spots = fractal_noise(rng, shape, max(3.0, size * rng.uniform(0.06, 0.25)), 3, 0.3)
            return np.clip((spots - rng.uniform(0, 1)) * rng.uniform(2, 6), 0, 1)
        case 3:
            # Parts with a sharp edge between them: they are still one object.
            edge = ramp(rng, shape) + rng.normal(0, 0.3)
            edge = edge + 0.15 * fractal_noise(rng, shape, size / 2, 6)
            return np.clip(0.5 + edge * size / 3, 0, 1)
        case 4:
            return np.clip(0.5 + 0.6 * ramp(rng, shape), 0, 1)
        case 5:
            # A relief, as on a coin.
            bumps = fractal_noise(rng, shape, max(4.0, size * rng.uniform(0.1, 0.4)), 4, 0.5)
            bumps = np.clip(bumps * rng.uniform(1, 4), -1, 1)
            slope = np.roll(bumps, 1, 0) - np.roll(bumps, -1, 1)
            return np.clip(0.5 + slope * log_uniform(rng, 0.3, 2), 0, 1)
        case _:
            return np.clip(0.5 + 0.22 * blur(white_noise(rng, shape), rng.uniform(0.0, 1.2)), 0, 1)


def shading(mask: np.ndarray, light: float, height: float, gloss: float = 0) -> np.ndarray:
    """How bright a cushion with this outline is, lit from one side: h x w, about 1.

    Args:
        mask: bool, h x w.
        light: direction that the light comes from, radians.
        height: of the cushion; 0 for flat, 1 for strong shading.
        gloss: 0 for matt; 1 for a reflection of the light.
    """
    rows, columns = mask.shape
    factor = min(1.0, SHADING_SIDE / max(rows, columns))
    size = (max(2, round(columns * factor)), max(2, round(rows * factor)))
    small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    sigma = max(0.8, min(size) / 7)
    dome = cv2.GaussianBlur(small, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    dy, dx = np.gradient(dome) if min(size) > 1 else (dome * 0, dome * 0)
    slope = (dx * np.cos(light) + dy * np.sin(light)) * sigma
    lit = 1 + height * (2.2 * slope + 0.35 * (dome - 0.7))
    lit = lit + gloss * 3 * np.maximum(lit - 0.85 * lit.max(), 0) / (lit.max() + 1e-3) * 3
    return cv2.resize(np.clip(lit, 0.15, 2.5).astype(np.float32), (columns, rows))


def draw_surface(rng: Rng, mask: np.ndarray, colour: np.ndarray, light: float) -> np.ndarray:
    """A surface for an outline: a colour with texture and shading, h x w x 3, float32.

    Args:
        rng: source of chance.
        mask: bool, h x w.
        colour: RGB, 3.
        light: direction that the light comes from, radians.
    """
    shape = (mask.shape[0], mask.shape[1])
    if rng.random() < 0.75 and min(shape) >= 6:
        other = contrasting_colour(rng, colour, log_uniform(rng, 0.04, 0.6))
        surface = mix(colour, other, texture(rng, shape))
    else:
        surface = np.broadcast_to(colour, (*shape, 3))
    if rng.random() < 0.65 and min(shape) >= 6:
        gloss = rng.choice([0, rng.uniform(0, 1)])
        surface = surface * shading(mask, light, log_uniform(rng, 0.2, 1.2), gloss)[:, :, None]
    if rng.random() < 0.15:
        surface = _rimmed(rng, mask, surface)
    return surface.astype(np.float32)


def _rimmed(rng: Rng, mask: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """With a rim in another colour."""
    depth = edge_distance(mask)
    rim = depth < max(1.5, rng.uniform(0.05, 0.3) * depth.max())
    return np.where(rim[:, :, None], random_colour(rng), surface)
