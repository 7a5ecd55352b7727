"""Losses of prompts and of the corrective clicks after them.

Source: Segment Anything, arXiv 2304.02643, appendix A ("Training algorithm"). There eleven rounds
follow each other and all have a loss. Here only the first has, and the last of a random number that
follow: the rounds between need no gradient, which costs a third.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from samlet.modeling.sam import Sam
from samlet.training.finetuning.simulated_prompts import corrective_points
from samlet.training.losses import mask_iou, mask_loss

IOU_WEIGHT = 0.5
"""Weight of the loss of the predicted IoU, which chooses among the masks."""

NO_MASK_PROMPT_SHARE = 0.25
"""Share of the steps whose corrective clicks come without the mask that they correct, as from
tools that send all the clicks at once."""


@dataclass(frozen=True)
class DecoderBatch:
    """The decoder's inputs and targets for N prompts.

    Attributes:
        embeddings: the part of the image embedding that is decoded, N x C x h x w.
        image_pe: its positional encoding, of the same shape.
        shift: upper left corner of that part in the model's input, N x (x, y), pixels.
        targets: shares of 0..1 of every 2 x 2 pixels, N x 1 x 8h x 8w; on the CPU.
        weight: of each prompt in the loss, N; on the CPU. They add up to 1 over a step.
    """

    embeddings: Tensor
    image_pe: Tensor
    shift: Tensor
    targets: Tensor
    weight: Tensor

    def rows(self, index: Tensor) -> "DecoderBatch":
        """Some of the prompts."""
        there = index.to(self.embeddings.device)
        return DecoderBatch(
            self.embeddings[there],
            self.image_pe[there],
            self.shift[index],
            self.targets[index],
            self.weight[index],
        )

    @property
    def masks(self) -> Tensor:
        """The targets as masks: bool, N x 8h x 8w."""
        return self.targets.squeeze(1) >= 0.5


@dataclass(frozen=True)
class Prompt:
    """N prompts in pixels of the part that is decoded; masks are logits, N x 1 x 4h x 4w."""

    points: Tensor | None = None
    point_labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None

    @property
    def is_ambiguous(self) -> bool:
        """Whether each prompt is a single click."""
        return self.boxes is None and self.points is not None and self.points.shape[1] == 1

    def rows(self, index: Tensor) -> "Prompt":
        """Some of the prompts."""
        parts = (self.points, self.point_labels, self.boxes, self.masks)
        return Prompt(*(None if part is None else part[index] for part in parts))

    def with_click(self, clicks: Tensor, labels: Tensor, masks: Tensor | None) -> "Prompt":
        """The same with one more click (N x 2; N), and the masks that it corrects, if given."""
        points, point_labels = clicks.unsqueeze(1), labels.unsqueeze(1)
        if self.points is not None and self.point_labels is not None:
            points = torch.cat([self.points, points], dim=1)
            point_labels = torch.cat([self.point_labels, point_labels], dim=1)
        return Prompt(points, point_labels, self.boxes, masks)


def interactive_losses(
    model: Sam,
    batch: DecoderBatch,
    prompt: Prompt,
    corrected: Tensor,
    rounds: int,
    loser_weight: float,
    is_roi: bool,
    rng: torch.Generator,
) -> dict[str, Tensor]:
    """The losses after the first prompts, and after the last of some corrective clicks.

    Args:
        model: the model in training.
        batch: inputs and targets of the prompts.
        prompt: one box each, the same number of clicks each, or both.
        corrected: indices of the prompts that corrective clicks follow.
        rounds: number of corrective clicks.
        loser_weight: see `PromptPlan`.
        is_roi: the crops stand for ROIs, whose mask prompts pass through the coarser grid of the
            whole image.
        rng: random generator.
    """
    ambiguous = prompt.is_ambiguous
    targets, weight = batch.targets.to(model.device), batch.weight.to(model.device)
    logits, predicted_iou = _decode(model, batch, prompt)
    losses = _score(logits, predicted_iou, targets, weight, ambiguous, loser_weight)
    if not len(corrected):
        return losses
    chosen = 1 + predicted_iou[:, 1:].argmax(dim=1) if ambiguous else 0 * weight.long()
    there = corrected.to(model.device)
    mask_prompt = logits.detach()[there, chosen[there]].unsqueeze(1)
    batch, prompt = batch.rows(corrected), prompt.rows(corrected)
    targets, weight = targets[there], weight[there]
    with_mask = bool(torch.rand((), generator=rng) >= NO_MASK_PROMPT_SHARE)
    for number in range(rounds):
        thresholded = F.interpolate(mask_prompt, targets.shape[-2:], mode="bilinear") > 0
        clicks, labels = corrective_points(thresholded.squeeze(1).cpu(), batch.masks, rng)
        if is_roi:
            mask_prompt = _downsampled_mask_prompt(mask_prompt, rng)
        prompt = prompt.with_click(to_input(clicks), labels, mask_prompt if with_mask else None)
        with torch.set_grad_enabled(torch.is_grad_enabled() and number == rounds - 1):
            logits, predicted_iou = _decode(model, batch, prompt)
        mask_prompt = logits[:, :1].detach()
    last = _score(logits, predicted_iou, targets, weight, False, loser_weight)
    return {name: loss + last[name] for name, loss in losses.items()}


def to_input(coords: Tensor) -> Tensor:
    """From pixels at half resolution to the model's pixels, centre to centre."""
    return coords * 2 + 0.5


def _downsampled_mask_prompt(logits: Tensor, rng: torch.Generator) -> Tensor:
    """Logits of an ROI as the next click gets them: by way of the whole image's coarser grid."""
    factor = int(2 ** torch.randint(3, (), generator=rng))
    means = F.avg_pool2d(logits, factor)
    return F.interpolate(means, logits.shape[-2:], mode="bilinear", align_corners=False)


def _decode(model: Sam, batch: DecoderBatch, prompt: Prompt) -> tuple[Tensor, Tensor]:
    points = boxes = None
    if prompt.points is not None and prompt.point_labels is not None:
        coords = prompt.points + batch.shift.unsqueeze(1)
        points = (coords.to(model.device), prompt.point_labels.to(model.device))
    if prompt.boxes is not None:
        boxes = (prompt.boxes + batch.shift.repeat(1, 2)).to(model.device)
    sparse, dense = model.prompt_encoder(points, boxes, prompt.masks)
    if prompt.masks is None:
        # What comes back has the size of the model's input, and its gradient would be as large.
        dense = model.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    logits, iou = model.mask_decoder.predict_masks(batch.embeddings, batch.image_pe, sparse, dense)
    return logits.float(), iou.float()


def _score(
    logits: Tensor,
    predicted_iou: Tensor,
    targets: Tensor,
    weight: Tensor,
    ambiguous: bool,
    loser_weight: float,
) -> dict[str, Tensor]:
    """Losses of the single mask and, after an ambiguous prompt, of the best of the other three."""
    full = F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=False)
    each = mask_loss(full, targets)
    single, candidates = each[:, 0], each[:, 1:]
    best = candidates.min(dim=1).values
    several = (1 - loser_weight) * best + loser_weight * candidates.mean(dim=1)
    iou_error = (predicted_iou - mask_iou(full.detach(), targets)).abs()
    masks = (single + several) / 2 if ambiguous else 0.75 * single + 0.25 * several
    return {
        "mask": (masks * weight).sum(),
        "iou": IOU_WEIGHT * (iou_error.mean(dim=1) * weight).sum(),
    }
