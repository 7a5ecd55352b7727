"""Simulated annotators: clicks, boxes and corrective clicks drawn from label maps."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_objects(labels: Tensor, count: int, min_area: int, rng: torch.Generator) -> Tensor:
    """Choose objects in every crop, with repetition if there are too few.

    Args:
        labels: int64, B x L x H x W; each number in only one layer.
        count: objects per crop.
        min_area: smaller ones are skipped, in pixels.
        rng: random generator.

    Returns:
        int64, B x count; -2, which no pixel carries, in a crop that has no object.
    """
    chosen = torch.full((labels.shape[0], count), -2)
    for row, crop in zip(chosen, labels, strict=True):
        ids, areas = crop[crop > 0].unique(return_counts=True)
        ids = ids[areas >= min_area]
        if len(ids):
            order = torch.randperm(len(ids), generator=rng)
            row.copy_(ids[order[torch.arange(count) % len(ids)]])
    return chosen


def random_points(masks: Tensor, rng: torch.Generator, central: float = 0.0) -> Tensor:
    """One random pixel of each mask.

    Args:
        masks: bool, N x H x W.
        rng: random generator.
        central: share of the points drawn from the mask's depth, as people click, rather than
            evenly.

    Returns:
        float, N x 2, (x, y) in pixels; (0, 0) for an empty mask.
    """
    height, width = masks.shape[-2:]
    weight = masks.float()
    if central > 0:
        # A local mean is high in the middle of an object; its power makes the preference sharp.
        depth = weight.unsqueeze(1)
        for sides in ((9, 1), (1, 9)) * 2:
            padding = (sides[0] // 2, sides[1] // 2)
            depth = F.avg_pool2d(depth, sides, stride=1, padding=padding)
        depth = depth.squeeze(1)
        deepest = depth.amax((-2, -1), keepdim=True).clamp(min=1e-6)
        use = torch.rand(len(masks), 1, 1, generator=rng) < central
        weight = torch.where(use, weight * (depth / deepest) ** 12, weight)
    cumulative = weight.flatten(1).cumsum(1)
    aim = torch.rand(len(masks), 1, generator=rng) * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, aim, right=True).squeeze(1)
    index = torch.where(masks.flatten(1).any(1), index, 0).clamp(max=height * width - 1)
    return torch.stack([index % width, index.div(width, rounding_mode="floor")], dim=1).float()


def jittered_boxes(masks: Tensor, rng: torch.Generator, jitter: float = 0.1) -> Tensor:
    """Bounding boxes along pixel edges, each side moved by noise as an annotator's hand would.

    Some hands are steadier than others, and a detector's or an exact box says more than a hasty
    one: the noise of each box has a strength of its own, between none and `jitter`.

    Args:
        masks: bool, N x H x W; an empty one gives a box of zeros.
        rng: random generator.
        jitter: the largest standard deviation of the noise relative to the box's side; it is at
            most 20 pixels (SAM, appendix A).

    Returns:
        float, N x 4, x1, y1, x2, y2 in pixels; a full mask without noise gives 0, 0, W, H.
    """
    height, width = masks.shape[-2:]
    boxes = torch.zeros(len(masks), 4)
    for box, mask in zip(boxes, masks, strict=True):
        y, x = mask.nonzero(as_tuple=True)
        if len(x):
            box.copy_(torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]))
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    strength = torch.rand(len(boxes), 1, generator=rng)
    noise = torch.randn(boxes.shape, generator=rng) * strength * (sides * jitter).clamp(max=20)
    limit = torch.tensor([width, height, width, height])
    return torch.minimum((boxes + noise).clamp(min=0), limit)


def corrective_points(
    predicted: Tensor, masks: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A click on each prediction's error: positive where mask is missing, negative where too much.

    Args:
        predicted: bool, N x H x W.
        masks: the truth, shaped alike.
        rng: random generator.

    Returns:
        points (float, N x 2, x and y in pixels) and labels (float, N): a point of the mask itself,
        positive, where nothing is wrong.
    """
    wrong = predicted ^ masks
    perfect = ~wrong.flatten(1).any(1)
    wrong = torch.where(perfect.view(-1, 1, 1), masks, wrong)
    points = random_points(wrong, rng, central=0.75)
    x, y = points.long().unbind(1)
    labels = masks[torch.arange(len(masks)), y, x].float()
    return points, labels
