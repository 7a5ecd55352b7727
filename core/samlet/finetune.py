"""`samlet finetune`: a model learns from images with labels; SAM's own recipe."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

import samlet
from samlet import labels
from samlet.distill.data import Crops
from samlet.distill.examples import LabelledExamples
from samlet.distill.loop import train
from samlet.distill.mask_training import MaskLearner, PromptPlan
from samlet.distill.precision import open_accelerator
from samlet.distill.settings import FinetuneSettings, keep, loop_settings
from samlet.modeling.sam import Sam

MODEL = "model.safetensors"
HELD_OUT = 50
WINDOW = 256
CROP = 512
"""Side, in pixels, of what is cut from an image at once, of encoders that take any size: a quarter
of the work and memory of 1024. The bundled model has learnt so, too (docs/model-nuclei.md)."""

VIEWS = 0.5
"""Share of what a model learns from that is zoomed in on, if it answers so."""


@dataclass(frozen=True)
class Finetuned:
    """What a run has made.

    Attributes:
        before, after: the model as it was, and as it is.
        validation: labelled images that it has not learnt from; empty if there was but one.
        path: of the checkpoint.
    """

    before: Sam
    after: Sam
    validation: LabelledExamples
    path: Path


def finetune(settings: FinetuneSettings, out: Path) -> Finetuned:
    """Train with simulated clicks, boxes and corrective clicks; go on where a run stopped.

    Args:
        settings: see there.
        out: folder of the run: `config.yaml`, `train/` and `model.safetensors`.

    Raises:
        UserError: settings that do not fit together, or anything wrong with images, labels, disk
            or state.
        KeyboardInterrupt: Ctrl-C was pressed; what was done is saved.
    """
    accelerator = open_accelerator(settings.precision, settings.accumulate, all_used=False)
    share = settings.share(accelerator.num_processes)
    found = labels.find(settings.images, settings.labels)
    held = {item.path for item in _held_out(found)}
    learning = LabelledExamples([item for item in found if item.path not in held])
    validation = LabelledExamples([item for item in found if item.path in held])
    before = samlet.load(settings.model, accelerator.device)
    if accelerator.is_main_process:
        keep(settings, out)
    accelerator.wait_for_everyone()

    torch.manual_seed(settings.seed)
    crops = Crops(
        learning, before.config.image_size, crop_side(before), share,
        settings.seed, scale_jitter=(0.7, 1.6),
        zoom_share=VIEWS if before.card.get("zoom") else 0,
        rank=accelerator.process_index, world=accelerator.num_processes,
    )  # fmt: skip
    plan = plan_for(before, settings)
    learner = MaskLearner(samlet.load(settings.model), plan, settings.train)
    steps = settings.total_steps(len(learning))
    averaged = train(learner, crops, loop_settings(settings, steps), out / "train", accelerator)
    assert isinstance(averaged, MaskLearner)
    after, path = averaged.model, out / MODEL
    after.name = str(path)
    after.card = before.card | {
        "finetuned from": before.name,
        "finetuned on": f"{settings.images}, {len(learning)} images with {settings.labels}",
        "finetuned by": f"samlet {samlet.__version__}: {settings.train}, {steps} steps of "
        f"{settings.batch_size} images",
    }
    if accelerator.is_main_process:
        samlet.save(after, path)
    accelerator.wait_for_everyone()
    return Finetuned(before, after, validation, path)


def crop_side(model: Sam) -> int:
    """Side of the crops that a model learns from, in pixels of its input."""
    size = model.config.image_size
    return size if model.config.sam_vit is not None else min(size, CROP)


def plan_for(model: Sam, settings: FinetuneSettings) -> PromptPlan:
    """How a model is prompted while it learns."""
    window = WINDOW if crop_side(model) > WINDOW else None
    views = VIEWS if model.card.get("zoom") else 0
    return PromptPlan(
        settings.objects, corrections=settings.corrections, window=window, centred=views
    )


def _held_out(found: list[labels.Labelled]) -> list[labels.Labelled]:
    """A tenth, at most 50, of those whose names have the smallest hash; none of a single image."""
    chosen = sorted(found, key=lambda item: hashlib.sha256(item.path.name.encode()).digest())
    return chosen[: held_out_count(len(found))]


def held_out_count(images: int) -> int:
    """How many of so many labelled images are kept back to judge by."""
    return min(HELD_OUT, -(-images // 10), images - 1)
