"""Pictures of results: masks, clicks and boxes drawn over the image."""

import colorsys
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from samlet.errors import UserError
from samlet.masks import area

_POSITIVE, _NEGATIVE, _RIM, _BOX = (40, 200, 70), (230, 40, 50), (255, 255, 255), (255, 214, 0)


def colours(count: int) -> np.ndarray:
    """Choose distinct bright colours, always the same ones: uint8, count x 3, RGB."""
    # Steps of the golden ratio never come close to an earlier hue for long; alternating brightness
    # tells the few close ones apart.
    golden = 0.618033988749895
    hues = [
        colorsys.hsv_to_rgb((0.55 + i * golden) % 1, 0.8, (1.0, 0.8)[i % 2]) for i in range(count)
    ]
    return np.rint(np.array(hues).reshape(count, 3) * 255).astype(np.uint8)


def overlay(
    image: np.ndarray,
    masks: np.ndarray | Sequence[np.ndarray],
    points: Sequence[Sequence[float]] | np.ndarray | None = None,
    point_labels: Sequence[int] | np.ndarray | None = None,
    boxes: Sequence[Sequence[float]] | np.ndarray | None = None,
    alpha: float = 0.5,
) -> np.ndarray:
    """Draw masks over an image, small ones on top, with outlines, clicks and boxes.

    Mask i has `colours(n)[i]`. Lines grow with the image.

    Args:
        image: uint8, H x W x 3.
        masks: N x H x W, or a sequence of H x W, bool.
        points: M x 2 of (x, y), pixels; drawn as dots with a white rim.
        point_labels: M: 1 green (inside), 0 red (outside); all 1 if not given.
        boxes: K x 4 of (x0, y0, x1, y1), along pixel edges; drawn in yellow.
        alpha: opacity of the masks, 0 to 1.

    Returns:
        uint8, H x W x 3; the image itself is not changed.

    Raises:
        UserError: alpha out of range, or a mask of another size than the image.
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"The opacity {alpha} is not from 0 to 1.")
    canvas = image.astype(np.float32)
    height, width = image.shape[:2]
    thickness = 1 if max(height, width) < 800 else 2
    palette = colours(len(masks)).astype(np.float32)
    sizes = [area(mask) for mask in masks]
    for i in np.argsort(sizes)[::-1]:
        mask = np.asarray(masks[i], dtype=bool)
        if mask.shape != (height, width):
            raise UserError(f"A mask of {mask.shape} cannot be drawn on an image of {image.shape}.")
        if sizes[i]:
            window = ndimage.find_objects(mask.astype(np.uint8))[0]
            _draw_mask(canvas[window], mask[window], palette[i], alpha, thickness)
    for box in () if boxes is None else np.asarray(boxes, dtype=float):
        _draw_box(canvas, box, thickness)

    radius = max(3.0, 0.007 * max(height, width))
    labels = np.ones(0 if points is None else len(points)) if point_labels is None else point_labels
    for (x, y), label in zip(() if points is None else points, labels, strict=True):
        _draw_disc(canvas, x, y, radius * 1.4, _RIM)
        _draw_disc(canvas, x, y, radius, _POSITIVE if label else _NEGATIVE)
    return np.rint(canvas).clip(0, 255).astype(np.uint8)


def _draw_mask(
    canvas: np.ndarray, mask: np.ndarray, colour: np.ndarray, alpha: float, thickness: int
) -> None:
    canvas[mask] += alpha * (colour - canvas[mask])
    # Padding makes the outline close along the image's border too.
    inner = ndimage.binary_erosion(np.pad(mask, 1), iterations=thickness)[1:-1, 1:-1]
    canvas[mask & ~inner] = colour


def _draw_box(canvas: np.ndarray, box: np.ndarray, thickness: int) -> None:
    height, width = canvas.shape[:2]
    x0, y0, x1, y1 = np.rint(np.clip(box, 0, [width, height, width, height])).astype(int)
    frame = np.ones((max(y1 - y0, 0), max(x1 - x0, 0)), bool)
    frame[thickness:-thickness, thickness:-thickness] = False
    canvas[y0:y1, x0:x1][frame] = _BOX


def _draw_disc(
    canvas: np.ndarray, x: float, y: float, radius: float, colour: tuple[int, int, int]
) -> None:
    top, left = (max(0, int(centre - radius - 1)) for centre in (y, x))
    window = canvas[top : max(0, int(y + radius + 3)), left : max(0, int(x + radius + 3))]
    ys, xs = np.ogrid[: window.shape[0], : window.shape[1]]
    coverage = np.clip(radius + 0.5 - np.hypot(xs + left - x, ys + top - y), 0, 1)[..., None]
    window += coverage * (np.array(colour, np.float32) - window)
