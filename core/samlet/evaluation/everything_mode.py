"""Everything mode against labels, or against what another model finds.

What is measured is `samlet.segment_everything`, which is what users get everywhere: COCO's AP and
the score of the 2018 Data Science Bowl.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samlet.datasets.examples import Example
from samlet.datasets.layers import iter_objects
from samlet.evaluation.instance_metrics import THRESHOLDS, average_precision, bowl_score
from samlet.evaluation.tables import GroupOf, Table, group_name, summarize_by_group
from samlet.everything.segment import segment_everything
from samlet.everything.settings import EverythingSettings
from samlet.masks import Mask, iou_matrix, to_rle
from samlet.predict.predictor import Predictor


@dataclass(frozen=True)
class EverythingScore:
    """What everything mode found in one image.

    Attributes:
        image: its name.
        group: its group; "" if images are not grouped.
        ious: float64, P x T: IoU of each mask with each labelled object, however small.
        scores: float64, P: predicted IoUs of the masks, by which they are ranked.
        bowl_score: the image's score in the 2018 Data Science Bowl, 0 to 1.
    """

    image: str
    group: str
    ious: np.ndarray
    scores: np.ndarray
    bowl_score: float


def evaluate_everything(
    predictor: Predictor,
    examples: Iterable[Example],
    settings: EverythingSettings | None = None,
    group_of: GroupOf | None = None,
) -> Iterator[EverythingScore]:
    """Segment everything in each image, and compare with all of its objects.

    Args:
        predictor: what is measured.
        examples: images with their objects.
        settings: see `samlet.segment_everything`.
        group_of: names an image's group; None does not group.

    Yields:
        the score of one image after another.

    Raises:
        UserError: a setting is out of its range.
    """
    for example in examples:
        records = segment_everything(predictor, example.image, **(settings or {}))
        truth = [to_rle(mask) for _, mask in iter_objects(example.labels)]
        yield _compare(example.name, group_name(example, group_of), records, truth)


def compare_everything(
    teacher: Predictor, student: Predictor, images: Iterable[tuple[str, np.ndarray]]
) -> Iterator[EverythingScore]:
    """Segment everything in each image with two models, and compare what they find.

    Args:
        teacher: the reference: its masks count as the objects.
        student: what is compared with it.
        images: name and RGB uint8, H x W x 3.

    Yields:
        the score of one image after another.
    """
    for name, image in images:
        expected, found = (segment_everything(model, image) for model in (teacher, student))
        yield _compare(name, "", found, [record["segmentation"] for record in expected])


def _compare(
    name: str, group: str, records: Sequence[Mapping[str, Any]], truth: Sequence[Mask]
) -> EverythingScore:
    masks = [record["segmentation"] for record in records]
    scores = np.array([record["predicted_iou"] for record in records])
    return EverythingScore(
        name, group, iou_matrix(masks, truth), scores, bowl_score(masks, scores, truth)
    )


def summarize_everything(scores: Sequence[EverythingScore]) -> Table:
    """Figures: {"all" or group: {"AP", "AP50", "AP75", "F1", "DSB", "masks", "objects"}}.

    AP is COCO's, over all images of the group together; F1 counts the masks and objects of all of
    them, at an IoU of more than 0.5; DSB is the mean of the images' scores in the 2018 Data Science
    Bowl; masks and objects are counts. Without any object, AP is nan; without masks, too, F1 is.
    """
    return summarize_by_group(scores, _figures)


def _figures(scores: Sequence[EverythingScore]) -> dict[str, float]:
    precision = average_precision([s.ious for s in scores], [s.scores for s in scores])
    found = sum(int((s.ious > THRESHOLDS[0]).any(axis=0).sum()) for s in scores)
    total = sum(sum(s.ious.shape) for s in scores)
    return {
        "AP": float(precision.mean()),
        "AP50": float(precision[0]),
        "AP75": float(precision[5]),
        "F1": 2 * found / total if total else float("nan"),
        "DSB": float(np.mean([s.bowl_score for s in scores])),
        "masks": sum(s.ious.shape[0] for s in scores),
        "objects": sum(s.ious.shape[1] for s in scores),
    }


def csv_row(score: EverythingScore) -> dict[str, Any]:
    """The line of an image in the CSV file; objects found are those with an IoU of 0.5 or more."""
    masks, total = score.ious.shape
    return {
        "image": score.image,
        "group": score.group,
        "masks": masks,
        "objects": total,
        "objects found": int((score.ious >= THRESHOLDS[0]).any(axis=0).sum()),
        "DSB": score.bowl_score,
    }
