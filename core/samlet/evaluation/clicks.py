"""Corrective clicks: how many it takes until an object is right (NoC).

Source: the protocol of interactive segmentation, as in RITM (arXiv 2102.06583), with SAM's way of
going on (arXiv 2304.02643): each answer's logits are the next prompt's mask, and only the first
click, which is ambiguous, is answered by three candidates.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from samlet.datasets.examples import Example
from samlet.evaluation.corrections import next_click
from samlet.evaluation.object_batches import MIN_AREA, GroupOf, group_name, object_chunks
from samlet.evaluation.tables import Table, by_group
from samlet.masks import iou
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor

TARGETS = (0.85, 0.90)
LIMIT = 20
SHOWN = (1, 2, 3, 5, 10, 20)
"""Numbers of clicks whose mean IoU `summary` tells."""


@dataclass(frozen=True)
class ClickScore:
    """How one object came out, click by click.

    Attributes:
        image: name of its image.
        kind: group of the image; "" where images are not grouped.
        label: the object's number in the label map.
        ious: IoU after 1, 2, ... clicks. It ends when the highest target is reached, since a person
            stops there; when nothing is left to click on; or at the limit.
        limit: how many clicks were allowed.
    """

    image: str
    kind: str
    label: int
    ious: tuple[float, ...]
    limit: int

    def iou_after(self, clicks: int) -> float:
        """IoU after so many clicks (1 or more); the last one, if it took fewer."""
        return self.ious[min(clicks, len(self.ious)) - 1]

    def reaches(self, target: float) -> bool:
        """Whether the IoU was ever at least `target`."""
        return max(self.ious) >= target

    def clicks_to(self, target: float) -> int:
        """Clicks until the IoU was first at least `target`; `limit` if it never was."""
        return next((n for n, reached in enumerate(self.ious, 1) if reached >= target), self.limit)


@dataclass
class _Session:
    """One object being clicked on: the truth, the clicks so far, and the last answer."""

    truth: np.ndarray
    predicted: np.ndarray
    logits: np.ndarray = field(default_factory=lambda: np.empty(0))
    points: list[tuple[int, int]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)

    def click(self) -> bool:
        """Add the next click; False if there is nothing left to click on."""
        click = next_click(self.predicted, self.truth, self.points)
        if click is not None:
            self.points.append(click[0])
            self.labels.append(click[1])
        return click is not None


def evaluate_clicks(
    predictor: Predictor,
    examples: Iterable[Example],
    targets: Sequence[float] = TARGETS,
    limit: int = LIMIT,
    group_of: GroupOf | None = None,
    min_area: int = MIN_AREA,
) -> Iterator[list[ClickScore]]:
    """Click on every labelled object until it is right, each click correcting the last answer.

    The first click is at the deepest point of the object's largest part, each next one where
    `next_click` says.

    Args:
        predictor: what is measured.
        examples: images with their objects.
        targets: IoUs to reach; clicking on an object ends at the highest.
        limit: most clicks an object.
        group_of: names an image's group; None does not group.
        min_area: objects with fewer pixels are left out.

    Yields:
        the scores of one image after another.
    """
    for example in examples:
        embedding = predictor.encode(example.image)
        kind = group_name(example, group_of)
        scores = []
        for chunk in object_chunks(example.labels, min_area):
            sessions = [_Session(mask, np.zeros_like(mask)) for _, mask in chunk]
            _correct(predictor, embedding, sessions, max(targets), limit)
            scores += [
                ClickScore(example.name, kind, label, tuple(session.ious), limit)
                for session, (label, _) in zip(sessions, chunk, strict=True)
            ]
        yield scores


def _correct(
    predictor: Predictor,
    embedding: ImageEmbedding,
    sessions: Sequence[_Session],
    goal: float,
    limit: int,
) -> None:
    """Give each object its clicks; those that are not done yet are decoded together."""
    active = list(sessions)
    for number in range(limit):
        active = [session for session in active if session.click()]
        if not active:
            return
        answers = predictor.segment_batch(
            embedding,
            [session.points for session in active],
            [session.labels for session in active],
            mask_inputs=None if number == 0 else np.stack([s.logits for s in active]),
            multimask_output=number == 0,
        )
        for session, answer in zip(active, answers, strict=True):
            session.predicted = answer.best
            session.logits = answer.low_res_masks[answer.best_index]
            session.ious.append(iou(answer.best, session.truth))
        active = [session for session in active if session.ious[-1] < goal]


def summary(scores: Sequence[ClickScore], targets: Sequence[float] = TARGETS) -> Table:
    """Mean figures: {kind or "all": {"NoC@85": ..., "failed@85": ..., "IoU@1": ..., "objects": n}}.

    NoC@85 is the mean number of clicks to an IoU of 0.85, objects that never reach it counting as
    the limit; failed@85 the share of those objects; IoU@k the mean IoU after k clicks.
    """
    return by_group(scores, lambda group: _figures(group, targets))


def _figures(scores: Sequence[ClickScore], targets: Sequence[float]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for target in targets:
        name = f"{target * 100:.0f}"
        figures[f"NoC@{name}"] = float(np.mean([s.clicks_to(target) for s in scores]))
        figures[f"failed@{name}"] = float(np.mean([not s.reaches(target) for s in scores]))
    curve = mean_ious(scores)
    figures |= {f"IoU@{n}": curve[n - 1] for n in SHOWN if n <= len(curve)}
    return figures | {"objects": len(scores)}


def mean_ious(scores: Sequence[ClickScore]) -> list[float]:
    """Mean IoU over all objects after 1, 2, ... clicks, up to the limit; empty without objects."""
    limit = max((score.limit for score in scores), default=0)
    return [float(np.mean([s.iou_after(n) for s in scores])) for n in range(1, limit + 1)]


def csv_row(score: ClickScore, targets: Sequence[float] = TARGETS) -> dict[str, Any]:
    """Lay out an object's clicks as one line: clicks to each target, then IoU after each click."""
    return (
        {"image": score.image, "kind": score.kind, "label": score.label}
        | {f"clicks to {target:.2f}": score.clicks_to(target) for target in targets}
        | {f"IoU@{n}": score.iou_after(n) for n in range(1, score.limit + 1)}
    )
