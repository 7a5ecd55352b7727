"""Measure a model on images, with a progress bar for each kind of measurement."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

import samlet
from samlet import images
from samlet.checkpoints.loading import check_name
from samlet.datasets import find_labelled_images
from samlet.datasets.checking import check_labels
from samlet.datasets.examples import Example, LabelledDataset
from samlet.errors import UserError
from samlet.evaluation.agreement import AgreementScore, evaluate_agreement
from samlet.evaluation.everything_mode import (
    EverythingScore,
    compare_everything,
    evaluate_everything,
)
from samlet.evaluation.number_of_clicks import evaluate_clicks
from samlet.evaluation.report import Report
from samlet.evaluation.single_prompts import ObjectScore, evaluate_prompts
from samlet.evaluation.tables import GroupOf
from samlet.modeling.fingerprint import model_fingerprint
from samlet.predict.predictor import Predictor
from samlet.utils.progress import print_status, progress_bar

WITH_LABELS = ("prompts", "clicks", "everything")
MEASUREMENTS = (*WITH_LABELS, "agreement")

T = TypeVar("T")


def run_evaluation(
    model: str,
    data: Path,
    labels: Path | None = None,
    teacher: str | None = None,
    only: Sequence[str] | None = None,
    limit: int | None = None,
    engine: str = "auto",
    split: bool | None = None,
    precision: str = "auto",
    slices: images.SliceChoice | None = None,
    channels: Sequence[int] | None = None,
) -> Report:
    """Measure a model on files, as `samlet evaluate` does.

    Labels are checked first. A message says what is wrong with them, and it is left out.

    Args:
        model: a name or file.
        data: the folder of images.
        labels: see `samlet.datasets.find_labelled_images`; None if there are none.
        teacher: a name or file of the model to measure the agreement with; None if there is none.
        only: some of `MEASUREMENTS`; None for all that `labels` and `teacher` allow.
        limit: number of images to measure; None for all.
        engine: see `samlet.engines.open_engine`.
        split: see `samlet.datasets.checking.check_labels`.
        precision: of the image encoders, see `samlet.engines.open_engine`.
        slices: of stacks; None for all of the first series of a file.
        channels: of the images to show, see `samlet.images.read`.

    Raises:
        UserError: an unknown measurement, labels or teacher missing for one, or a file that cannot
            be used.
    """
    # Before labels are checked or a model is loaded, which may take minutes.
    found = images.find(data)
    for name in (model, teacher):
        if name is not None:
            check_name(name)
    wanted = _choose(only, labels is not None, teacher is not None)
    checked = None
    if labels is not None and wanted & {*WITH_LABELS}:
        checked = check_labels(
            find_labelled_images(data, labels, slices=slices, channels=channels).first(limit),
            split,
        )
        for message in checked.messages():
            print_status(message)
    predictor, report = Predictor(samlet.load(model), engine, precision=precision), Report()
    if checked is not None:
        report = measure_with_labels(predictor, LabelledDataset(checked.usable), only=wanted)
        report.notes = checked.messages()
    if teacher is not None and "agreement" in wanted:
        paths = images.list_slices(found, slices, channels=channels, note=print_status)[:limit]
        reference = Predictor(samlet.load(teacher), engine, precision=precision)
        both = reference, predictor
        report.agreement = measure_agreement(*both, _read_named(paths, channels), len(paths))
        report.same_objects = measure_same_objects(*both, _read_named(paths, channels), len(paths))
    report.made_with = {"model": model, "weights": model_fingerprint(predictor.model)}
    report.made_with |= {"precision": predictor.engine.precision}
    return report


def _choose(only: Sequence[str] | None, has_labels: bool, has_teacher: bool) -> set[str]:
    """The measurements to make.

    Raises:
        UserError: one is unknown, or lacks what it needs; or none is possible.
    """
    possible = {*(WITH_LABELS if has_labels else ()), *(("agreement",) if has_teacher else ())}
    wanted = set(only or possible)
    for name in sorted(wanted - possible):
        if name not in MEASUREMENTS:
            raise UserError(f"Unknown measurement {name}: choose from {', '.join(MEASUREMENTS)}.")
        needed = "--teacher" if name == "agreement" else "--labels"
        raise UserError(f"{name} needs {needed}: add it, or leave {name} out.")
    if not wanted:
        raise UserError(
            "Nothing to compare with: add --labels, or --teacher to measure the agreement."
        )
    return wanted


def measure_with_labels(
    predictor: Predictor,
    examples: Sequence[Example],
    group_of: GroupOf | None = None,
    only: Collection[str] = WITH_LABELS,
) -> Report:
    """Measure prompts, corrective clicks and everything mode against labels.

    Args:
        predictor: what is measured.
        examples: images with their objects.
        group_of: names an image's group; None does not group.
        only: the measurements to make; others than `WITH_LABELS` are ignored.
    """
    report, count = Report(), len(examples)
    if "prompts" in only:
        report.prompts = measure_prompts(predictor, examples, group_of)
    if "clicks" in only:
        clicks = evaluate_clicks(predictor, examples, group_of=group_of)
        report.clicks = _flatten(_tracked(clicks, count, "Corrective clicks"))
    if "everything" in only:
        found = evaluate_everything(predictor, examples, group_of=group_of)
        report.everything = list(_tracked(found, count, "Everything"))
    return report


def measure_prompts(
    predictor: Predictor, examples: Sequence[Example], group_of: GroupOf | None = None
) -> list[ObjectScore]:
    """Measure one click, random click and box per object; see `evaluate_prompts`."""
    scores = evaluate_prompts(predictor, examples, group_of=group_of)
    return _flatten(_tracked(scores, len(examples), "Clicks and boxes"))


def measure_agreement(
    teacher: Predictor,
    student: Predictor,
    named_images: Iterable[tuple[str, np.ndarray]],
    count: int,
) -> list[AgreementScore]:
    """Measure the agreement of a student with its teacher; see `evaluate_agreement`.

    Args:
        teacher: the reference.
        student: what is compared with it.
        named_images: name and RGB uint8, H x W x 3, of `count` images.
        count: for the progress bar.
    """
    scores = evaluate_agreement(teacher, student, named_images)
    return _flatten(_tracked(scores, count, "Agreement"))


def measure_same_objects(
    teacher: Predictor,
    student: Predictor,
    named_images: Iterable[tuple[str, np.ndarray]],
    count: int,
) -> list[EverythingScore]:
    """Compare what everything mode finds with two models; see `compare_everything`.

    Only where both have a part that finds objects, which belongs to the teacher and works on the
    student's embeddings. Otherwise it takes minutes an image, and says what the masks say already.

    Args:
        teacher: the reference.
        student: what is compared with it.
        named_images: name and RGB uint8, H x W x 3, of `count` images.
        count: for the progress bar.

    Returns:
        the scores; none where one of them has neither proposal head nor instance decoder.
    """
    for model in (teacher.model, student.model):
        if model.proposal_head is None and model.instance_decoder is None:
            return []
    found = compare_everything(teacher, student, named_images)
    return list(_tracked(found, count, "Objects found by both"))


def _read_named(
    paths: Sequence[Path], channels: Sequence[int] | None
) -> Iterator[tuple[str, np.ndarray]]:
    return ((path.name, images.read(path, channels=channels)) for path in paths)


def _tracked(items: Iterable[T], total: int, name: str) -> Iterator[T]:
    with progress_bar() as progress:
        yield from progress.track(islice(items, total), total, description=name)


def _flatten(scores: Iterable[list[T]]) -> list[T]:
    return [score for image in scores for score in image]
