"""Results drawn over the image: masks, clicks and boxes."""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from samlet.errors import UserError
from samlet.masks import CroppedMask, Mask, area, crop_mask

_POSITIVE, _NEGATIVE, _RIM, _BOX = (40, 200, 70), (230, 40, 50), (255, 255, 255), (255, 214, 0)


def colours(count: int) -> np.ndarray:
    """Distinct bright colours, the same ones on every call: uint8, count x 3, RGB."""
    # Steps of the golden ratio spread any number of hues evenly; alternating brightness tells the
    # few close ones apart.
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

    Mask i has `colours(n)[i]`. Lines are 1 pixel wide, or 2 in images of 800 pixels and more.

    Args:
        image: uint8, H x W x 3.
        masks: N x H x W, or a sequence of H x W, bool, or RLE.
        points: M x 2 of (x, y), pixels; drawn as dots with a white rim.
        point_labels: M of 1 (on the object, green) or 0 (off it, red); all 1 if not given.
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
    palette = colours(len(masks)).tolist()
    clicks = () if points is None else points
    labels = np.ones(len(clicks)) if point_labels is None else point_labels

    canvas = Image.fromarray(image)
    for i in np.argsort(_areas(masks, (height, width)))[::-1].tolist():
        _draw_mask(canvas, crop_mask(masks[i]), tuple(palette[i]), alpha, thickness)
    draw = ImageDraw.Draw(canvas)
    for box in () if boxes is None else np.asarray(boxes, dtype=float):
        x0, y0, x1, y1 = np.rint(np.clip(box, 0, [width, height, width, height])).astype(int)
        if x0 < x1 and y0 < y1:
            # Pillow counts the corner pixels in, and draws inwards.
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=_BOX, width=thickness)
    for (x, y), label in zip(clicks, labels, strict=True):
        _draw_disc(canvas, x, y, radius * 1.4, _RIM)
        _draw_disc(canvas, x, y, radius, _POSITIVE if label else _NEGATIVE)
    return np.array(canvas)


def _areas(masks: np.ndarray | Sequence[Mask], size: tuple[int, int]) -> list[int]:
    areas = []
    for mask in map(crop_mask, masks):
        if mask.size != size:
            raise UserError(
                f"A mask of {mask.size} cannot be drawn on an image of {size}: resize one."
            )
        areas.append(area(mask.mask))
    return areas


def _draw_mask(
    canvas: Image.Image,
    mask: CroppedMask,
    colour: tuple[int, ...],
    alpha: float,
    thickness: int,
) -> None:
    """Blend a mask with the canvas, and draw its outline, which lies inside the mask."""
    # Padding makes the outline close along the image's border, too.
    inner = ndimage.binary_erosion(np.pad(mask.mask, 1), iterations=thickness)[1:-1, 1:-1]
    opacity = np.where(inner, np.uint8(round(255 * alpha)), np.uint8(255)) * mask.mask
    canvas.paste(colour, (mask.x, mask.y), Image.fromarray(opacity))


def _draw_disc(
    canvas: Image.Image, x: float, y: float, radius: float, colour: tuple[int, int, int]
) -> None:
    """Draw an antialiased disc, which `ImageDraw.ellipse` cannot."""
    left, top = int(x - radius - 1), int(y - radius - 1)
    ys, xs = np.ogrid[: int(2 * radius + 4), : int(2 * radius + 4)]
    coverage = np.clip(radius + 0.5 - np.hypot(xs + left - x, ys + top - y), 0, 1)
    canvas.paste(colour, (left, top), Image.fromarray(np.rint(255 * coverage).astype(np.uint8)))
