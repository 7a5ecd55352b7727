"""Measure a model on a data set, with a progress bar for each kind of measurement."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

import samlet
from samlet import images
from samlet.datasets import find_labelled_images
from samlet.datasets.checking import check_labels
from samlet.datasets.examples import Example, LabelledDataset
from samlet.errors import UserError
from samlet.evaluation.agreement import evaluate_agreement
from samlet.evaluation.clicks import evaluate_clicks
from samlet.evaluation.everything_mode import evaluate_everything
from samlet.evaluation.object_batches import GroupOf
from samlet.evaluation.report import Report
from samlet.evaluation.single_prompts import ObjectScore, evaluate_prompts
from samlet.predict.predictor import Predictor
from samlet.utils.progress import print_status, progress_bar

KINDS = ("prompts", "clicks", "everything", "agreement")

T = TypeVar("T")


def measure(
    model: str,
    data: Path,
    label_path: Path | None = None,
    teacher: str | None = None,
    only: Sequence[str] | None = None,
    limit: int | None = None,
    engine: str = "auto",
    split: bool | None = None,
) -> Report:
    """Everything that `samlet evaluate` can measure, of what it was given.

    Args:
        model: a name or file.
        data: folder of images.
        label_path: see `samlet.datasets.find_labelled_images`; None where there are none.
        teacher: a name or file, for the agreement.
        only: of `KINDS`; None for all that labels and teacher allow.
        limit: images to measure; None for all.
        engine: see `samlet.engines.open_engine`.
        split: see `samlet.datasets.checking.check_labels`.

    Labels are checked before anything is measured; what is wrong is told, and left out.

    Raises:
        UserError: a name that is none, labels or teacher missing for what was asked, or anything
            wrong with the files.
    """
    possible = {*(KINDS[:3] if label_path else ()), *(("agreement",) if teacher else ())}
    wanted = set(only or possible)
    for kind in sorted(wanted - possible):
        if kind not in KINDS:
            raise UserError(f"There is no measurement {kind}: choose of {', '.join(KINDS)}.")
        raise UserError(
            f"{kind} needs {'--teacher' if kind == 'agreement' else '--labels'}: give it, or leave "
            f"{kind} out."
        )
    if not wanted:
        raise UserError("Give --labels to compare with, or a --teacher to agree with.")
    checked = None
    if label_path is not None and wanted & {*KINDS[:3]}:
        checked = check_labels(find_labelled_images(data, label_path).first(limit), split)
        for paragraph in checked.messages():
            print_status(paragraph)
    predictor, report = Predictor(samlet.load(model), engine), Report()
    if checked is not None:
        report = measure_all(predictor, LabelledDataset(checked.usable), only=wanted)
        report.notes = checked.messages()
    if teacher is not None and "agreement" in wanted:
        paths = images.find(data)[:limit]
        pictures = ((path.name, images.read(path)) for path in paths)
        judge = Predictor(samlet.load(teacher), engine)
        report.agreement = measure_agreement(judge, predictor, pictures, len(paths))
    return report


def measure_all(
    predictor: Predictor,
    examples: Sequence[Example],
    group_of: GroupOf | None = None,
    only: Collection[str] = KINDS,
) -> Report:
    """Everything that labels tell of a model: prompts, corrective clicks, everything mode.

    Args:
        predictor: what is measured.
        examples: images with their objects.
        group_of: names an image's group; None does not group.
        only: of `KINDS`; the agreement needs no labels, and is left out.
    """
    report = Report()
    if "prompts" in only:
        report.prompts = measure_prompts(predictor, examples, group_of)
    if "clicks" in only:
        clicks = evaluate_clicks(predictor, examples, group_of=group_of)
        report.clicks = _all(_tracked(clicks, len(examples), "Corrective clicks"))
    if "everything" in only:
        found = evaluate_everything(predictor, examples, group_of=group_of)
        report.everything = list(_tracked(found, len(examples), "Everything"))
    return report


def measure_prompts(
    predictor: Predictor, examples: Sequence[Example], group_of: GroupOf | None = None
) -> list[ObjectScore]:
    """One click, random click and box, of all objects; see `samlet.evaluation.single_prompts`."""
    scores = evaluate_prompts(predictor, examples, group_of=group_of)
    return _all(_tracked(scores, len(examples), "Clicks and boxes"))


def measure_agreement(
    teacher: Predictor, student: Predictor, pictures: Iterable[tuple[str, np.ndarray]], count: int
) -> list:
    """Agreement on the same prompts; see `samlet.evaluation.agreement`."""
    scores = evaluate_agreement(teacher, student, pictures)
    return _all(_tracked(scores, count, "Agreement"))


def _tracked(items: Iterable[T], total: int, name: str) -> Iterator[T]:
    with progress_bar() as progress:
        yield from progress.track(islice(items, total), total, description=name)


def _all(scores: Iterable[list[T]]) -> list[T]:
    return [score for image in scores for score in image]
