"""`samlet distill`: from images and a teacher to a student, in one run that can be resumed."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import nn

import samlet
from samlet.datasets import LabelledImage, LabelledImages, find_labelled_images
from samlet.datasets.checking import check_labels
from samlet.errors import UserError
from samlet.everything.settings import HEAD_SETTINGS
from samlet.modeling.fingerprint import encoder_fingerprint
from samlet.modeling.initialisation import WithoutRandomWeights
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.tiny_vit import STRIDE, TINY_VITS
from samlet.storage.locations import parse_location
from samlet.training.accelerator import open_accelerator
from samlet.training.distillation.batches import DistillStream, SkippedImages
from samlet.training.distillation.coupled import MaskDistiller
from samlet.training.distillation.decoupled import (
    Distiller,
    EmbeddingDistiller,
    assemble_student,
    teacher_embed_fn,
)
from samlet.training.distillation.embed import embed, open_store
from samlet.training.distillation.embedding_store import EmbeddingStore
from samlet.training.distillation.sources import ImageFiles, Item, Source, open_source
from samlet.training.held_out import MAX_EVALUATED, held_out_slices
from samlet.training.loop import UnsavedError, train
from samlet.training.run_files import MODEL, PARTIAL_MODEL, SKIPPED, TRAIN
from samlet.training.settings import DistillSettings, save_settings
from samlet.utils.files import atomic_path
from samlet.utils.progress import print_status

HELD_OUT_SHARE = 1 / 50
"""Share of the images that is held out for validation; see `samlet.training.held_out`."""


@dataclass(frozen=True)
class Distilled:
    """What a run has made.

    Attributes:
        teacher: the teacher model, ready to predict.
        student: the student model, ready to predict.
        validation: images that the student has not seen.
        skipped: images that could not be used, with the reasons.
        path: of the student's checkpoint.
        truth: the labels of validation images, by `Item.key`.
        notes: paragraphs on those labels: how many there are, and what was left out.
    """

    teacher: Sam
    student: Sam
    validation: list[Item]
    skipped: dict[str, str]
    path: Path
    truth: dict[str, LabelledImage]
    notes: Sequence[str]


def distill(settings: DistillSettings, out: Path) -> Distilled:
    """Embed, train, and give the student the teacher's decoder; a run that stopped is resumed.

    Args:
        settings: see there.
        out: folder of the run: `config.yaml`, `embeddings/`, `train/` and `model.safetensors`.

    Raises:
        UserError: settings that do not fit together, or anything wrong with images, disk or state.
        KeyboardInterrupt: Ctrl-C was pressed; what was done is saved.
    """
    accelerator = open_accelerator(settings.precision, settings.accumulate)
    device, rank = accelerator.device, accelerator.process_index
    share = settings.batch_size_per_process(accelerator.num_processes)
    parts = settings.chosen_slices(), settings.chosen_channels()
    source = open_source(settings.images, out, *parts)
    teacher = at_size(samlet.load(settings.teacher, device), settings.image_size)
    torch.manual_seed(settings.seed)
    student = open_student(settings.student, teacher)
    if accelerator.is_main_process:
        save_settings(settings, out)
    accelerator.wait_for_everyone()

    validation, held_out = hold_out(source, settings)
    truth, notes = _find_labels(settings, validation)
    for paragraph in notes:
        print_status(paragraph)
    skipped = SkippedImages(source.count())
    store = None
    if not settings.on_the_fly:
        store = open_store(Path(settings.embeddings or out / "embeddings"), teacher)
        embed(
            source, teacher, store, skipped, accelerator, settings.embed_batch_size,
            settings.threads,
        )  # fmt: skip
    stream = DistillStream(
        source=_trainable_part(source, store, held_out),
        image_size=teacher.config.image_size,
        batch_size=share,
        store=store,
        held_out=held_out,
        skipped=skipped,
        seed=settings.seed,
        rank=rank,
        world=accelerator.num_processes,
        threads=settings.threads,
    )
    count = _images_per_epoch(stream.source, store, held_out)
    learner = _make_distiller(settings, student, teacher, on_the_fly=store is None)
    steps = settings.total_steps(count)

    def write(trained: nn.Module, path: Path) -> Path:
        assemble_student(trained, student, teacher, stream)
        student.name = str(path)
        student.card = card_of(settings, teacher, steps, count)
        if accelerator.is_main_process:
            samlet.save(student, path)
        return path

    try:
        averaged = train(learner, stream, settings.loop_settings(steps), out / TRAIN, accelerator)
    except UnsavedError as error:
        raise error.with_partial_model(partial(write, path=out / PARTIAL_MODEL)) from error
    path = write(averaged, out / MODEL)
    if accelerator.is_main_process:
        with atomic_path(out / SKIPPED) as temporary:
            temporary.write_text(json.dumps(skipped.reasons, indent=1), encoding="utf-8")
    accelerator.wait_for_everyone()
    return Distilled(teacher, student, validation, skipped.reasons, path, truth, notes)


def at_size(model: Sam, image_size: int | None) -> Sam:
    """The same model for another input size.

    Raises:
        UserError: its encoder is tied to its own size, or the strides do not fit.
    """
    own = model.config.image_size
    if image_size is None or image_size == own:
        return model
    if model.config.sam_vit is not None:
        raise UserError(
            f"{model.name} embeds only images of {own} px, as {own // STRIDE} x {own // STRIDE} "
            f"tokens, and --image-size is {image_size}: leave --image-size at {own}."
        )
    if image_size % 32 or image_size <= 0:
        raise UserError(f"--image-size must be a multiple of 32, not {image_size}.")
    with WithoutRandomWeights():
        resized = Sam(dataclasses.replace(model.config, image_size=image_size))
    resized.load_state_dict(model.state_dict())
    resized.name, resized.card = model.name, model.card
    return resized.to(model.device).eval()


def open_student(name: str, teacher: Sam) -> Sam:
    """A new student by the name of its encoder, or a trained one.

    Raises:
        UserError: there is none of that name, or its embedding has another size than the teacher's.
    """
    size = teacher.config.image_size
    if name in TINY_VITS:
        return Sam(SamConfig(image_size=size, tiny_vit=TINY_VITS[name])).to(teacher.device)
    try:
        student = samlet.load(name, teacher.device)
    except UserError as error:
        if Path(name).suffix:
            raise
        raise UserError(
            f"There is no student {name}: choose one of {', '.join(TINY_VITS)}, or give a model "
            "to start from."
        ) from error
    own = student.config.image_size
    if own != size:
        raise UserError(
            f"The student {name} embeds {own} px images as {own // STRIDE} x {own // STRIDE} "
            f"tokens and the teacher {teacher.name} {size} px as {size // STRIDE} x "
            f"{size // STRIDE}: choose a student of the teacher's size, or --image-size {own}."
        )
    return student


def hold_out(source: Source, settings: DistillSettings) -> tuple[list[Item], frozenset[str]]:
    """The validation images, and the keys of those in `source` that must not be trained on.

    Of files, see `samlet.training.held_out`; of shards, the first ones, so that no more than
    their beginning is read.
    """
    if settings.validation is not None:
        parts = settings.chosen_slices(), settings.chosen_channels()
        validation = open_source(settings.validation, None, *parts)
        return list(islice(validation.once(), MAX_EVALUATED)), frozenset()
    if isinstance(source, ImageFiles):
        held = held_out_slices(dict(source.files), HELD_OUT_SHARE)
        evaluated = set(held[:MAX_EVALUATED])
        return [item for item in source.once() if item.key in evaluated], frozenset(held)
    count = source.count()
    wanted = (
        MAX_EVALUATED if count is None else min(MAX_EVALUATED, max(1, int(count * HELD_OUT_SHARE)))
    )
    items = list(islice(source.once(), wanted))
    return items, frozenset(item.key for item in items)


def _find_labels(
    settings: DistillSettings, validation: Sequence[Item]
) -> tuple[dict[str, LabelledImage], list[str]]:
    """The labels of the validation images, and paragraphs about them."""
    if settings.labels is None:
        return {}, []
    images = parse_location(settings.validation or settings.images)
    if not isinstance(images, Path):
        raise UserError(f"--labels needs images in a folder of this machine, not {images}.")
    folder = images
    found = find_labelled_images(
        folder,
        settings.labels,
        slices=settings.chosen_slices(),
        channels=settings.chosen_channels(),
    )
    key_of = {item.path: str(item.path.relative_to(folder)) for item in found}
    keys = {item.key for item in validation}
    own = [item for item in found if key_of[item.path] in keys]
    if not own:
        return {}, [f"None of the held-out images has labels in {settings.labels}."]
    without = [folder / key for key in sorted(keys - {key_of[item.path] for item in own})]
    checked = check_labels(LabelledImages(own, without), threads=settings.threads)
    return {key_of[item.path]: item for item in checked.usable}, checked.messages()


def _trainable_part(
    source: Source, store: EmbeddingStore | None, held_out: frozenset[str]
) -> Source:
    """Leave out files that cannot be trained on, where all names are known."""
    if not isinstance(source, ImageFiles):
        return source
    unknown = set() if store is None else {key for key, _ in source.files} - set(store.entries)
    return source.without(unknown | held_out)


def _images_per_epoch(
    source: Source, store: EmbeddingStore | None, held_out: frozenset[str]
) -> int | None:
    """Images per epoch; None where that is not known before they are read."""
    if isinstance(source, ImageFiles):
        return source.count()
    whole = source.count() if store is None else sum(map(source.holds, store.entries))
    return None if whole is None else max(1, whole - len(held_out))


def _make_distiller(
    settings: DistillSettings, student: Sam, teacher: Sam, on_the_fly: bool
) -> Distiller:
    teacher_embed = teacher_embed_fn(teacher) if on_the_fly else None
    if settings.mode == "decoupled":
        return EmbeddingDistiller(student, teacher_embed)
    coupled = settings.mode == "coupled"
    return MaskDistiller(student, teacher, coupled, settings.clicks, teacher_embed)


def card_of(settings: DistillSettings, teacher: Sam, steps: int, count: int | None) -> dict:
    """The model card of a student."""
    return {key: teacher.card[key] for key in HEAD_SETTINGS if key in teacher.card} | {
        "summary": f"{settings.student} distilled from {Path(teacher.name).stem}, "
        f"{teacher.config.image_size} px",
        "teacher": f"{teacher.name} ({encoder_fingerprint(teacher)})",
        "recipe": f"samlet {samlet.__version__}: {settings.mode} distillation, {steps} steps of "
        f"{settings.batch_size} images",
        "data": f"{settings.images}" + ("" if count is None else f", {count} images"),
        "version": samlet.__version__,
    }
