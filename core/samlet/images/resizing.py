"""Resizing to a longest side, bit for bit as in segment_anything."""

import numpy as np
from PIL import Image


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width after resizing the longest side to `size` pixels; rounded, at least 1."""
    scale = size * 1.0 / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_longest(image: np.ndarray, size: int) -> np.ndarray:
    """Resize so that the longest side has `size` pixels, as segment_anything's ResizeLongestSide.

    Args:
        image: uint8, H x W x 3.
        size: pixels.

    Returns:
        uint8, H' x W' x 3 with (H', W') = `resized_shape(H, W, size)`; bilinear with antialiasing,
        equal to `ResizeLongestSide(size).apply_image(image)` in every bit.
    """
    height, width = resized_shape(image.shape[0], image.shape[1], size)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized)
