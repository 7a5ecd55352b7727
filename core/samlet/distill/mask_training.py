"""Learning from masks: simulated clicks and boxes, corrective clicks, best of three masks.

Source: Segment Anything, arXiv 2304.02643, appendix A ("Training algorithm"), in one or two
rounds a step instead of eleven.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samlet.distill.data import Batch
from samlet.distill.losses import dense_targets, mask_iou, mask_loss
from samlet.distill.prompts import (
    corrective_points,
    jittered_boxes,
    random_points,
    sample_objects,
)
from samlet.distill.teaching import normalised
from samlet.distill.windows import place_windows
from samlet.modeling.image_encoder import STRIDE
from samlet.modeling.sam import EMBED_DIM, Sam

CELL = 4
"""Pixels of the input to a pixel of the low-resolution masks."""

IOU_WEIGHT = 3.0
"""The predicted IoU chooses among the masks; a model that chooses badly wastes good ones."""


@dataclass(frozen=True)
class PromptPlan:
    """How prompts are simulated.

    Args:
        objects: prompts a crop.
        min_area: smaller objects are passed over, in pixels of the crop.
        box_jitter: how unsteady the hand is that draws boxes; see `jittered_boxes`.
        box_share: share of the steps that prompt with boxes.
        correct_share: share of the steps that go on with corrective clicks.
        corrections: the most of them; each is drawn where the mask before is wrong.
        loser_weight: how much the candidates learn that are not the best of three. With 0 each
            finds a meaning of its own, as ambiguous objects need; with 1 they become alike, and
            choosing among them costs nothing.
        window: side in pixels of the part of the crop, around each object, that is decoded; None
            for all of it. The encoder sees the whole crop all the same. A window of half the side
            answers four times the prompts in the same time.
        whole_share: share of the steps that decode the whole crop in spite of `window`, with as
            many fewer prompts, so that the decoder learns to leave far objects alone.
        centred: share of the steps whose crops lie in the middle of the model's input, as the parts
            of images do that a model zooms in on; the others lie anywhere in it.
    """

    objects: int = 4
    min_area: int = 16
    box_share: float = 0.3
    box_jitter: float = 0.1
    correct_share: float = 0.35
    corrections: int = 1
    loser_weight: float = 0.1
    window: int | None = None
    whole_share: float = 0.25
    centred: float = 0.0


class MaskLearner(nn.Module):
    """A model that learns from masks, with a dense head that helps its embedding to take off.

    The head reads from every token which of its 4 x 4 cells are foreground and where their
    objects' centres lie: a signal at every pixel, where clicks give one an object. It is thrown
    away after training.

    Args:
        model: what learns.
        plan: how to prompt.
        train: "all", or "decoder" to leave the image encoder (and its statistics) as it is.
        encoder_autocast: run the image encoder in half precision, too, where the rest is. On CPU
            that pays for TinyViT, but not for EfficientNet, whose depthwise 5 x 5 kernels have no
            fast backward pass in it.
    """

    def __init__(
        self,
        model: Sam,
        plan: PromptPlan,
        train: Literal["all", "decoder"] = "all",
        encoder_autocast: bool = True,
    ) -> None:
        super().__init__()
        model.image_encoder.to(memory_format=torch.channels_last)
        self.model = model
        self.plan = plan
        self.encoder_autocast = encoder_autocast
        self.freeze_encoder = train == "decoder"
        self.dense_head = nn.Conv2d(EMBED_DIM, 3 * (STRIDE // CELL) ** 2, kernel_size=1)
        if self.freeze_encoder:
            model.image_encoder.requires_grad_(False)
            self.dense_head.requires_grad_(False)

    def train(self, mode: bool = True) -> "MaskLearner":
        """Set training mode, but not for a frozen encoder, nor for BatchNorm's statistics.

        A few crops of unlike images have statistics of their own. A model that learns with them
        does worse with the running ones that it is used with: one click 0.67 instead of 0.76.
        """
        super().train(mode)
        for module in self.model.image_encoder.modules():
            if self.freeze_encoder or isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch; what is random comes from torch's global generator.

        Args:
            batch: crops of a side that is a multiple of 16 and at most the model's input size.
        """
        return mask_losses(self, batch, self.plan)

    def dense_losses(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The head's losses: cross-entropy of the foreground, and distance to the centres."""
        foreground, offsets = (x.to(embeddings.device) for x in dense_targets(batch.labels, CELL))
        predicted = F.pixel_shuffle(self.dense_head(embeddings.float()), STRIDE // CELL)
        valid = F.avg_pool2d(batch.valid.float().unsqueeze(1), CELL).to(embeddings.device)
        cross_entropy = F.binary_cross_entropy_with_logits(
            predicted[:, :1], foreground, reduction="none"
        )
        error = F.smooth_l1_loss(predicted[:, 1:], offsets, reduction="none", beta=0.25)
        inside = (offsets != 0).any(1, keepdim=True)
        return {
            "foreground": (cross_entropy * valid).sum() / valid.sum().clamp(min=1),
            "offsets": (error * inside).sum() / inside.sum().clamp(min=1),
        }


def mask_losses(learner: MaskLearner, batch: Batch, plan: PromptPlan) -> dict[str, Tensor]:
    """The losses of one step; see `MaskLearner`.

    Prompts are simulated on the CPU, where the labels are; encoder and decoder run where the model
    is.
    """
    rng = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    model = learner.model
    images = normalised(model, batch.images, batch.valid.to(model.device))
    with _autocast(model.device, learner.encoder_autocast):
        embeddings = model.image_encoder(images)

    tokens = images.shape[-1] // STRIDE
    side = tokens
    if plan.window is not None and torch.rand((), generator=rng) >= plan.whole_share:
        side = min(plan.window // STRIDE, tokens)
    per_image = plan.objects * (tokens // side) ** 2
    ids = sample_objects(batch.labels, per_image, plan.min_area, rng).flatten()
    found = ids != -2
    image_of = torch.arange(len(images)).repeat_interleave(per_image)
    windows = place_windows(batch.labels, image_of, ids, side, rng)
    targets = windows.halved_masks(batch.labels, ids)
    masks = targets.squeeze(1) >= 0.5
    targets, found = targets.to(model.device), found.to(model.device)

    # Positions are encoded relative to the model's whole input. A crop that always lay at the
    # upper left of it would leave the other positions unlearnt.
    spare = model.config.image_size // STRIDE - tokens
    is_view = bool(torch.rand((), generator=rng) < plan.centred)
    origin = torch.randint(spare + 1, (2,), generator=rng)
    if is_view:
        origin = torch.full((2,), spare // 2)
    view = _View(
        windows.cut(embeddings),
        windows.moved(origin).cut(model.prompt_encoder.get_dense_pe()),
        (windows.corners + origin).flip(1) * float(STRIDE),
    )
    if torch.rand((), generator=rng) < plan.box_share:
        prompt = _Prompt(boxes=2 * jittered_boxes(masks, rng, plan.box_jitter))
    else:
        points = _to_crop(random_points(masks, rng, central=0.5))
        # A click names a pixel by its upper left corner, which in an image that was enlarged lies
        # up to a few of the model's pixels from where the annotator pointed.
        points = (points - 1.5 * torch.rand(points.shape, generator=rng)).unsqueeze(1)
        prompt = _Prompt(points=points, point_labels=torch.ones(points.shape[:2]))
    logits, predicted_iou = _decode(model, view, prompt)
    ambiguous = prompt.boxes is None
    losses = _score(logits, predicted_iou, targets, found, ambiguous, plan.loser_weight)
    rounds = 0
    if torch.rand((), generator=rng) < plan.correct_share:
        rounds = int(torch.randint(1, plan.corrections + 1, (), generator=rng))
    for _ in range(rounds):
        previous = logits[:, :1].detach()
        thresholded = F.interpolate(previous, masks.shape[-2:], mode="bilinear") > 0
        clicks, click_labels = corrective_points(thresholded.squeeze(1).cpu(), masks, rng)
        shown = _coarser(previous, rng) if is_view else previous
        prompt = prompt.with_click(_to_crop(clicks), click_labels, shown)
        logits, predicted_iou = _decode(model, view, prompt)
        again = _score(logits, predicted_iou, targets, found, False, plan.loser_weight)
        losses = {name: value + again[name] for name, value in losses.items()}
    losses = {name: value / (1 + rounds) for name, value in losses.items()}
    if not learner.freeze_encoder:
        losses |= learner.dense_losses(embeddings, batch)
    return losses


def _autocast(device: torch.device, wanted: bool) -> AbstractContextManager:
    return nullcontext() if wanted else torch.autocast(device.type, enabled=False)


def _to_crop(coords: Tensor) -> Tensor:
    """From pixels at half resolution to pixels of the window, centre to centre."""
    return coords * 2 + 0.5


def _coarser(logits: Tensor, rng: torch.Generator) -> Tensor:
    """Logits of a view as they come back with the next click: by way of the whole image's grid."""
    factor = int(2 ** torch.randint(3, (), generator=rng))
    means = F.avg_pool2d(logits, factor)
    return F.interpolate(means, logits.shape[-2:], mode="bilinear", align_corners=False)


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
    points = boxes = None
    if prompt.points is not None and prompt.point_labels is not None:
        coords = prompt.points + view.shift.unsqueeze(1)
        points = (coords.to(model.device), prompt.point_labels.to(model.device))
    if prompt.boxes is not None:
        boxes = (prompt.boxes + view.shift.repeat(1, 2)).to(model.device)
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
