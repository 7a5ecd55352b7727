"""What the proposal head learns: foreground, centres and boxes, cell by cell."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from samlet.modeling.proposal_head import (
    BOX_DISTANCES,
    CELL,
    CENTRE_OFFSETS,
    FOREGROUND,
    OFFSET_UNIT,
)
from samlet.training.finetuning.crops import CropBatch, top_labels

SMOOTH_L1_BETA = 0.25
"""In units of 4 cells: one cell."""

BOX_WEIGHT = 0.5

MIN_AREA = 4
"""Cells; smaller objects weigh as much as those of this size."""


@dataclass(frozen=True)
class ProposalTargets:
    """What the head is to predict; see `ProposalHead.forward` for the units.

    Attributes:
        foreground: share of each cell that is object, in 0..1, B x 1 x h x w.
        geometry: offsets and distances, B x 6 x h x w; zero on the background.
        weight: B x 1 x h x w: of the geometry; zero on the background.
    """

    foreground: Tensor
    geometry: Tensor
    weight: Tensor


def proposal_targets(labels: Tensor) -> ProposalTargets:
    """What each cell of an image belongs to.

    A cell's weight falls with the square root of its object's area: between objects that count
    the same, and pixels that do.

    Args:
        labels: int64, B x L x H x W; 0 is background, -1 padding. Where layers overlap, the last
            counts.
    """
    top = top_labels(labels)
    foreground = F.avg_pool2d((top > 0).float().unsqueeze(1), CELL)
    small = top[:, CELL // 2 :: CELL, CELL // 2 :: CELL].clamp(min=0)
    batch, height, width = small.shape
    ids = small + torch.arange(batch).view(-1, 1, 1) * (int(small.max()) + 1)
    # Counting goes up to the highest number, and those of a label map may be in the millions.
    index = ids.flatten().unique(return_inverse=True)[1]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    position = torch.stack([x, y]).float().expand(batch, -1, -1, -1).permute(1, 0, 2, 3).flatten(1)
    area = torch.bincount(index)
    count = len(area)
    centres = torch.stack([torch.bincount(index, weights=axis) for axis in position]) / area
    first = torch.stack([_extreme(index, axis, count, "amin") for axis in position])
    last = torch.stack([_extreme(index, axis, count, "amax") for axis in position])
    geometry = torch.cat(
        [
            centres[:, index].float() - position,
            position - first[:, index] + 0.5,
            last[:, index] - position + 0.5,
        ]
    )
    inside = (small > 0).unsqueeze(1)
    weight = inside / area[index].view(batch, 1, height, width).clamp(min=MIN_AREA).sqrt()
    geometry = geometry.view(6, batch, height, width).permute(1, 0, 2, 3) / OFFSET_UNIT
    return ProposalTargets(foreground, geometry * inside, weight)


def _extreme(index: Tensor, values: Tensor, count: int, reduce: str) -> Tensor:
    return torch.zeros(count).scatter_reduce(0, index, values, reduce, include_self=False)


def proposal_losses(predicted: Tensor, batch: CropBatch) -> dict[str, Tensor]:
    """The head's losses: cross-entropy of the foreground, and errors of centres and boxes.

    Args:
        predicted: B x 7 x h x w, of `ProposalHead`.
        batch: what the embeddings are of.
    """
    device, targets = predicted.device, proposal_targets(batch.labels)
    valid = F.avg_pool2d(batch.valid.float().unsqueeze(1), CELL).to(device)
    weight = targets.weight.to(device)
    cross_entropy = F.binary_cross_entropy_with_logits(
        predicted[:, FOREGROUND], targets.foreground.to(device), reduction="none"
    )
    error = F.smooth_l1_loss(
        predicted[:, CENTRE_OFFSETS.start :],
        targets.geometry.to(device),
        reduction="none",
        beta=SMOOTH_L1_BETA,
    )
    offsets, boxes = error.split([2, BOX_DISTANCES.stop - BOX_DISTANCES.start], dim=1)
    total = weight.sum().clamp(min=1e-6)
    return {
        "foreground": (cross_entropy * valid).sum() / valid.sum().clamp(min=1),
        "offsets": (offsets * weight).sum() / total,
        "boxes": BOX_WEIGHT * (boxes * weight).sum() / total,
    }
