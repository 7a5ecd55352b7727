"""Number of clicks (NoC): how many corrective clicks an object takes to reach an IoU.

Source: the usual protocol of interactive segmentation, as in RITM (arXiv 2102.06583), with the
prompts of SAM (arXiv 2304.02643): the logits of each prediction are the mask prompt of the next
one, and only the first click, which is ambiguous, gives three candidate masks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from samlet.datasets.examples import Example
from samlet.evaluation.next_click import next_click
from samlet.evaluation.object_batches import MIN_AREA, object_batches
from samlet.evaluation.tables import GroupOf, Table, group_name, summarize_by_group
from samlet.masks import iou
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor

TARGETS = (0.85, 0.90)
"""IoUs to reach."""

MAX_CLICKS = 20
"""Clicks per object, at most."""

SUMMARIZED_CLICKS = (1, 2, 3, 5, 10, 20)
"""Numbers of clicks for which `summarize_clicks` has the mean IoU."""


@dataclass(frozen=True)
class ClickScore:
    """The IoU of one object, click by click.

    Attributes:
        image: name of its image.
        group: group of the image; "" if images are not grouped.
        label: the object's number in the label map.
        ious: IoU after 1, 2, ... clicks. It ends when the highest target is reached, since a person
            would stop there; when no error is left to click on; or at the limit.
        limit: the number of clicks that were allowed.
    """

    image: str
    group: str
    label: int
    ious: tuple[float, ...]
    limit: int

    def iou_after(self, clicks: int) -> float:
        """IoU after this many clicks (1 or more); the last IoU if there were fewer."""
        return self.ious[min(clicks, len(self.ious)) - 1]

    def reaches(self, target: float) -> bool:
        """Whether the IoU was ever at least `target`."""
        return max(self.ious) >= target

    def clicks_to(self, target: float) -> int:
        """Clicks until the IoU was first at least `target`; `limit` if it never was."""
        return next((n for n, reached in enumerate(self.ious, 1) if reached >= target), self.limit)


@dataclass
class _Session:
    """One object being clicked on: its true mask, the clicks so far, and the last prediction."""

    truth: np.ndarray
    predicted: np.ndarray
    logits: np.ndarray = field(default_factory=lambda: np.empty(0))
    points: list[tuple[int, int]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)

    def click(self) -> bool:
        """Add the next click; False if no error is left to click on."""
        click = next_click(self.predicted, self.truth, self.points)
        if click is not None:
            self.points.append(click[0])
            self.labels.append(click[1])
        return click is not None


def evaluate_clicks(
    predictor: Predictor,
    examples: Iterable[Example],
    targets: Sequence[float] = TARGETS,
    limit: int = MAX_CLICKS,
    group_of: GroupOf | None = None,
    min_area: int = MIN_AREA,
) -> Iterator[list[ClickScore]]:
    """Click on every labelled object; each click corrects the last prediction.

    The first click is at the deepest point of the object's largest part, the following ones are
    those of `samlet.evaluation.next_click`.

    Args:
        predictor: what is measured.
        examples: images with their objects.
        targets: IoUs to reach; clicking on an object ends at the highest.
        limit: clicks per object, at most.
        group_of: names an image's group; None does not group.
        min_area: objects with fewer pixels are skipped.

    Yields:
        the scores of one image after another.
    """
    for example in examples:
        embedding = predictor.encode(example.image)
        group = group_name(example, group_of)
        scores = []
        for batch in object_batches(example.labels, min_area):
            sessions = [_Session(mask, np.zeros_like(mask)) for _, mask in batch]
            _click_until(max(targets), predictor, embedding, sessions, limit)
            scores += [
                ClickScore(example.name, group, label, tuple(session.ious), limit)
                for session, (label, _) in zip(sessions, batch, strict=True)
            ]
        yield scores


def _click_until(
    target: float,
    predictor: Predictor,
    embedding: ImageEmbedding,
    sessions: Sequence[_Session],
    limit: int,
) -> None:
    """Click on each object until its IoU is at the target; the remaining ones are one batch."""
    active = list(sessions)
    for number in range(limit):
        active = [session for session in active if session.click()]
        if not active:
            return
        predictions = predictor.segment_batch(
            embedding,
            [session.points for session in active],
            [session.labels for session in active],
            mask_inputs=None if number == 0 else np.stack([s.logits for s in active]),
            multimask_output=number == 0,
        )
        for session, prediction in zip(active, predictions, strict=True):
            session.predicted = prediction.best
            session.logits = prediction.low_res_masks[prediction.best_index]
            session.ious.append(iou(prediction.best, session.truth))
        active = [session for session in active if session.ious[-1] < target]


def summarize_clicks(scores: Sequence[ClickScore], targets: Sequence[float] = TARGETS) -> Table:
    """Mean figures: {"all" or group: {"NoC@85": ..., "failed@85": ..., "IoU@1": ..., "objects"}}.

    NoC@85 is the mean number of clicks to an IoU of 0.85, where objects that never reach it count
    with the limit; failed@85 is the share of those objects; IoU@k is the mean IoU after k clicks.
    """
    return summarize_by_group(scores, lambda some: _figures(some, targets))


def _figures(scores: Sequence[ClickScore], targets: Sequence[float]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for target in targets:
        name = f"{target * 100:.0f}"
        figures[f"NoC@{name}"] = float(np.mean([s.clicks_to(target) for s in scores]))
        figures[f"failed@{name}"] = float(np.mean([not s.reaches(target) for s in scores]))
    curve = mean_ious(scores)
    figures |= {f"IoU@{n}": curve[n - 1] for n in SUMMARIZED_CLICKS if n <= len(curve)}
    return figures | {"objects": len(scores)}


def mean_ious(scores: Sequence[ClickScore]) -> list[float]:
    """Mean IoU over all objects after 1, 2, ... clicks, up to the limit; empty without objects."""
    limit = max((score.limit for score in scores), default=0)
    return [float(np.mean([s.iou_after(n) for s in scores])) for n in range(1, limit + 1)]


def csv_row(score: ClickScore, targets: Sequence[float] = TARGETS) -> dict[str, Any]:
    """The line of an object in the CSV file: clicks to each target, then IoU after each click."""
    return (
        {"image": score.image, "group": score.group, "label": score.label}
        | {f"clicks to {target:.2f}": score.clicks_to(target) for target in targets}
        | {f"IoU@{n}": score.iou_after(n) for n in range(1, score.limit + 1)}
    )
