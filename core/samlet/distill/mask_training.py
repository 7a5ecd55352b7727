"""Learning from masks: simulated clicks and boxes, corrective clicks, best of three masks.

Source: Segment Anything, arXiv 2304.02643, appendix A ("Training algorithm"), in one or two
rounds a step instead of eleven.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samlet.distill.data import Batch
from samlet.distill.losses import dense_targets, mask_iou, mask_loss
from samlet.distill.precision import half_precision
from samlet.distill.prompts import (
    corrective_points,
    jittered_boxes,
    random_points,
    sample_objects,
)
from samlet.modeling.image_encoder import STRIDE
from samlet.modeling.sam import EMBED_DIM, Sam

CELL = 4
"""Pixels of the input to a pixel of the low-resolution masks."""

IOU_WEIGHT = 3.0
"""The predicted IoU chooses among the masks; a model that chooses badly wastes good ones."""


class MaskLearner(nn.Module):
    """A model that learns from masks, with a dense head that helps its embedding to take off.

    The head reads from every token which of its 4 x 4 cells are foreground and where their
    objects' centres lie: a signal at every pixel, where clicks give one an object. It is thrown
    away after training.

    Args:
        model: what learns.
        train: "all", or "decoder" to leave the image encoder (and its statistics) as it is.
        encoder_autocast: run the image encoder in bfloat16 too. On CPU that pays for TinyViT, but
            not for EfficientNet, whose depthwise 5 x 5 kernels have no fast backward pass in it.
    """

    def __init__(self, model: Sam, train: str = "all", encoder_autocast: bool = True) -> None:
        super().__init__()
        self.model = model
        self.encoder_autocast = encoder_autocast
        self.freeze_encoder = train == "decoder"
        self.dense_head = nn.Conv2d(EMBED_DIM, 3 * (STRIDE // CELL) ** 2, kernel_size=1)
        if self.freeze_encoder:
            model.image_encoder.requires_grad_(False)
            self.dense_head.requires_grad_(False)

    def train(self, mode: bool = True) -> "MaskLearner":
        """Set training mode, but never for an encoder that is frozen."""
        super().train(mode)
        if self.freeze_encoder:
            self.model.image_encoder.eval()
        return self

    def dense_losses(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The head's losses: cross-entropy of the foreground, and distance to the centres."""
        foreground, offsets = dense_targets(batch.labels, CELL)
        predicted = F.pixel_shuffle(self.dense_head(embeddings.float()), STRIDE // CELL)
        valid = F.avg_pool2d(batch.valid.float().unsqueeze(1), CELL)
        cross_entropy = F.binary_cross_entropy_with_logits(
            predicted[:, :1], foreground, reduction="none"
        )
        error = F.smooth_l1_loss(predicted[:, 1:], offsets, reduction="none", beta=0.25)
        inside = (offsets != 0).any(1, keepdim=True)
        return {
            "foreground": (cross_entropy * valid).sum() / valid.sum().clamp(min=1),
            "offsets": (error * inside).sum() / inside.sum().clamp(min=1),
        }


@dataclass(frozen=True)
class PromptPlan:
    """How prompts are simulated.

    Args:
        objects: prompts a crop.
        min_area: smaller objects are passed over, in pixels of the crop.
        box_share: share of the steps that prompt with boxes.
        correct_share: share of the steps that go on with a corrective click.
        loser_weight: how much the candidates learn that are not the best of three. With 0 each
            finds a meaning of its own, as ambiguous objects need; with 1 they become alike, and
            choosing among them costs nothing.
        window: side in pixels of the part of the crop, around each object, that is decoded; None
            for all of it. The encoder sees the whole crop all the same. A window of half the side
            answers four times the prompts in the same time.
        whole_share: share of the steps that decode the whole crop in spite of `window`, with as
            many fewer prompts, so that the decoder learns to leave far objects alone.
    """

    objects: int = 4
    min_area: int = 16
    box_share: float = 0.3
    correct_share: float = 0.35
    loser_weight: float = 0.1
    window: int | None = None
    whole_share: float = 0.25


def mask_losses(learner: MaskLearner, batch: Batch, plan: PromptPlan) -> dict[str, Tensor]:
    """The losses of one step; what is random comes from torch's global generator.

    Args:
        learner: the model and its dense head.
        batch: crops of a side that is a multiple of 16 and at most the model's input size.
        plan: how to prompt.
    """
    rng = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    model = learner.model
    images = (batch.images - model.pixel_mean) / model.pixel_std * batch.valid.unsqueeze(1)
    images = images.contiguous(memory_format=torch.channels_last)
    with half_precision(images.device.type, learner.encoder_autocast):
        embeddings = model.image_encoder(images)

    tokens = images.shape[-1] // STRIDE
    side = tokens
    if plan.window is not None and torch.rand((), generator=rng) >= plan.whole_share:
        side = min(plan.window // STRIDE, tokens)
    per_image = plan.objects * (tokens // side) ** 2
    ids = sample_objects(batch.labels, per_image, plan.min_area, rng).flatten()
    found = ids != -2
    image_of = torch.arange(len(images)).repeat_interleave(per_image)
    windows = _place_windows(batch.labels, image_of, ids, side, rng)
    targets = windows.halved_masks(batch.labels, ids)
    masks = targets.squeeze(1) >= 0.5

    # Positions are encoded relative to the model's whole input. A crop that always lay at the
    # upper left of it would leave the other positions unlearnt.
    spare = model.config.image_size // STRIDE - tokens
    origin = torch.randint(spare + 1, (2,), generator=rng)
    view = _View(
        windows.cut(embeddings),
        windows.moved(origin).cut(model.prompt_encoder.get_dense_pe()),
        (windows.corners + origin).flip(1) * float(STRIDE),
    )
    if torch.rand((), generator=rng) < plan.box_share:
        prompt = _Prompt(boxes=_to_crop(jittered_boxes(masks, rng)))
    else:
        points = _to_crop(random_points(masks, rng, central=0.6)).unsqueeze(1)
        prompt = _Prompt(points=points, point_labels=torch.ones(points.shape[:2]))
    logits, predicted_iou = _decode(model, view, prompt)
    ambiguous = prompt.boxes is None
    losses = _score(logits, predicted_iou, targets, found, ambiguous, plan.loser_weight)
    if torch.rand((), generator=rng) < plan.correct_share:
        previous = logits[:, :1].detach()
        thresholded = F.interpolate(previous, masks.shape[-2:], mode="bilinear") > 0
        clicks, click_labels = corrective_points(thresholded.squeeze(1), masks, rng)
        prompt = prompt.with_click(_to_crop(clicks), click_labels, previous)
        logits, predicted_iou = _decode(model, view, prompt)
        again = _score(logits, predicted_iou, targets, found, False, plan.loser_weight)
        losses = {name: (value + again[name]) / 2 for name, value in losses.items()}
    if not learner.freeze_encoder:
        losses |= learner.dense_losses(embeddings, batch)
    return losses


@dataclass(frozen=True)
class _Windows:
    """Square parts of a batch's crops, one a prompt.

    Attributes:
        image_of: int64, N: whose part it is.
        corners: int64, N x 2: (top, left) in tokens.
        side: in tokens.
    """

    image_of: Tensor
    corners: Tensor
    side: int

    def moved(self, origin: Tensor) -> "_Windows":
        """The same windows in the model's whole input, of which there is one."""
        return _Windows(torch.zeros_like(self.image_of), self.corners + origin, self.side)

    def cut(self, grid: Tensor) -> Tensor:
        """From B x C x h x w, a vector a token, to N x C x side x side."""
        h, w = grid.shape[-2:]
        rows, columns = (self.corners.unsqueeze(2) + torch.arange(self.side)).unbind(1)
        index = (self.image_of.view(-1, 1, 1) * h + rows.unsqueeze(2)) * w + columns.unsqueeze(1)
        tokens = grid.permute(0, 2, 3, 1).flatten(0, 2)[index.flatten().to(grid.device)]
        return tokens.unflatten(0, index.shape).permute(0, 3, 1, 2)

    def halved_masks(self, labels: Tensor, ids: Tensor) -> Tensor:
        """Each object's share of every 2 x 2 pixels, N x 1 x 8 side x 8 side.

        Loss and prompts live at half the crop's resolution: that halves a step and costs no
        accuracy, as the decoder's own masks are at a quarter.
        """
        pixels = self.side * STRIDE
        cuts = [
            labels[image, top : top + pixels, left : left + pixels]
            for image, (top, left) in zip(
                self.image_of.tolist(), (self.corners * STRIDE).tolist(), strict=True
            )
        ]
        masks = (torch.stack(cuts) == ids.view(-1, 1, 1)).to(torch.uint8)
        quarters = [masks[:, y::2, x::2] for y in (0, 1) for x in (0, 1)]
        return (quarters[0] + quarters[1] + quarters[2] + quarters[3]).unsqueeze(1) / 4


def _place_windows(
    labels: Tensor, image_of: Tensor, ids: Tensor, side: int, rng: torch.Generator
) -> _Windows:
    """Put a window at random where it holds the whole object, or as much as it can."""
    spare = labels.shape[-1] // STRIDE - side
    corners = torch.zeros(len(ids), 2, dtype=torch.long)
    chance = torch.rand(len(ids), 2, generator=rng)
    if spare > 0:
        for corner, image, number, lucky in zip(corners, image_of, ids, chance, strict=True):
            mask = labels[image] == number
            for axis in (0, 1):
                lines = mask.any(dim=1 - axis).nonzero()
                if len(lines):
                    first, last = int(lines[0]) // STRIDE, int(lines[-1]) // STRIDE
                    ends = sorted((last + 1 - side, first))
                    low, high = (min(max(end, 0), spare) for end in ends)
                    corner[axis] = low + int(lucky[axis] * (high - low + 1))
    return _Windows(image_of, corners, side)


def _to_crop(coords: Tensor) -> Tensor:
    """From pixels at half resolution to pixels of the window, centre to centre."""
    return coords * 2 + 0.5


@dataclass(frozen=True)
class _Prompt:
    points: Tensor | None = None
    point_labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None

    def with_click(self, clicks: Tensor, labels: Tensor, masks: Tensor) -> "_Prompt":
        points, point_labels = clicks.unsqueeze(1), labels.unsqueeze(1)
        if self.points is not None and self.point_labels is not None:
            points = torch.cat([self.points, points], dim=1)
            point_labels = torch.cat([self.point_labels, point_labels], dim=1)
        return _Prompt(points, point_labels, self.boxes, masks)


@dataclass(frozen=True)
class _View:
    """What the decoder sees of the images: N x C x h x w twice, and where it begins, N x (x, y)."""

    embeddings: Tensor
    image_pe: Tensor
    shift: Tensor


def _decode(model: Sam, view: _View, prompt: _Prompt) -> tuple[Tensor, Tensor]:
    points = None
    if prompt.points is not None and prompt.point_labels is not None:
        points = (prompt.points + view.shift.unsqueeze(1), prompt.point_labels)
    boxes = None if prompt.boxes is None else prompt.boxes + view.shift.repeat(1, 2)
    with half_precision(view.embeddings.device.type):
        sparse, dense = model.prompt_encoder(points, boxes, prompt.masks)
        h, w = view.embeddings.shape[-2:]
        logits, iou = model.mask_decoder.predict_masks(
            view.embeddings, view.image_pe, sparse, dense[..., :h, :w]
        )
    return logits.float(), iou.float()


def _score(
    logits: Tensor,
    predicted_iou: Tensor,
    targets: Tensor,
    found: Tensor,
    ambiguous: bool,
    loser_weight: float,
) -> dict[str, Tensor]:
    """Losses of the single mask and, after an ambiguous prompt, of the best of the other three."""
    full = F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=False)
    each = mask_loss(full, targets)
    single, candidates = each[:, 0], each[:, 1:]
    best = candidates.min(dim=1).values
    several = (1 - loser_weight) * best + loser_weight * candidates.mean(dim=1)
    weight = found.float() / found.sum().clamp(min=1)
    iou_error = (predicted_iou - mask_iou(full.detach(), targets)).square()
    masks = (single + several) / 2 if ambiguous else 0.75 * single + 0.25 * several
    return {
        "mask": (masks * weight).sum(),
        "iou": IOU_WEIGHT * (iou_error.mean(dim=1) * weight).sum(),
    }
