"""All objects like one that is pointed at, or like those that are labelled."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import samlet
from samlet import Predictor
from samlet.datasets.label_studio.export import page_number
from samlet.datasets.label_studio.regions import is_shape, to_mask, without_repetitions
from samlet.errors import UserError
from samlet.masks import CroppedMask, area, crop_mask
from samlet_labelstudio.label_studio.labeling_config import LabelingConfig
from samlet_labelstudio.regions.prompts import label_of, labels_by_region
from samlet_labelstudio.regions.results import is_own
from samlet_labelstudio.service.request_context import Task

log = logging.getLogger(__name__)

COVERED = 0.5
"""Share of an object that other regions cover, above which it is labelled already."""


@dataclass(frozen=True)
class LabelledObject:
    """A region of a task that is an object.

    Attributes:
        label: None without one.
        mask: in the whole image.
    """

    label: str | None
    mask: CroppedMask


def find_similar(
    predictor: Predictor,
    image: np.ndarray,
    label: str | None,
    labelled: Sequence[LabelledObject],
    likeness: float,
    pointed_at: tuple[CroppedMask, float] | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[tuple[CroppedMask, float]]:
    """Find the objects that are like those that have a label already, or like one.

    Args:
        predictor: with the model.
        image: RGB uint8, H x W x 3.
        label: of the objects.
        labelled: what is labelled in the image; none of it is among the results.
        likeness: see `samlet.find_similar`.
        pointed_at: the object of a prompt, not empty, and its predicted IoU. Without it, one of
            `labelled` has the label.
        progress: see `samlet.find_similar`.

    Returns:
        Mask and predicted IoU of each, `pointed_at` first.
    """
    objects = [] if pointed_at is None else [pointed_at]
    examples = [mask for mask, _ in objects]
    examples += [each.mask for each in labelled if each.label == label]
    found = samlet.find_similar(
        predictor,
        image,
        [each.to_rle() for each in examples],
        likeness=likeness,
        progress=progress,
    )
    objects += [(crop_mask(one["segmentation"]), min(one["predicted_iou"], 1.0)) for one in found]
    covered = np.zeros(image.shape[:2], bool)
    for each in labelled:
        covered[each.mask.slices] |= each.mask.mask
    return [
        (mask, score)
        for mask, score in objects
        if area(covered[mask.slices] & mask.mask) <= COVERED * area(mask.mask)
    ]


def saved_regions(task: Task) -> list[dict[str, Any]]:
    """The regions of the annotation that is being worked on, as Label Studio has saved it.

    That is the latest draft, or without any the last annotation. Label Studio saves drafts some
    seconds after a change.

    Args:
        task: as Label Studio sends it when a smart tool was used.
    """
    return _latest_regions(task, "drafts") if task.get("drafts") else annotated_regions(task)


def annotated_regions(task: Task) -> list[dict[str, Any]]:
    """The regions of the last annotation of a task that was not cancelled (skipped)."""
    return _latest_regions(task, "annotations")


def without_prompts(regions: list[dict[str, Any]], drawn: list[Any]) -> list[dict[str, Any]]:
    """Leave out the prompts, which may have been saved as well.

    Args:
        regions: that were saved.
        drawn: the prompts.
    """
    prompts = {each["id"] for each in drawn if "id" in each and not is_own(each)}
    return [each for each in regions if each.get("id") not in prompts]


def labelled_objects(
    regions: list[dict[str, Any]],
    config: LabelingConfig,
    image: str,
    page: int,
    size: tuple[int, int],
    task: Any,
) -> list[LabelledObject]:
    """The objects of an annotation on one image.

    Args:
        regions: of the annotation.
        config: the project's.
        image: name of the Image tag.
        page: the image's place in the list of addresses, if the task has one.
        size: (H, W) of the image.
        task: its number, for the log.
    """
    regions = [each for each in regions if each.get("to_name") == image]
    labels = labels_by_region(regions)
    objects = []
    for region in without_repetitions([each for each in regions if is_shape(each)]):
        if page_number(region) != page:
            continue
        try:
            mask = to_mask(region, Path(image), size, f"Task {task}")
            label = label_of(region, labels, f"Region {region.get('id')}")
        except UserError as error:
            log.warning("It is no example for similar objects: %s", error)
            continue
        # A box that was drawn as a prompt is no object.
        if mask.any() and config.label_to_find(label) is None:
            objects.append(LabelledObject(label, crop_mask(mask)))
    return objects


def _latest_regions(task: Task, name: str) -> list[dict[str, Any]]:
    saved: Any = task.get(name)
    records = [
        each
        for each in (saved if isinstance(saved, list) else [])
        if isinstance(each, Mapping) and not each.get("was_cancelled")
    ]
    latest: Mapping[str, Any] = max(
        records, key=lambda each: str(each.get("updated_at") or ""), default={}
    )
    regions = latest.get("result")
    return [
        dict(each)
        for each in (regions if isinstance(regions, list) else [])
        if isinstance(each, Mapping)
    ]
