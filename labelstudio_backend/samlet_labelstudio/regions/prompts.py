"""Prompts that annotators give by drawing with Label Studio's smart tools."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samlet.datasets import json_files
from samlet.datasets.label_studio.geometry import RegionValue
from samlet.errors import UserError
from samlet_labelstudio.label_studio.labeling_config import LabelingConfig
from samlet_labelstudio.regions import bitmask, brush, ellipse, keypoint, rectangle
from samlet_labelstudio.regions.results import is_own

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels, along pixel edges."""

_REMEDY = "draw the region again"


@dataclass(frozen=True)
class Prompt:
    """What to segment in one image.

    Attributes:
        control: name of the control that the last region was drawn with.
        image: name of the Image tag.
        label: that the annotator chose, or None.
        points: float64, N x 2 of (x, y) in pixels of the original image; pixel centres are at
            integers, as `samlet.predict.predictor.Predictor.segment` wants.
        point_labels: int64, N: 1 on the object, 0 beside it.
        box: around the object, cut off at the image's border; or None.
    """

    control: str
    image: str
    label: str | None
    points: np.ndarray
    point_labels: np.ndarray
    box: Box | None


def read_prompt(results: Any, config: LabelingConfig, size: tuple[int, int]) -> Prompt:
    """Read the regions that Label Studio sends when a smart tool was used.

    All points of all regions count together: a keypoint gives one, a brush stroke up to five that
    are spread inside it. Where some keypoints are smart clicks, the others do not count. Rectangles
    and ellipses give boxes, of which the last counts. The label is that of the last region that has
    one. Regions of other types, and on other pages than the last, are ignored.

    Args:
        results: "result" of the request's "context".
        config: the project's.
        size: (H, W) of the image.

    Returns:
        A prompt with a point or a box, or both.

    Raises:
        UserError: no region is left, they are on several images, or a field is missing or wrong.
    """
    image, page = image_of(results, config)
    control, label, box = "", None, None
    points, point_labels = [np.empty((0, 2))], [np.empty(0, np.int64)]
    labels = labels_by_region(results)
    for where, result in _prompt_regions(results):
        if _page(result, where) != page:
            continue
        control = _control(result, config, image, where)
        kind, value = _read_value(result, size, where)
        label = label_of(result, labels, where) or label
        if kind in _BOXES:
            box = _clip(_BOXES[kind](value), value)
        else:
            points.append(_POINTS[kind](value))
            positive = _is_positive(result, where)
            point_labels.append(np.full(len(points[-1]), positive, np.int64))
    together = np.concatenate(points), np.concatenate(point_labels)
    return Prompt(control, image, label, *together, box)


def read_box(
    result: Any, size: tuple[int, int], labels: Mapping[str, Any] | None = None
) -> tuple[Box, str | None]:
    """Read one rectangle or ellipse, such as a detector's.

    Args:
        result: the region.
        size: (H, W) of the image.
        labels: see `labels_by_region`.

    Returns:
        The box, cut off at the image's border, and the label if there is one.

    Raises:
        UserError: of another type, or a field is missing or wrong.
    """
    where = "The region"
    kind, value = _read_value(result, size, where)
    if kind not in _BOXES:
        raise UserError(
            f'{where} has the "type" {result["type"]}: give rectanglelabels or ellipselabels.'
        )
    return _clip(_BOXES[kind](value), value), label_of(result, labels or {}, where)


def is_box(result: Mapping[str, Any]) -> bool:
    """Tell whether a region is a rectangle, such as a detector's."""
    return result.get("type") in ("rectanglelabels", "rectangle")


def labels_by_region(results: Sequence[Any]) -> dict[str, Any]:
    """The labels that come from a Labels tag, as an entry of their own, by the region's id."""
    return {
        str(result.get("id")): result["value"]["labels"]
        for result in results
        if isinstance(result, Mapping)
        and result.get("type") == "labels"
        and isinstance(result.get("value"), Mapping)
        and "labels" in result["value"]
    }


def label_of(result: Mapping[str, Any], labels: Mapping[str, Any], where: str) -> str | None:
    """The label in a region's own field, or else in an entry of its Labels tag.

    Args:
        result: the region, with "type" and "value".
        labels: see `labels_by_region`.
        where: names the region, to start a sentence.

    Raises:
        UserError: there is something else in its place.
    """
    kind = result["type"] if result["type"].endswith("labels") else "labels"
    found = result["value"].get(kind, labels.get(str(result.get("id"))))
    if found is not None and not (
        isinstance(found, list) and all(isinstance(label, str) for label in found)
    ):
        raise UserError(f'{where} has something else in its "{kind}" than labels: choose a label.')
    return found[0] if found else None


