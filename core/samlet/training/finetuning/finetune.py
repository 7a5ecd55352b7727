"""`samlet finetune`: train a model on labelled images; SAM's own recipe."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

import samlet
from samlet.checkpoints.loading import check_name
from samlet.datasets import find_labelled_images
from samlet.datasets.checking import check_labels
from samlet.datasets.examples import LabelledDataset
from samlet.datasets.labelled_images import LabelledImage
from samlet.errors import UserError
from samlet.evaluation.measure import measure_prompts
from samlet.evaluation.proposal_recall import proposal_f1
from samlet.evaluation.single_prompts import summarize_prompts
from samlet.everything.settings import default_settings
from samlet.modeling.sam import Sam
from samlet.predict.predictor import Predictor
from samlet.training.accelerator import open_accelerator
from samlet.training.finetuning.crops import Crops
from samlet.training.finetuning.prompt_trainer import PromptPlan, PromptTrainer
from samlet.training.held_out import MAX_EVALUATED, held_out_slices
from samlet.training.loop import UnsavedError, train
from samlet.training.run_files import MODEL, PARTIAL_MODEL, SKIPPED, TRAIN
from samlet.training.settings import FinetuneSettings, save_settings
from samlet.utils.files import atomic_path
from samlet.utils.messages import join_first, pluralize
from samlet.utils.progress import print_status

HELD_OUT_SHARE = 1 / 10
"""Share of the images that is held out; see `samlet.training.held_out`."""
DECODER_CROP_SIZE = 256
MAX_CROP_SIZE = 512
"""Side of training crops in pixels, for encoders that take any size: a quarter of the work and
memory of 1024. The bundled model was trained so, too (docs/model-microscopy.md)."""

MIN_PROPOSAL_F1 = 0.5
"""With less on the held-out images, everything mode does not use a proposal head."""
MAX_HEAD_IMAGES = 8
"""Held-out images on which that is measured."""

ROI_SHARE = 0.5
"""Share of training crops that are ROIs, for models that predict with them."""


@dataclass(frozen=True)
class Finetuned:
    """What a run has made.

    Attributes:
        before: the model as it was.
        after: the finetuned model.
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
    """Train with simulated clicks, boxes and corrective clicks; a run that stopped is resumed.

    Args:
        settings: see there.
        out: folder of the run: `config.yaml`, `train/`, `skipped.json` and `model.safetensors`.

    Labels are checked before training; faulty ones are listed, and left out.

    Raises:
        UserError: settings that do not fit together, no labels that can be used, or anything wrong
            with disk or state.
        KeyboardInterrupt: Ctrl-C was pressed; what was done is saved.
    """
    check_name(settings.model)
    accelerator = open_accelerator(settings.precision, settings.accumulate, all_used=False)
    share = settings.batch_size_per_process(accelerator.num_processes)
    found = find_labelled_images(
        settings.images,
        settings.labels,
        out,
        slices=settings.chosen_slices(),
        channels=settings.chosen_channels(),
    )
    checked = check_labels(found, settings.split, settings.threads)
    training, held_out = _split_held_out(checked.usable, Path(settings.images))
    for paragraph in checked.messages():
        print_status(paragraph)
    if not any(item.path in checked.with_objects for item in training):
        raise UserError(
            f"There is no object to train on in {pluralize(len(training), 'image')} of "
            f"{settings.images} with labels: label some."
        )
    print_status(
        f"{pluralize(len(training), 'image')} for training, {len(held_out):,} held out"
        + (
            f": {join_first([item.path.name for item in held_out])}."
            if held_out
            else ". A single image is used for training: label another to measure the model on."
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
        LabelledDataset(training), before.config.image_size, crop_size_of(before), share,
        settings.seed, scale_jitter=(0.7, 1.6),
        zoom_share=ROI_SHARE if before.card.get("zoom") else 0,
        rank=accelerator.process_index, world=accelerator.num_processes,
    )  # fmt: skip
    plan = prompt_plan_of(before, settings)
    learner = PromptTrainer(samlet.load(settings.model), plan, settings.train)
    steps = settings.total_steps(len(training))

    def write(trained: nn.Module, path: Path) -> Path:
        assert isinstance(trained, PromptTrainer)
        trained.model.name = str(path)
        trained.model.card = (
            before.card
            | _prompts_of_everything(trained.model, held_out, before)
            | {
                "finetuned from": before.name,
                "finetuned on": f"{settings.images}, {len(training)} images with {settings.labels}",
                "finetuned by": f"samlet {samlet.__version__}: {settings.train}, {steps} steps of "
                f"{settings.batch_size} images",
            }
        )
        if accelerator.is_main_process:
            samlet.save(trained.model, path)
        return path

    try:
        averaged = train(learner, crops, settings.loop_settings(steps), out / TRAIN, accelerator)
    except UnsavedError as error:
        raise error.with_partial_model(partial(write, path=out / PARTIAL_MODEL)) from error
    path = write(averaged, out / MODEL)
    accelerator.wait_for_everyone()
    assert isinstance(averaged, PromptTrainer)
    return Finetuned(
        before, averaged.model, len(training), LabelledDataset(held_out[:MAX_EVALUATED]), path,
        checked.left_out, checked.messages(), checked.warnings,
    )  # fmt: skip


def _prompts_of_everything(
    model: Sam, held_out: Sequence[LabelledImage], before: Sam
) -> dict[str, str]:
    """What everything mode is to prompt with, by how well the proposal head finds objects.

    A new head may need more steps than the rest of the model. Without a head, that does not change.
    """
    if model.proposal_head is None:
        return {"prompts": default_settings(before)["prompts"]}
    f1 = proposal_f1(Predictor(model, "torch"), LabelledDataset(held_out[:MAX_HEAD_IMAGES]))
    if f1 >= MIN_PROPOSAL_F1 or (math.isnan(f1) and before.proposal_head is not None):
        return {"prompts": "proposals"}
    if model.instance_decoder is not None:
        return {"prompts": "distances"}
    print_status(
        "Everything mode prompts by regions with this model, as its proposal head does not find "
        "enough yet: train it further, with train: head and a learning rate of 2e-3."
    )
    return {"prompts": "regions"}


def measure_held_out(
    finetuned: Finetuned,
) -> tuple[dict[str, float] | None, dict[str, float] | None]:
    """Measure a model before and after on the held-out images.

    Returns:
        for each the figures over all objects, as `summarize_prompts` gives them; None if there are
        no objects.
    """
    # In float32, so that figures of different machines can be compared.
    predictors = [
        Predictor(model, "torch", precision="float32")
        for model in (finetuned.before, finetuned.after)
    ]
    before, after = (
        summarize_prompts(measure_prompts(predictor, finetuned.held_out)).get("all")
        for predictor in predictors
    )
    return before, after


def crop_size_of(model: Sam) -> int:
    """Side of the training crops of a model, in pixels of its input."""
    size = model.config.image_size
    return size if model.config.sam_vit is not None else min(size, MAX_CROP_SIZE)


def prompt_plan_of(model: Sam, settings: FinetuneSettings) -> PromptPlan:
    """How a model is prompted in training."""
    decoder_crop = DECODER_CROP_SIZE if crop_size_of(model) > DECODER_CROP_SIZE else None
    roi_share = ROI_SHARE if model.card.get("zoom") else 0
    return PromptPlan(
        settings.objects,
        corrections=settings.corrections,
        decoder_crop=decoder_crop,
        roi_share=roi_share,
    )


def _split_held_out(
    usable: Sequence[LabelledImage], images: Path
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """The images for training, and those that are held out, by rising hash."""
    names = Counter(item.path.name for item in usable)
    own = {
        item.path.name
        if names[item.path.name] == 1
        else item.path.relative_to(images).as_posix(): item
        for item in usable
    }
    held = held_out_slices({name: item.path for name, item in own.items()}, HELD_OUT_SHARE)
    return [item for name, item in own.items() if name not in set(held)], [own[n] for n in held]
