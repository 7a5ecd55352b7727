"""Resizing to a longest side, equal to segment_anything's in every bit."""

import numpy as np
from PIL import Image


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width once the longest side is `size` pixels, rounded, at least 1."""
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
