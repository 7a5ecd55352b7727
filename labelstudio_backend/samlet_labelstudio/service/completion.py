"""An annotation with some objects of a label, completed with all like them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samlet import Predictor
from samlet.datasets.label_studio.regions import is_shape, without_repetitions
from samlet.errors import UserError
from samlet.masks import CroppedMask
from samlet_labelstudio.label_studio.labeling_config import LabelingConfig
from samlet_labelstudio.regions.prompts import label_of, labels_by_region
from samlet_labelstudio.service.request_context import Task
from samlet_labelstudio.service.similar_objects import (
    LabelledObject,
    annotated_regions,
    find_similar,
)

_SUFFIX = " (all like "


@dataclass(frozen=True)
class Completion:
    """What a prediction completes.

    Attributes:
        labels: of the objects to be found; with "all like cell" in the labeling config and a cell
            in the annotation, "cell" is one.
        regions: of the annotation.
        count: of those that have one of the labels.
    """

    labels: tuple[str, ...]
    regions: list[dict[str, Any]]
    count: int

    @property
    def suffix(self) -> str:
        """What is added to a model version: a task has one prediction of each version."""
        return f"{_SUFFIX}{self.count} {', '.join(self.labels)})"

    def find(
        self,
        predictor: Predictor,
        image: np.ndarray,
        labelled: Sequence[LabelledObject],
        likeness: float,
        progress: Callable[[float], None] | None = None,
    ) -> list[tuple[CroppedMask, float, str | None]]:
        """Find the rest of each label in an image.

        Args:
            predictor: with the model.
            image: RGB uint8, H x W x 3.
            labelled: the objects of the annotation on this image, see `labelled_objects`.
            likeness: see `samlet.find_similar`.
            progress: see `samlet.find_similar`.

        Returns:
            Mask, predicted IoU and label of each.
        """
        found: list[tuple[CroppedMask, float, str | None]] = []
        for label in self.labels:
            if not any(each.label == label for each in labelled):
                continue
            # What has become one label is not proposed for the next.
            known = [*labelled, *(LabelledObject(other, mask) for mask, _, other in found)]
            objects = find_similar(predictor, image, label, known, likeness, progress=progress)
            found += [(mask, score, label) for mask, score in objects]
        return found


def completion_of(task: Task, config: LabelingConfig, image: str) -> Completion | None:
    """What a prediction for a task completes; None if it is for the whole image.

    Args:
        task: as Label Studio sends it for *Retrieve Predictions*: with its annotations, without
            drafts.
        config: the project's, with the task's labels.
        image: name of the Image tag.
    """
    regions = annotated_regions(task)
    wanted = config.labels_to_find(image) if regions else []
    if not wanted:
        return None
    by_region = labels_by_region(regions)
    shapes = [each for each in regions if each.get("to_name") == image and is_shape(each)]
    counts = Counter(_label(shape, by_region) for shape in without_repetitions(shapes))
    present = tuple(label for label in wanted if counts[label])
    if not present:
        return None
    return Completion(present, regions, sum(counts[label] for label in present))


def is_version_of(version: Any, models: Sequence[str]) -> bool:
    """Whether a prediction's model version is one of some models, with or without a suffix."""
    return str(version).partition(_SUFFIX)[0] in models


def _label(shape: dict[str, Any], labels: dict[str, Any]) -> str | None:
    try:
        return label_of(shape, labels, "A region")
    # `labelled_objects` reports it.
    except UserError:
        return None
