"""Prompts, answers and corrective clicks: what a model learns from one object, round after round.

Source: Segment Anything, arXiv 2304.02643, appendix A ("Training algorithm"). There eleven rounds
follow each other and all are learnt from. Here it is the first, and one of those that follow: the
rounds between only lead there, which costs a third.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from samlet.modeling.sam import Sam
from samlet.training.finetuning.simulated_prompts import corrective_points
from samlet.training.losses import mask_iou, mask_loss

IOU_WEIGHT = 0.5
"""The predicted IoU chooses among the masks; a model that chooses badly wastes good ones."""

NO_MASK_PROMPT_SHARE = 0.25
"""Share of the steps whose corrective clicks come without the mask that they correct, as from
tools that send all the clicks at once."""


@dataclass(frozen=True)
class DecoderBatch:
    """What N prompts are about.

    Attributes:
        embeddings: what the decoder sees of the images, N x C x h x w.
        image_pe: positions of that, shaped alike.
        shift: where it begins in the model's input, N x (x, y), pixels.
        targets: shares of 0..1 of every 2 x 2 pixels, N x 1 x 8h x 8w; on the CPU.
        weight: how much each prompt counts, N; on the CPU. They add up to 1 over a step.
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
    """N prompts in pixels of what the decoder sees; masks are logits, N x 1 x 4h x 4w."""

    points: Tensor | None = None
    point_labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None

    @property
    def is_ambiguous(self) -> bool:
        """Each is one click, and nothing else."""
        return self.boxes is None and self.points is not None and self.points.shape[1] == 1

    def rows(self, index: Tensor) -> "Prompt":
        """Some of the prompts."""
        parts = (self.points, self.point_labels, self.boxes, self.masks)
        return Prompt(*(None if part is None else part[index] for part in parts))

    def with_click(self, clicks: Tensor, labels: Tensor, masks: Tensor | None) -> "Prompt":
        """The same with a click more (N x 2; N), and the masks that it corrects, if they come."""
        points, point_labels = clicks.unsqueeze(1), labels.unsqueeze(1)
        if self.points is not None and self.point_labels is not None:
            points = torch.cat([self.points, points], dim=1)
            point_labels = torch.cat([self.point_labels, point_labels], dim=1)
        return Prompt(points, point_labels, self.boxes, masks)


def interactive_losses(
    model: Sam,
    scene: DecoderBatch,
    prompt: Prompt,
    corrected: Tensor,
    rounds: int,
    loser_weight: float,
    is_view: bool,
    rng: torch.Generator,
) -> dict[str, Tensor]:
    """The losses of the answers to prompts, and to the last of some corrective clicks.

    Args:
        model: what learns.
        scene: what the prompts are about.
        prompt: one box each, or as many clicks.
        corrected: numbers of those prompts that go on with corrective clicks.
        rounds: how many of these.
        loser_weight: see `PromptPlan`.
        is_view: the model has zoomed in, so that masks come back with a click by way of the whole
            image's coarser grid.
        rng: where chance comes from.
    """
    ambiguous = prompt.is_ambiguous
    targets, weight = scene.targets.to(model.device), scene.weight.to(model.device)
    logits, predicted_iou = _decode(model, scene, prompt)
    losses = _score(logits, predicted_iou, targets, weight, ambiguous, loser_weight)
    if not len(corrected):
        return losses
    chosen = 1 + predicted_iou[:, 1:].argmax(dim=1) if ambiguous else 0 * weight.long()
    there = corrected.to(model.device)
    shown = logits.detach()[there, chosen[there]].unsqueeze(1)
    scene, prompt = scene.rows(corrected), prompt.rows(corrected)
    targets, weight = targets[there], weight[there]
    remembers = bool(torch.rand((), generator=rng) >= NO_MASK_PROMPT_SHARE)
    for number in range(rounds):
        thresholded = F.interpolate(shown, targets.shape[-2:], mode="bilinear") > 0
        clicks, labels = corrective_points(thresholded.squeeze(1).cpu(), scene.masks, rng)
        if is_view:
            shown = _downsampled_mask_prompt(shown, rng)
        prompt = prompt.with_click(to_input(clicks), labels, shown if remembers else None)
        with torch.set_grad_enabled(torch.is_grad_enabled() and number == rounds - 1):
            logits, predicted_iou = _decode(model, scene, prompt)
        shown = logits[:, :1].detach()
    last = _score(logits, predicted_iou, targets, weight, False, loser_weight)
    return {name: loss + last[name] for name, loss in losses.items()}


def to_input(coords: Tensor) -> Tensor:
    """From pixels at half resolution to the model's pixels, centre to centre."""
    return coords * 2 + 0.5


def _downsampled_mask_prompt(logits: Tensor, rng: torch.Generator) -> Tensor:
    """Logits of a view as they come back with the next click: by way of the whole image's grid."""
    factor = int(2 ** torch.randint(3, (), generator=rng))
    means = F.avg_pool2d(logits, factor)
    return F.interpolate(means, logits.shape[-2:], mode="bilinear", align_corners=False)


def _decode(model: Sam, scene: DecoderBatch, prompt: Prompt) -> tuple[Tensor, Tensor]:
    points = boxes = None
    if prompt.points is not None and prompt.point_labels is not None:
        coords = prompt.points + scene.shift.unsqueeze(1)
        points = (coords.to(model.device), prompt.point_labels.to(model.device))
    if prompt.boxes is not None:
        boxes = (prompt.boxes + scene.shift.repeat(1, 2)).to(model.device)
    sparse, dense = model.prompt_encoder(points, boxes, prompt.masks)
    if prompt.masks is None:
        # What comes back has the size of the model's input, and its gradient would be as large.
        dense = model.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    logits, iou = model.mask_decoder.predict_masks(scene.embeddings, scene.image_pe, sparse, dense)
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
