"""Outlines of drawn objects, as masks that are cropped to the object: bool, h x w."""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from recipes.scenes.noise import Rng, log_uniform, pad

Outline = Callable[[Rng, float], np.ndarray]
"""Draws a mask from a random source and a radius in pixels."""

SUBPIXEL_BITS = 4
"""Of the coordinates that OpenCV draws polygons with."""
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789&?@$abdeghkmnpqsz"


def blob(rng: Rng, radius: float) -> np.ndarray:
    """A smooth closed outline, from nearly round to lobed."""
    return blob_like(rng, radius, log_uniform(rng, 0.02, 0.35), log_uniform(rng, 1, 2.2))


def blob_like(rng: Rng, radius: float, roughness: float, elongation: float) -> np.ndarray:
    """A blob of which more is given.

    Args:
        rng: source of chance.
        radius: of the disc that has about its area, pixels.
        roughness: 0 for an ellipse, 0.3 for strong lobes.
        elongation: longer axis over shorter axis.
    """
    angles = _angles(radius)
    orders = np.arange(2, 9)
    waves = np.sin(orders[:, None] * angles + rng.uniform(0, 2 * np.pi, (7, 1)))
    weights = rng.normal(0, roughness, 7) / (orders - 1) ** 0.8
    radii = radius * np.exp(weights @ waves)
    return _fill(_turned(rng, radii * np.cos(angles), radii * np.sin(angles), elongation))


def polygon(rng: Rng, radius: float) -> np.ndarray:
    """A polygon with 3 to 8 corners; every third one is a rectangle."""
    if rng.random() < 0.35:
        x, y = (
            np.array([-1, 1, 1, -1.0]) * radius * 0.85,
            np.array([-1, -1, 1, 1.0]) * radius * 0.85,
        )
        return _fill(_turned(rng, x, y, log_uniform(rng, 1, 3)))
    corners = int(rng.integers(3, 9))
    angles = (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * 2 * np.pi / corners
    radii = radius * rng.uniform(0.65, 1.35, corners)
    return _fill(
        _turned(rng, radii * np.cos(angles), radii * np.sin(angles), log_uniform(rng, 1, 1.6))
    )


def spindle(rng: Rng, radius: float) -> np.ndarray:
    """Long, bent, thick in the middle and pointed at both ends."""
    elongation = log_uniform(rng, 2, 7)
    half_length, half_width = radius * elongation**0.5, radius / elongation**0.5
    along = np.linspace(-1, 1, 40)
    bend = rng.normal(0, 0.15) * half_length * (1 - along**2)
    width = half_width * (1 - np.abs(along) ** rng.uniform(1.2, 3)) + 0.5
    width *= np.exp(0.2 * np.sin(along * rng.uniform(2, 7) + rng.uniform(0, 6)))
    x = np.concatenate([along, along[::-1]]) * half_length
    y = np.concatenate([bend + width, (bend - width)[::-1]])
    return _fill(_turned(rng, x, y, 1))


def stellate(rng: Rng, radius: float) -> np.ndarray:
    """A body with two to six tapering processes, as adherent cells have."""
    angles = _angles(2 * radius)
    count = int(rng.integers(2, 7))
    directions = (np.arange(count) + rng.uniform(-0.35, 0.35, count)) * 2 * np.pi / count
    apart = np.angle(np.exp(1j * (angles[None] - directions[:, None])))
    lengths = rng.gamma(2, 0.45, (count, 1))
    widths = rng.uniform(0.12, 0.45, (count, 1))
    radii = 0.6 * (1 + (lengths * np.exp(-(np.abs(apart / widths) ** 1.4))).sum(0))
    orders = np.arange(3, 30)
    waves = np.sin(orders[:, None] * angles + rng.uniform(0, 2 * np.pi, (27, 1)))
    jaggedness = log_uniform(rng, 0.02, 0.12)
    radii *= np.exp((rng.normal(0, jaggedness, 27) / (orders - 2) ** 0.7) @ waves) * radius
    return _fill(
        _turned(rng, radii * np.cos(angles), radii * np.sin(angles), log_uniform(rng, 1, 2.5))
    )


def fibre(rng: Rng, radius: float) -> np.ndarray:
    """A curved tube of one thickness."""
    steps = 40
    length = radius * rng.uniform(3, 6)
    turns = np.cumsum(rng.normal(0, 0.12, steps)) + np.linspace(0, rng.normal(0, 1), steps)
    direction = rng.uniform(0, 2 * np.pi) + turns
    points = np.cumsum(np.stack([np.cos(direction), np.sin(direction)], 1), 0) * length / steps
    thickness = max(2, round(length * log_uniform(rng, 0.05, 0.2)))
    points += thickness + 2 - points.min(0)
    width, height = np.ceil(points.max(0) + thickness + 2).astype(int)
    mask = np.zeros((height, width), np.uint8)
    fixed = np.rint(points * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.polylines(mask, [fixed], False, 1, thickness, cv2.LINE_8, SUBPIXEL_BITS)
    return _cropped(mask > 0)


def letter(rng: Rng, radius: float) -> np.ndarray:
    """A letter, a digit or a sign."""
    size = max(8, round(radius * 2.2))
    image = Image.new("L", (2 * size, 2 * size))
    text = LETTERS[rng.integers(len(LETTERS))]
    ImageDraw.Draw(image).text(
        (size, size), text, 255, _font(size), anchor="mm", stroke_width=round(size * 0.03)
    )
    turned = image.rotate(rng.normal(0, 40), Image.Resampling.BILINEAR)
    return _cropped(np.asarray(turned) > 127)


def hoop(rng: Rng, radius: float) -> np.ndarray:
    """A thick ring: what is seen through its hole does not belong to it."""
    mask = blob_like(rng, radius, 0.05, log_uniform(rng, 1, 1.6))
    inside = edge_distance(mask)
    return (inside > 0) & (inside < max(2.5, rng.uniform(0.25, 0.6) * inside.max()))


OUTLINES: dict[Outline, float] = {
    blob: 0.42,
    polygon: 0.18,
    spindle: 0.12,
    stellate: 0.08,
    fibre: 0.08,
    letter: 0.08,
    hoop: 0.04,
}
"""How often each kind is drawn."""


def choose_outline(rng: Rng) -> Outline:
    """One of `OUTLINES`."""
    return list(OUTLINES)[rng.choice(len(OUTLINES), p=list(OUTLINES.values()))]


def edge_distance(mask: np.ndarray) -> np.ndarray:
    """How far each pixel of a mask is from what is outside, float32, pixels; 0 outside."""
    return cv2.distanceTransform(pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]


def _angles(radius: float) -> np.ndarray:
    return np.linspace(0, 2 * np.pi, int(np.clip(4 * radius, 16, 180)), endpoint=False)


def _turned(rng: Rng, x: np.ndarray, y: np.ndarray, elongation: float) -> np.ndarray:
    """The points N x 2, stretched along x at a constant area, then turned."""
    x, y = x * elongation**0.5, y / elongation**0.5
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)


def _fill(points: np.ndarray) -> np.ndarray:
    points = points - points.min(0) + 1
    width, height = np.ceil(points.max(0) + 2).astype(int)
    mask = np.zeros((height, width), np.uint8)
    fixed = np.rint(points * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 1, cv2.LINE_8, SUBPIXEL_BITS)
    return _cropped(mask > 0)


def _cropped(mask: np.ndarray) -> np.ndarray:
    """The mask's bounding box; one pixel if nothing is set."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.ones((1, 1), bool)
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
