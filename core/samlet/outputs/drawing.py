"""Pictures of results: masks, clicks and boxes drawn over the image."""

import colorsys
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from samlet.errors import UserError
from samlet.masks import CroppedMask, Mask, area, crop_mask

# Pixels that are drawn at once, in whole rows: bounds the memory at some 200 MB.
_BLOCK = 1 << 22

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
    masks: np.ndarray | Sequence[Mask],
    points: Sequence[Sequence[float]] | np.ndarray | None = None,
    point_labels: Sequence[int] | np.ndarray | None = None,
    boxes: Sequence[Sequence[float]] | np.ndarray | None = None,
    alpha: float = 0.5,
) -> np.ndarray:
    """Draw masks over an image, small ones on top, with outlines, clicks and boxes.

    Mask i has `colours(n)[i]`. Lines grow with the image.

    Args:
        image: uint8, H x W x 3.
        masks: N x H x W, or a sequence of H x W, bool, or RLE.
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
    height, width = image.shape[:2]
    thickness = 1 if max(height, width) < 800 else 2
    radius = max(3.0, 0.007 * max(height, width))
    palette = colours(len(masks)).astype(np.float32)
    frames = () if boxes is None else np.asarray(boxes, dtype=float)
    clicks = () if points is None else points
    labels = np.ones(len(clicks)) if point_labels is None else point_labels
    areas, spans = _measure(masks, (height, width))
    large_first = np.argsort(areas)[::-1].tolist()

    picture = np.empty((height, width, 3), np.uint8)
    step = max(1, _BLOCK // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        canvas = image[rows].astype(np.float32)
        for i in large_first:
            if spans[i][0] < rows.stop and spans[i][1] > top:
                _draw_mask(canvas, top, crop_mask(masks[i]), palette[i], alpha, thickness)
        for box in frames:
            _draw_box(canvas, top, np.clip(box, 0, [width, height, width, height]), thickness)
        for (x, y), label in zip(clicks, labels, strict=True):
            _draw_disc(canvas, x, y - top, radius * 1.4, _RIM)
            _draw_disc(canvas, x, y - top, radius, _POSITIVE if label else _NEGATIVE)
        picture[rows] = np.rint(canvas, out=canvas).clip(0, 255, out=canvas)
    return picture


def _measure(
    masks: np.ndarray | Sequence[Mask], size: tuple[int, int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Each mask's area, and its first row and the one behind its last."""
    areas, spans = [], []
    for cropped in map(crop_mask, masks):
        if cropped.size != size:
            raise UserError(
                f"A mask of {cropped.size} cannot be drawn on an image of {size}: resize one."
            )
        areas.append(area(cropped.mask))
        spans.append((cropped.slices[0].start, cropped.slices[0].stop))
    return areas, spans


def _draw_mask(
    canvas: np.ndarray,
    top: int,
    cropped: CroppedMask,
    colour: np.ndarray,
    alpha: float,
    thickness: int,
) -> None:
    """Draw what of a mask lies in a canvas whose first row is the image's row `top`."""
    # Padding makes the outline close along the image's border too.
    inner = ndimage.binary_erosion(np.pad(cropped.mask, 1), iterations=thickness)[1:-1, 1:-1]
    rows = slice(max(top - cropped.y, 0), top + len(canvas) - cropped.y)
    mask, outline = cropped.mask[rows], (cropped.mask & ~inner)[rows]
    below = max(cropped.y - top, 0)
    window = canvas[below : below + len(mask), cropped.slices[1]]
    window[mask] += alpha * (colour - window[mask])
    window[outline] = colour


def _draw_box(canvas: np.ndarray, top: int, box: np.ndarray, thickness: int) -> None:
    x0, y0, x1, y1 = np.rint(box).astype(int)
    frame = np.ones((max(y1 - y0, 0), max(x1 - x0, 0)), bool)
    frame[thickness:-thickness, thickness:-thickness] = False
    rows = slice(max(top - y0, 0), max(top + len(canvas) - y0, 0))
    below = max(y0 - top, 0)
    canvas[below : below + len(frame[rows]), x0:x1][frame[rows]] = _BOX


def _draw_disc(
    canvas: np.ndarray, x: float, y: float, radius: float, colour: tuple[int, int, int]
) -> None:
    top, left = (max(0, int(centre - radius - 1)) for centre in (y, x))
    window = canvas[top : max(0, int(y + radius + 3)), left : max(0, int(x + radius + 3))]
    ys, xs = np.ogrid[: window.shape[0], : window.shape[1]]
    coverage = np.clip(radius + 0.5 - np.hypot(xs + left - x, ys + top - y), 0, 1)[..., None]
    window += coverage * (np.array(colour, np.float32) - window)
