"""`samlet finetune`: a model learns from images with labels; SAM's own recipe."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

import samlet
from samlet.datasets import find_labelled_images
from samlet.datasets.checking import check_labels
from samlet.datasets.examples import LabelledDataset
from samlet.datasets.labelled_images import LabelledImage
from samlet.errors import UserError
from samlet.evaluation.measure import measure_prompts
from samlet.evaluation.single_prompts import summarize_prompts
from samlet.modeling.sam import Sam
from samlet.predict.predictor import Predictor
from samlet.training.accelerator import open_accelerator
from samlet.training.finetuning.crops import Crops
from samlet.training.finetuning.prompt_trainer import PromptPlan, PromptTrainer
from samlet.training.held_out import MAX_EVALUATED, held_out_names
from samlet.training.loop import UnsavedError, train
from samlet.training.run_files import MODEL, PARTIAL_MODEL, SKIPPED, TRAIN
from samlet.training.settings import FinetuneSettings, save_settings
from samlet.utils.files import atomic_path
from samlet.utils.messages import join_first, pluralize
from samlet.utils.progress import print_status

HELD_OUT_SHARE = 1 / 10
"""Share of the images that is kept back; see `samlet.training.held_out`."""
DECODED_SIZE = 256
MAX_CROP_SIZE = 512
"""Side, in pixels, of what is cut from an image at once, of encoders that take any size: a quarter
of the work and memory of 1024. The bundled model has learnt so, too (docs/model-nuclei.md)."""

ROI_SHARE = 0.5
"""Share of what a model learns from that is zoomed in on, if it answers so."""


@dataclass(frozen=True)
class Finetuned:
    """What a run has made.

    Attributes:
        before, after: the model as it was, and as it is.
        images: number of images that it was trained on.
        held_out: labelled images that it was not trained on, 50 at most; empty if there was but
            one.
        path: of the checkpoint.
        skipped: by image, what was left out of the labels, and why; also in `skipped.json`.
        notes: paragraphs on the labels: how many images have some, what was left out, what looks
            wrong.
        warnings: sentences about what looks wrong.
    """

    before: Sam
    after: Sam
    images: int
    held_out: LabelledDataset
    path: Path
    skipped: dict[str, list[str]]
    notes: Sequence[str]
    warnings: Sequence[str]


def finetune(settings: FinetuneSettings, out: Path) -> Finetuned:
    """Train with simulated clicks, boxes and corrective clicks; go on where a run stopped.

    Args:
        settings: see there.
        out: folder of the run: `config.yaml`, `train/`, `skipped.json` and `model.safetensors`.

    Labels are checked before anything is learnt; what is wrong is told, and left out.

    Raises:
        UserError: settings that do not fit together, no labels that can be used, or anything wrong
            with disk or state.
        KeyboardInterrupt: Ctrl-C was pressed; what was done is saved.
    """
    accelerator = open_accelerator(settings.precision, settings.accumulate, all_used=False)
    share = settings.batch_size_per_process(accelerator.num_processes)
    found = find_labelled_images(settings.images, settings.labels, out)
    checked = check_labels(found, settings.split, settings.threads)
    learning, judged = _split_held_out(checked.usable, Path(settings.images))
    for paragraph in checked.messages():
        print_status(paragraph)
    if not any(item.path in checked.with_objects for item in learning):
        raise UserError(
            f"No object is left to learn from in {pluralize(len(learning), 'image')} of "
            f"{settings.images} with labels: label some."
        )
    print_status(
        f"{pluralize(len(learning), 'image')} to learn from, {len(judged):,} kept back"
        + (
            f": {join_first([item.path.name for item in judged])}."
            if judged
            else ". A single image is learnt from: label another to measure the model on."
        )
    )
    before = samlet.load(settings.model, accelerator.device)
    if accelerator.is_main_process:
        save_settings(settings, out)
        with atomic_path(out / SKIPPED) as temporary:
            temporary.write_text(json.dumps(checked.left_out, indent=1), encoding="utf-8")
    accelerator.wait_for_everyone()

    torch.manual_seed(settings.seed)
    crops = Crops(
        LabelledDataset(learning), before.config.image_size, crop_size_of(before), share,
        settings.seed, scale_jitter=(0.7, 1.6),
        zoom_share=ROI_SHARE if before.card.get("zoom") else 0,
        rank=accelerator.process_index, world=accelerator.num_processes,
    )  # fmt: skip
    plan = prompt_plan_of(before, settings)
    learner = PromptTrainer(samlet.load(settings.model), plan, settings.train)
    steps = settings.total_steps(len(learning))

    def write(learnt: nn.Module, path: Path) -> Path:
        assert isinstance(learnt, PromptTrainer)
        learnt.model.name = str(path)
        learnt.model.card = before.card | {
            "finetuned from": before.name,
            "finetuned on": f"{settings.images}, {len(learning)} images with {settings.labels}",
            "finetuned by": f"samlet {samlet.__version__}: {settings.train}, {steps} steps of "
            f"{settings.batch_size} images",
        }
        if accelerator.is_main_process:
            samlet.save(learnt.model, path)
        return path

    try:
        averaged = train(learner, crops, settings.loop_settings(steps), out / TRAIN, accelerator)
    except UnsavedError as error:
        raise error.with_partial_model(partial(write, path=out / PARTIAL_MODEL)) from error
    path = write(averaged, out / MODEL)
    accelerator.wait_for_everyone()
    assert isinstance(averaged, PromptTrainer)
    return Finetuned(
        before, averaged.model, len(learning), LabelledDataset(judged[:MAX_EVALUATED]), path,
        checked.left_out, checked.messages(), checked.warnings,
    )  # fmt: skip


def measure_held_out(
    finetuned: Finetuned,
) -> tuple[dict[str, float] | None, dict[str, float] | None]:
    """Measure a model before and after on the held-out images.

    Returns:
        for each the figures over all objects, as `summarize_prompts` gives them; None if there are
        no objects.
    """
    before, after = (
        summarize_prompts(measure_prompts(Predictor(model, "torch"), finetuned.held_out)).get("all")
        for model in (finetuned.before, finetuned.after)
    )
    return before, after


def crop_size_of(model: Sam) -> int:
    """Side of the crops that a model learns from, in pixels of its input."""
    size = model.config.image_size
    return size if model.config.sam_vit is not None else min(size, MAX_CROP_SIZE)


def prompt_plan_of(model: Sam, settings: FinetuneSettings) -> PromptPlan:
    """How a model is prompted while it learns."""
    window = DECODED_SIZE if crop_size_of(model) > DECODED_SIZE else None
    views = ROI_SHARE if model.card.get("zoom") else 0
    return PromptPlan(
        settings.objects, corrections=settings.corrections, window=window, centred=views
    )


def _split_held_out(
    usable: Sequence[LabelledImage], images: Path
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """What is learnt from, and what is kept back, by rising hash."""
    names = Counter(item.path.name for item in usable)
    own = {
        item.path.name
        if names[item.path.name] == 1
        else item.path.relative_to(images).as_posix(): item
        for item in usable
    }
    held = held_out_names(list(own), HELD_OUT_SHARE)
    return [item for name, item in own.items() if name not in set(held)], [own[n] for n in held]
