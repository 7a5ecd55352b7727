"""Candidate masks of everything mode, whose memory does not depend on the image's size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samlet.masks import Box, CroppedMask, box_xyxy, from_rle, to_rle


@dataclass(frozen=True)
class Candidate:
    """A mask that may be kept.

    Attributes:
        box: its first and last column and row (x0, y0, x1, y1), both within the mask.
        rle: the mask within the box, as COCO's RLE: few bytes, however large the image is.
        predicted_iou: the model's own estimate of the mask's quality.
        stability_score: IoU of the mask with the threshold moved up and down.
        point: (x, y) of the prompt.
        crop: (x0, y0, x1, y1), half open; the part of the image that the model saw.
        likeness: see `samlet.everything.similar.find_similar`; None elsewhere.
    """

    box: Box
    rle: dict[str, Any]
    predicted_iou: float
    stability_score: float
    point: list[float]
    crop: Box
    likeness: float | None = None

    def cutout(self, size: tuple[int, int]) -> CroppedMask:
        """The mask within an image of (H, W)."""
        return CroppedMask(from_rle(self.rle), self.box[0], self.box[1], size)


def box_and_rle(mask: np.ndarray, left: int = 0, top: int = 0) -> tuple[Box, dict[str, Any]]:
    """A `Candidate`'s box and RLE, of a mask whose upper left pixel is (left, top)."""
    x0, y0, x1, y1 = box_xyxy(mask)
    return (left + x0, top + y0, left + x1 - 1, top + y1 - 1), to_rle(mask[y0:y1, x0:x1])


def box_nms(
    candidates: Sequence[Candidate], scores: Sequence[float], threshold: float
) -> list[Candidate]:
    """Non-maximum suppression by boxes; those kept are sorted by falling score.

    Args:
        candidates: of one image.
        scores: one each.
        threshold: IoU of two boxes above which they are nearly the same.
    """
    boxes = np.array([c.box for c in candidates], np.float32).reshape(-1, 4)
    x0, y0, x1, y1 = boxes.T
    areas = (x1 - x0) * (y1 - y0)
    # torchvision's function takes a hundredth of a second less, and a second to import.
    left = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(candidates[best])
        width = np.minimum(x1[left], x1[best]) - np.maximum(x0[left], x0[best])
        height = np.minimum(y1[left], y1[best]) - np.maximum(y0[left], y0[best])
        common = width.clip(0) * height.clip(0)
        left = left[common <= threshold * (areas[left] + areas[best] - common)]
    return kept
