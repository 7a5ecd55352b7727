"""The prediction for one prompt."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MaskPrediction:
    """What the model predicts for one prompt.

    Attributes:
        masks: bool, C x H x W at the image's size; C is 3 candidates or 1 mask.
        iou_predictions: float32, C: the model's own estimate of each mask's IoU.
        low_res_masks: float32, C x S/4 x S/4 logits; one of them can be the next `mask_input`.
    """

    masks: np.ndarray
    iou_predictions: np.ndarray
    low_res_masks: np.ndarray

    @property
    def best_index(self) -> int:
        """Index of the mask with the highest predicted IoU."""
        return int(self.iou_predictions.argmax())

    @property
    def best(self) -> np.ndarray:
        """The mask with the highest predicted IoU: bool, H x W."""
        return self.masks[self.best_index]
