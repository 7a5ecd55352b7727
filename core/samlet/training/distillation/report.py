"""The report of a run: one HTML file that needs nothing beside it."""

import csv
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import samlet
from samlet import images
from samlet.datasets import iter_objects
from samlet.datasets.examples import Example, LabelledDataset
from samlet.evaluation.agreement import summarize_agreement
from samlet.evaluation.everything_mode import EverythingScore, summarize_everything
from samlet.evaluation.measure import measure_agreement, measure_prompts, measure_same_objects
from samlet.evaluation.plots import new_figure
from samlet.evaluation.report import Report
from samlet.evaluation.single_prompts import summarize_prompts
from samlet.evaluation.tables import Table
from samlet.everything.crops import point_grid
from samlet.modeling.fingerprint import encoder_fingerprint
from samlet.outputs import overlay
from samlet.predict.predictor import Predictor
from samlet.training.distillation import html_page
from samlet.training.distillation.distill import Distilled
from samlet.training.distillation.sources import Item
from samlet.training.settings import DistillSettings
from samlet.training.train_logger import LOG
from samlet.utils.files import atomic_path
from samlet.utils.messages import pluralize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT = "report.html"
MAX_MEASURED = 20
"""Validation images on which agreement and accuracy are measured."""
MAX_SHOWN = 6
CLICKS = 4
"""Clicks along each side of the images that are shown."""
MAX_DRAWN_SHARE = 0.6
"""Share of an image beyond which a mask is not drawn, since it would hide the others."""


def write_report(distilled: Distilled, settings: DistillSettings, out: Path) -> Path:
    """Measure student and teacher on the validation images, and write it up.

    Args:
        distilled: by `distillation.distill`.
        settings: of the run.
        out: its folder: `report.html`, and `evaluation/` with the figures as CSV.

    Returns:
        the report's path.
    """
    measured = distilled.validation[:MAX_MEASURED]
    # Both are used for minutes: converting them for a faster engine would not pay.
    # In float32, so that figures of different machines can be compared.
    models = {
        name: Predictor(model, "torch", zoom=False, precision="float32")
        for name, model in (("teacher", distilled.teacher), ("student", distilled.student))
    }
    both, count = (models["teacher"], models["student"]), len(measured)
    scores = measure_agreement(*both, _read_named(measured), count)
    objects = measure_same_objects(*both, _read_named(measured), count)
    Report(agreement=scores, same_objects=objects, made_with={"precision": "float32"}).write(
        out / "evaluation"
    )
    keys = [item.key for item in measured if item.key in distilled.truth]
    examples = LabelledDataset([distilled.truth[key] for key in keys])
    table, log = summarize_agreement(scores), _log(out)
    truth = dict(zip(keys, examples, strict=True))
    title = f"{settings.student}, distilled from {Path(settings.teacher).stem}"
    sections = [
        f"<h1>{html_page.text(title)}</h1>{_headline(table, count)}",
        html_page.section(
            "Agreement with the teacher",
            html_page.figures(table, "prompt"),
            html_page.note(
                f"Both models get the same prompts on {pluralize(count, 'image')} held out "
                "for validation. “100 px” is a pair of points at that distance, one on the object "
                "and one beside it, as in MobileSAM's README."
            ),
        ),
        _same_objects(objects) if objects else "",
        _accuracy(models, examples, distilled.notes) if truth else "",
        html_page.section("Training", html_page.plot(_curves(log), "loss by step")),
        html_page.section("Side by side", *_side_by_side(distilled, models, truth)),
        html_page.section("Configuration", html_page.facts(settings.model_dump())),
        html_page.section("Provenance", html_page.facts(_provenance(distilled, log))),
        html_page.section(
            f"Skipped images: {len(distilled.skipped)}", html_page.facts(distilled.skipped)
        ),
    ]
    path = out / REPORT
    with atomic_path(path) as temporary:
        temporary.write_text(html_page.page(title, sections), encoding="utf-8")
    return path


