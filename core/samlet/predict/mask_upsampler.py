"""From low-resolution logits to masks at an image's size, only where the logits are high."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse


class MaskUpsampler:
    """Brings logits to a crop's size, as `Sam.postprocess_masks`, but only where they are high.

    Bilinear resizing is linear and separable: all its steps together are one sparse matrix for the
    rows and one for the columns, and a window of the result can be had without the rest.

    Args:
        image_size: side of the model's input.
        input_size: (h, w) of the resized crop, before padding.
        size: (H, W) of the crop.
    """

    def __init__(self, image_size: int, input_size: tuple[int, int], size: tuple[int, int]) -> None:
        self.rows, self.columns = (
            _resize_matrix(image_size, inner, outer)
            for inner, outer in zip(input_size, size, strict=True)
        )

    def __call__(
        self, logits: np.ndarray, level: float, order: Literal["C", "F"] = "C"
    ) -> tuple[np.ndarray, int, int]:
        """Enlarge a window; all logits outside it are at most `level`.

        Args:
            logits: float32, S/4 x S/4.
            level: a logit.
            order: of the window in memory, as NumPy has it: by rows, or, for RLE, by columns.

        Returns:
            the window of float32 logits (without a pixel if all are at most `level`), and the x and
            y of its upper left pixel in the crop.
        """
        high = logits > level
        # An enlarged logit is a weighted mean, so it is high only where it draws on a high one.
        top, bottom = _span(self.rows @ np.asarray(high.any(axis=1), np.float32))
        left, right = _span(self.columns @ np.asarray(high.any(axis=0), np.float32))
        rows, columns = self.rows[top:bottom], self.columns[left:right]
        if order == "C":
            return rows @ (columns @ logits.T).T, left, top
        return (columns @ (rows @ logits).T).T, left, top


def _resize_matrix(image_size: int, inner: int, outer: int) -> sparse.csr_array:
    """Weights (outer x image_size/4) of each low-resolution logit in each enlarged one."""
    basis = torch.eye(image_size // 4).unsqueeze(0)
    enlarged = F.interpolate(basis, image_size, mode="linear", align_corners=False)
    resized = F.interpolate(enlarged[..., :inner], outer, mode="linear", align_corners=False)
    return sparse.csr_array(resized[0].T.numpy())


def _span(weights: np.ndarray) -> tuple[int, int]:
    """From the first weight above 0 to behind the last; (0, 0) without any."""
    where = np.flatnonzero(weights)
    return (int(where[0]), int(where[-1]) + 1) if where.size else (0, 0)
