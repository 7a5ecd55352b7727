"""Intersection over union (IoU) of masks."""

from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools import mask as coco

from samlet.errors import UserError
from samlet.masks.rle import Mask, to_rle


def iou_matrix(predicted: Sequence[Mask], truth: Sequence[Mask]) -> np.ndarray:
    """IoU of each of P predicted masks with each of T true masks: float64, P x T."""
    if not predicted or not truth:
        return np.zeros((len(predicted), len(truth)))
    a, b = ([m if isinstance(m, Mapping) else to_rle(m) for m in ms] for ms in (predicted, truth))
    return np.asarray(coco.iou(a, b, [0] * len(b)))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two H x W masks, 0 to 1; 1 for two empty masks.

    Raises:
        UserError: the shapes differ.
    """
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if a.shape != b.shape:
        raise UserError(f"Masks of {a.shape} and {b.shape} cannot be compared: resize one.")
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0