def image_of(results: Any, config: LabelingConfig) -> tuple[str, int]:
    """Name the Image tag that regions were drawn on, before anything is known of the image.

    Args:
        results: see `read_prompt`.
        config: the project's.

    Returns:
        The name, and the image's place in the list of addresses, of the last region.

    Raises:
        UserError: no region is a prompt, they are on several images, or on none of the config.
    """
    image, page = None, 0
    for where, result in _prompt_regions(results):
        drawn_on = json_files.get_field(result, "to_name", str, where, _REMEDY)
        if drawn_on not in config.images:
            raise _unknown_name("to_name", where)
        if image not in (None, drawn_on):
            raise UserError(
                f'{where} has another "to_name" than those before it: prompt one image at a time.'
            )
        image, page = drawn_on, _page(result, where)
    if image is None and config.unsupported:
        raise UserError(next(iter(config.unsupported.values())))
    if image is None:
        raise UserError(
            '"result" has no keypoint, rectangle, ellipse or brush stroke: '
            "choose a smart tool and a label, and draw with it."
        )
    return image, page


def _prompt_regions(results: Any) -> Iterator[tuple[str, Any]]:
    """The regions that are prompts, each with its place, to start a sentence."""
    if not isinstance(results, list):
        raise UserError('"result" is not a list of regions: send the context of Label Studio.')
    # Only smart clicks have it. Points of the same label that were drawn with Auto-Annotation off
    # are sent along, but belong to other objects.
    has_smart_clicks = any(isinstance(each, dict) and "is_positive" in each for each in results)
    for i, result in enumerate(results):
        where = f"result[{i}]"
        kind = _shape(json_files.get_field(result, "type", str, where, _REMEDY))
        if has_smart_clicks and kind == "keypoint" and "is_positive" not in result:
            continue
        # Label Studio also sends earlier results with the type and label of the prompt.
        if kind in _POINTS.keys() | _BOXES.keys() and not is_own(result):
            yield where, result


def _shape(kind: str) -> str:
    """What a type of region means: the tags Brush and BrushLabels draw the same."""
    return kind.removesuffix("labels")


def _page(result: Any, where: str) -> int:
    page = result.get("item_index") or 0
    if not isinstance(page, int) or page < 0:
        raise UserError(f'{where} has an "item_index" that is no number of a page: draw it again.')
    return page


def _control(result: Any, config: LabelingConfig, image: str, where: str) -> str:
    name: str = json_files.get_field(result, "from_name", str, where, _REMEDY)
    if not any(control.name == name and control.image == image for control in config.controls):
        raise _unknown_name("from_name", where)
    return name


def _unknown_name(name: str, where: str) -> UserError:
    return UserError(
        f'{where} has a "{name}" that is not in the labeling config: '
        "reload the page in Label Studio and draw the region again."
    )


def _read_value(result: Any, size: tuple[int, int], where: str) -> tuple[str, RegionValue]:
    """Shape and value of a region."""
    kind = json_files.get_field(result, "type", str, where, _REMEDY)
    fields = json_files.get_field(result, "value", dict, where, _REMEDY)
    return _shape(kind), RegionValue(fields, size, where, _REMEDY)


def _is_positive(result: Any, where: str) -> bool:
    positive = result.get("is_positive", True)
    if not isinstance(positive, int) or positive not in (0, 1):
        raise UserError(f'{where} has an "is_positive" that is not true or false: draw it again.')
    return bool(positive)


def _clip(bounds: np.ndarray, value: RegionValue) -> Box:
    (x0, y0), (x1, y1) = np.clip(bounds, 0, value.size[::-1]).tolist()
    if x0 >= x1 or y0 >= y1:
        raise UserError(
            f'{value.where} has a "value" without any area in the image: draw it again.'
        )
    return x0, y0, x1, y1


_Read = Callable[[RegionValue], np.ndarray]
_POINTS: dict[str, _Read] = {
    "keypoint": keypoint.points,
    "brush": brush.points,
    "bitmask": bitmask.points,
}
_BOXES: dict[str, _Read] = {"rectangle": rectangle.bounds, "ellipse": ellipse.bounds}
