"""From an image's pixels to the model's input frame: the longest side becomes the input size."""

import numpy as np
import torch
from torch import Tensor

from samlet.images import resize_longest, resized_shape


class ResizeLongestSide:
    """Resize images and coordinates, with the methods of `segment_anything`'s class of this name.

    Args:
        target_length: the longest side after resizing, in pixels.
    """

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Resize an RGB uint8 image, H x W x 3 (bilinear, antialiased)."""
        return resize_longest(image, self.target_length)

    def apply_coords(self, coords: np.ndarray, original_size: tuple[int, ...]) -> np.ndarray:
        """Move (x, y) coordinates, shape (..., 2), from an image of size (H, W) into the frame."""
        return np.asarray(coords, dtype=float) * self._scale(original_size)

    def apply_boxes(self, boxes: np.ndarray, original_size: tuple[int, ...]) -> np.ndarray:
        """The same for boxes x1, y1, x2, y2, shape B x 4."""
        return self.apply_coords(np.reshape(boxes, (-1, 2, 2)), original_size).reshape(-1, 4)

    def apply_coords_torch(self, coords: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """As `apply_coords`, for a tensor; the result is float32."""
        # Imported late, as it takes seconds, and images are read without it.
        scale = torch.as_tensor(self._scale(original_size), device=coords.device)
        return coords.to(torch.float) * scale.to(torch.float)

    def apply_boxes_torch(self, boxes: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """As `apply_boxes`, for a tensor; the result is float32."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def _scale(self, original_size: tuple[int, ...]) -> np.ndarray:
        height, width = original_size
        new_height, new_width = self.get_preprocess_shape(height, width, self.target_length)
        return np.array([new_width / width, new_height / height])

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """The (height, width) that an image of height `oldh` and width `oldw` is resized to."""
        return resized_shape(oldh, oldw, long_side_length)
