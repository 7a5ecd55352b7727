"""What training minimises. Every loss is a mean over the batch, in float32."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice plus a focal cross-entropy, both relative to the object's size.

    SAM's own 20:1 mixture of focal and Dice, averaged over all pixels, is stuck on empty masks
    when the decoder starts from random weights and the objects are small. Here the cross-entropy
    is weighted by |p - y| (a focal loss with exponent 1, arXiv 1708.02002) and divided by the
    area of prediction and target, as Dice is.

    Args:
        logits: N x C x H x W.
        targets: in 0..1, N x 1 x H x W.

    Returns:
        N x C.
    """
    losses: Tensor = _MaskLoss.apply(logits, targets)
    return losses


class _MaskLoss(torch.autograd.Function):
    """`mask_loss` with a gradient that is written out, a few masks at a time.

    It is that of Dice, and only of the cross-entropy of the focal part, whose weight |p - y| and
    area count as constants.
    Left to autograd it goes over memory thirty times, which on a CPU costs as much as the decoder.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        needed = ctx.needs_input_grad[0]
        # A part that fits in a CPU's cache; a GPU wants all at once.
        rows = max(1, 2**18 // logits[0].numel()) if logits.device.type == "cpu" else len(logits)
        losses, gradients = [], []
        for x, y in zip(logits.split(rows), targets.split(rows), strict=True):
            p = x.sigmoid()
            overlap = 2 * (p * y).sum((-2, -1), keepdim=True) + 1
            area = p.sum((-2, -1), keepdim=True) + y.sum((-2, -1), keepdim=True) + 1
            error = p - y
            cross_entropy = F.softplus(x) - x * y
            focal = (error.abs() * cross_entropy).sum((-2, -1), keepdim=True)
            losses.append((1 - overlap / area + focal / area).flatten(1))
            if needed:
                dice = (overlap / area - 2 * y) / area
                gradients.append(torch.addcmul(error.abs() * error / area, p - p * p, dice))
        if needed:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None]:
        (gradients,) = ctx.saved_tensors
        return gradients * outputs[0].view(*outputs[0].shape, 1, 1), None


def mask_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """Intersection over union of thresholded masks; shapes as in `mask_loss`."""
    p, y = logits > 0, targets > 0.5
    union = (p | y).sum((-2, -1))
    return (p & y).sum((-2, -1)) / union.clamp(min=1)


def embedding_loss(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error between embeddings, with padding left out (MobileSAM, section 3.2).

    Every image counts the same, however much of it is padding, so that the mean of two half
    batches is that of the whole one.

    Args:
        student: B x C x h x w.
        teacher: the same.
        valid: bool, B x H x W at pixel resolution; a token counts by the share of it that is
            image.
    """
    weight = F.adaptive_avg_pool2d(
        valid.float().unsqueeze(1), (student.shape[-2], student.shape[-1])
    )
    error = (student.float() - teacher.float()).square().mean(dim=1, keepdim=True)
    each = (error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1e-6)
    return each.mean()