def _headline(table: Table, count: int) -> str:
    if not table:
        return '<p class="lead">There was no image to evaluate it on.</p>'
    return (
        '<p class="lead">Its masks have a mean IoU with the teacher\'s of '
        f"{table['point']['mIoU']:.2f} for a click and {table['box']['mIoU']:.2f} for a box, on "
        f"{pluralize(count, 'image')} that it was not trained on.</p>"
    )


def _same_objects(scores: Sequence[EverythingScore]) -> str:
    found = summarize_everything(scores)["all"]
    return html_page.section(
        "Everything mode beside the teacher",
        html_page.figures({"student": found}, "model"),
        html_page.note(
            "The objects are what the teacher finds. F1 is at an IoU of 0.5; “DSB” is the score of "
            "the 2018 Data Science Bowl."
        ),
    )


def _accuracy(
    models: dict[str, Predictor], examples: Sequence[Example], notes: Sequence[str]
) -> str:
    table = {
        name: summarize_prompts(measure_prompts(predictor, examples)).get("all", {})
        for name, predictor in models.items()
    }
    return html_page.section(
        "Accuracy",
        html_page.figures(table, "model"),
        html_page.note(
            f"Mean IoU with the labelled objects of {pluralize(len(examples), 'image')}. A click "
            "is at an object's deepest point, a random click anywhere in it; “IoU error” is the "
            "mean distance of predicted from true IoU."
        ),
        *(html_page.note(paragraph) for paragraph in notes),
    )


def _log(out: Path) -> list[dict[str, float]]:
    with (out / "train" / LOG).open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def _curves(log: Sequence[dict[str, float]]) -> "Figure":
    names = [name for name in (log[0] if log else {}) if name not in ("step", "seconds", "waiting")]
    figure = new_figure(8, 2.8)
    axes = figure.subplots()
    for name in names:
        axes.plot([row["step"] for row in log], [row[name] for row in log], label=name)
    values = [row[name] for row in log for name in names]
    if values and 0 < 10 * min(values) < max(values):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    if len(names) > 1:
        axes.legend()
    return figure


def _side_by_side(
    distilled: Distilled, models: dict[str, Predictor], truth: dict[str, Example]
) -> list[str]:
    """Each image, what teacher and student make of the same clicks, and the truth if known."""
    rows = []
    for item in distilled.validation[:MAX_SHOWN]:
        image = _read(item)
        points = point_grid(CLICKS) * (image.shape[1], image.shape[0])
        row = {item.key: image}
        chosen: list[int] = []
        for name, predictor in models.items():
            predictions = predictor.segment_batch(
                predictor.encode(image), points[:, None], np.ones((len(points), 1))
            )
            # The candidate that the teacher trusts most, from both, as in the agreement.
            chosen = chosen or [prediction.best_index for prediction in predictions]
            masks = [prediction.masks[i] for prediction, i in zip(predictions, chosen, strict=True)]
            drawn = [m if m.mean() < MAX_DRAWN_SHARE else np.zeros_like(m) for m in masks]
            row[name] = overlay(image, drawn, points)
        if item.key in truth:
            row["labels"] = overlay(image, [m for _, m in iter_objects(truth[item.key].labels)])
        rows.append(html_page.pictures(row))
    return rows


def _read_named(items: Sequence[Item]) -> Iterator[tuple[str, np.ndarray]]:
    return ((item.key, _read(item)) for item in items)


def _read(item: Item) -> np.ndarray:
    return images.read(item.key, content=item.read())


def _provenance(distilled: Distilled, log: Sequence[dict[str, float]]) -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "samlet": samlet.__version__,
        "git revision": _git_revision(),
        "torch": torch.__version__,
        "teacher": f"{distilled.teacher.name}, encoder {encoder_fingerprint(distilled.teacher)}",
        "student": f"{distilled.path}, encoder {encoder_fingerprint(distilled.student)}",
        "data": distilled.student.card.get("data", ""),
        "steps": int(log[-1]["step"]) if log else 0,
        "training time": f"{(log[-1]['seconds'] if log else 0) / 60:.1f} minutes",
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{', '.join(gpus) or 'no GPU'}",
    }


def _git_revision() -> str:
    """Of the folder that the run was started in; people keep their configurations under git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return described.stdout.strip() or "none"
