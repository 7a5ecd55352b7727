"""Training with masks: simulated clicks and boxes on objects of random crops.

Source: Segment Anything, arXiv 2304.02643, appendix A ("Training algorithm").
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from samlet.modeling.sam import Sam
from samlet.modeling.tiny_vit import STRIDE
from samlet.training.distillation.batches import normalize_images
from samlet.training.finetuning.corrective_clicks import (
    DecoderBatch,
    Prompt,
    interactive_losses,
    to_input,
)
from samlet.training.finetuning.crops import CropBatch
from samlet.training.finetuning.decoder_crops import place_decoder_crops
from samlet.training.finetuning.distance_losses import distance_losses
from samlet.training.finetuning.proposal_losses import proposal_losses
from samlet.training.finetuning.simulated_prompts import (
    jittered_boxes,
    random_points,
    sample_objects,
)

MAX_SCRIBBLE_POINTS = 6
"""Maximum number of clicks of a scribble."""


@dataclass(frozen=True)
class PromptPlan:
    """How prompts are simulated.

    Args:
        objects: prompts per crop.
        min_area: smaller objects are skipped, in pixels of the crop.
        box_jitter: how imprecise boxes are; see `jittered_boxes`.
        box_share: share of the prompts that are boxes; the others are clicks.
        click_in_box_share: share of the boxes that come with a click on the object, as the
            proposals of everything mode do.
        scribble_share: share of the clicked prompts that are several clicks at once, a scribble.
        correction_share: share of the prompts that corrective clicks follow.
        corrections: their maximum number; each is drawn where the mask before is wrong.
        loser_weight: weight of the candidates that are not the best of three. With 0 each finds a
            meaning of its own, as ambiguous objects need; with 1 they become alike, and choosing
            among them costs nothing.
        decoder_crop: side in pixels of the part of the crop, around each object, that is decoded;
            None for all of it. The encoder still sees the whole crop. With half the side, four
            times as many prompts take the same time.
        whole_share: share of the steps that decode the whole crop in spite of `decoder_crop`, with
            fewer prompts accordingly, so that the decoder learns to ignore distant objects.
        roi_share: share of the steps whose crops lie in the middle of the model's input, as ROIs
            do; the others lie anywhere in it.
    """

    objects: int = 4
    min_area: int = 16
    box_share: float = 0.3
    box_jitter: float = 0.1
    click_in_box_share: float = 0.5
    scribble_share: float = 0.2
    correction_share: float = 0.35
    corrections: int = 1
    loser_weight: float = 0.1
    decoder_crop: int | None = None
    whole_share: float = 0.25
    roi_share: float = 0.0


class PromptTrainer(nn.Module):
    """A model in training with masks, and with what finds all objects of an image.

    That is a proposal head, an instance decoder, or both; see `Sam.object_heads`. They are trained
    along, as everything mode needs them; and they help the embedding at the start, as they give a
    signal at every pixel, where clicks give one an object.

    Args:
        model: the model in training; it gets a proposal head if nothing in it finds objects.
        plan: how to prompt.
        train: "all"; "decoder" to leave the image encoder (and its statistics) as it is; or "head"
            for what finds all objects alone, which leaves masks from prompts as they are.
        encoder_autocast: run the image encoder in half precision, too, where the rest is. On CPU
            that pays for TinyViT, but not for EfficientNet, whose depthwise 5 x 5 kernels have no
            fast backward pass in it.
    """

    def __init__(
        self,
        model: Sam,
        plan: PromptPlan,
        train: Literal["all", "decoder", "head"] = "all",
        encoder_autocast: bool = True,
    ) -> None:
        super().__init__()
        model.image_encoder.to(memory_format=torch.channels_last)
        self.model = model
        self.plan = plan
        self.encoder_autocast = encoder_autocast
        self.train_only = train
        if not model.object_heads:
            model.add_proposal_head()
        if train != "all":
            model.image_encoder.requires_grad_(False)
        if train == "head":
            model.requires_grad_(False)
            for head in model.object_heads.values():
                head.requires_grad_(True)

    def train(self, mode: bool = True) -> "PromptTrainer":
        """Set training mode, but not for a frozen encoder, nor for BatchNorm's statistics.

        A few crops of different images have their own statistics. A model that is trained with them
        does worse with the running ones that it is used with: one click 0.67 instead of 0.76.
        """
        super().train(mode)
        for module in self.model.image_encoder.modules():
            if self.train_only != "all" or isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                module.eval()
        return self

    def forward(self, batch: CropBatch) -> dict[str, Tensor]:
        """The losses of a batch; what is random comes from torch's global generator.

        Args:
            batch: crops of a side that is a multiple of 16 and at most the model's input size.
        """
        return prompt_losses(self, batch, self.plan)


def prompt_losses(learner: PromptTrainer, batch: CropBatch, plan: PromptPlan) -> dict[str, Tensor]:
    """The losses of one step; see `PromptTrainer`.

    Prompts are simulated on the CPU, where the labels are; encoder and decoder run where the model
    is.
    """
    rng = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    model = learner.model
    images = normalize_images(model, batch.images, batch.valid.to(model.device))
    with _autocast(model.device, learner.encoder_autocast):
        embeddings = model.image_encoder(images)
    losses = object_losses(model, embeddings.float(), batch)
    if learner.train_only == "head":
        return losses

    tokens = batch.images.shape[-1] // STRIDE
    side = tokens
    if plan.decoder_crop is not None and torch.rand((), generator=rng) >= plan.whole_share:
        side = min(plan.decoder_crop // STRIDE, tokens)
    per_image = plan.objects * (tokens // side) ** 2
    ids = sample_objects(batch.labels, per_image, plan.min_area, rng).flatten()
    image_of = torch.arange(len(images)).repeat_interleave(per_image)
    decoder_crops = place_decoder_crops(batch.labels, image_of, ids, side, rng)

    # Positions are encoded relative to the model's whole input. A crop that always lay at the
    # upper left of it would leave the other positions untrained.
    spare = model.config.image_size // STRIDE - tokens
    is_roi = bool(torch.rand((), generator=rng) < plan.roi_share)
    origin = torch.randint(spare + 1, (2,), generator=rng)
    if is_roi:
        origin = torch.full((2,), spare // 2)
    found = (ids != -2).float()
    decoder_batch = DecoderBatch(
        decoder_crops.cut(embeddings),
        decoder_crops.moved(origin).cut(model.prompt_encoder.get_dense_pe()),
        (decoder_crops.corners + origin).flip(1) * float(STRIDE),
        decoder_crops.halved_masks(batch.labels, ids),
        found / found.sum().clamp(min=1),
    )
    rounds = int(torch.randint(plan.corrections, (), generator=rng)) + 1
    boxed = torch.rand(len(ids), generator=rng) < plan.box_share
    clicked = boxed & (torch.rand(len(ids), generator=rng) < plan.click_in_box_share)
    several = ~boxed & (torch.rand(len(ids), generator=rng) < plan.scribble_share)
    for rows, prompt_with in (
        (boxed & ~clicked, _boxes),
        (clicked, _boxes_with_clicks),
        (several, _scribbles),
        (~boxed & ~several, _clicks),
    ):
        if rows.any():
            part = decoder_batch.rows(rows.nonzero().squeeze(1))
            prompt = prompt_with(part.masks, plan, rng)
            is_corrected = torch.rand(len(part.weight), generator=rng) < plan.correction_share
            terms = interactive_losses(
                model, part, prompt, is_corrected.nonzero().squeeze(1), rounds,
                plan.loser_weight, is_roi, rng,
            )  # fmt: skip
            losses |= {name: loss + losses.get(name, 0) for name, loss in terms.items()}
    return losses


def object_losses(model: Sam, embeddings: Tensor, batch: CropBatch) -> dict[str, Tensor]:
    """The losses of all that finds objects in a model, by name.

    Args:
        model: see `Sam.object_heads`.
        embeddings: B x C x h x w, of the batch.
        batch: the crops and their objects.
    """
    losses: dict[str, Tensor] = {}
    for name, head in model.object_heads.items():
        # A decoder of every pixel takes several times as long as the encoder, and 2 GB, for a crop
        # of 512 px; and one crop has targets enough for a step.
        count = 1 if head.cell == 1 else len(embeddings)
        losses |= _OBJECT_LOSSES[name](head(embeddings[:count]), batch.first(count))
    return losses


_OBJECT_LOSSES: dict[str, Callable[[Tensor, CropBatch], dict[str, Tensor]]] = {
    "proposal_head": proposal_losses,
    "instance_decoder": distance_losses,
}


def _autocast(device: torch.device, wanted: bool) -> AbstractContextManager:
    return nullcontext() if wanted else torch.autocast(device.type, enabled=False)


def _boxes(masks: Tensor, plan: PromptPlan, rng: torch.Generator) -> Prompt:
    return Prompt(boxes=2 * jittered_boxes(masks, rng, plan.box_jitter))


def _boxes_with_clicks(masks: Tensor, plan: PromptPlan, rng: torch.Generator) -> Prompt:
    boxes = _boxes(masks, plan, rng).boxes
    return replace(_clicks(masks, plan, rng), boxes=boxes)


def _clicks(masks: Tensor, plan: PromptPlan, rng: torch.Generator, count: int = 1) -> Prompt:
    drawn = [to_input(random_points(masks, rng, central=0.5)) for _ in range(count)]
    points = torch.stack(drawn, dim=1)
    # A click names a pixel by its upper left corner, which in an image that was enlarged lies
    # up to a few of the model's pixels from where the annotator pointed.
    points = points - 1.5 * torch.rand(points.shape, generator=rng)
    return Prompt(points=points, point_labels=torch.ones(points.shape[:2]))


def _scribbles(masks: Tensor, plan: PromptPlan, rng: torch.Generator) -> Prompt:
    count = int(torch.randint(2, MAX_SCRIBBLE_POINTS + 1, (), generator=rng))
    return _clicks(masks, plan, rng, count)
