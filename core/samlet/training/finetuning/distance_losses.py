"""What the instance decoder learns: foreground, and distances to centre and boundary of objects.

Targets and losses are micro-sam's (Archit et al., Nature Methods 2025), as torch_em 0.10.9 has them
in `torch_em.transform.label.PerObjectDistanceTransform` and
`torch_em.loss.distance_based.DiceBasedDistanceLoss`.
"""

import numpy as np
import torch
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import find_boundaries
from torch import Tensor

from samlet.modeling.instance_decoder import (
    BOUNDARY_DISTANCE,
    CENTER_DISTANCE,
    CHANNELS,
    FOREGROUND,
)
from samlet.training.finetuning.crops import CropBatch, top_labels

MIN_AREA = 25
"""Pixels; smaller objects are background, as in micro-sam's training."""

EPS = 1e-7


def distance_targets(labels: np.ndarray) -> np.ndarray:
    """The maps that the instance decoder is to predict.

    Args:
        labels: integers, H x W; 0 is background. Each connected part of a label is an object.

    Returns:
        float32, 3 x H x W, see `samlet.modeling.instance_decoder.InstanceDecoder`. The centre is
        the centroid or, where that lies outside of the object, the object's deepest pixel. All
        of an object without a boundary, as it covers the whole image, counts as deepest.
    """
    objects = label(labels, connectivity=2)
    objects[np.bincount(objects.ravel())[objects] < MIN_AREA] = 0
    is_boundary = find_boundaries(objects, mode="inner")
    maps = np.ones((CHANNELS, *labels.shape), np.float32)
    maps[FOREGROUND] = objects > 0
    for number, place in enumerate(ndimage.find_objects(objects), start=1):
        if place is None:
            continue
        inside = objects[place] == number
        depth = np.where(inside, _distance_to(is_boundary[place]), 0)
        top, left = place[0].start, place[1].start
        rows, columns = np.nonzero(inside)
        # Halves are rounded to even coordinates of the image.
        center = round((top + rows).mean()) - top, round((left + columns).mean()) - left
        if not inside[center]:
            center = divmod(int(depth.argmax()), depth.shape[1])
        for channel, distance in (
            (CENTER_DISTANCE, np.hypot(rows - center[0], columns - center[1])),
            (BOUNDARY_DISTANCE, depth.max() - depth[inside]),
        ):
            maps[channel][place][inside] = distance / (distance.max() + EPS)
    return maps


def _distance_to(is_boundary: np.ndarray) -> np.ndarray:
    """From each pixel to the nearest that is set, H x W; zeros if none is."""
    if not is_boundary.any():
        return np.zeros(is_boundary.shape)
    distance: np.ndarray = ndimage.distance_transform_edt(~is_boundary)
    return distance


def _targets_of_crop(labels: np.ndarray) -> np.ndarray:
    """`distance_targets`; -1 is padding, at the right and at the bottom, which is no boundary."""
    height, width = ((labels >= 0).any(axis=axis).sum() for axis in (1, 0))
    targets = np.zeros((CHANNELS, *labels.shape), np.float32)
    targets[:, :height, :width] = distance_targets(labels[:height, :width])
    return targets


def distance_losses(predicted: Tensor, batch: CropBatch) -> dict[str, Tensor]:
    """Dice losses of the foreground and, within it, of both distances; padding does not count.

    Args:
        predicted: B x 3 x H x W, of `InstanceDecoder`.
        batch: what the embeddings are of.
    """
    targets = np.stack([_targets_of_crop(labels) for labels in top_labels(batch.labels).numpy()])
    target = torch.from_numpy(targets).to(predicted.device)
    valid = batch.valid.to(predicted.device)
    foreground = target[:, FOREGROUND]
    return {
        name: dice_loss(predicted[:, channel].float(), target[:, channel], weight)
        for name, channel, weight in (
            ("instance foreground", FOREGROUND, valid),
            ("centre distance", CENTER_DISTANCE, foreground),
            ("boundary distance", BOUNDARY_DISTANCE, foreground),
        )
    }


def dice_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 less the Dice score of values in 0..1, all of one shape; those of weight 0 do not count."""
    predicted, target = predicted * weight, target * weight
    total = predicted.square().sum() + target.square().sum()
    return 1 - 2 * (predicted * target).sum() / total.clamp(min=EPS)
