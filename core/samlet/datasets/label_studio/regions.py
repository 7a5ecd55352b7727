"""Regions that were drawn in Label Studio, as masks; their geometry is in `geometry.py`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samlet.datasets import json_files
from samlet.datasets.label_studio import geometry
from samlet.datasets.label_studio.bitmask import read_bitmask
from samlet.datasets.label_studio.geometry import RegionValue
from samlet.datasets.label_studio.vectors import read_vector
from samlet.datasets.labelled_images import check_size
from samlet.errors import UserError
from samlet.masks import fill_polygon


def is_shape(result: dict[str, Any]) -> bool:
    """Whether an entry of an annotation's "result" describes the area of an object.

    Points do not. An entry without a type does not either.
    """
    return _shape(result) in _DRAW


def without_repetitions(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep one entry of each region: Label Studio stores one for every label that a region has.

    The same region carries the label of its own control, and with *Keep label selected* that of the
    smart tool as well, which is still selected when its mask is accepted. Both entries have its id
    and its geometry.

    Args:
        results: entries of an annotation's "result", all of them shapes.
    """
    kept: dict[str, list[dict[str, Any]]] = {}
    unique = []
    for result in results:
        geometry = _geometry(result)
        known = kept.setdefault(str(result.get("id", "")), [])
        if geometry not in known:
            known.append(geometry)
            unique.append(result)
    return unique


def to_mask(result: dict[str, Any], image: Path, size: tuple[int, int], where: str) -> np.ndarray:
    """Draw one region.

    Args:
        result: an entry of an annotation's "result" for which `is_shape` holds.
        image: the image file.
        size: its (H, W).
        where: names the task, to start a sentence.

    Returns:
        bool, H x W.

    Raises:
        UserError: made for another size, on an image that was turned in Label Studio, a vector that
            is not closed, or fields are missing or wrong.
    """
    where = f"{where}, region {result.get('id')},"
    kind = _shape(result)
    stated = json_files.stated_size(result, "original_width", "original_height", where)
    check_size(stated or size, image, size, where)
    if json_files.get_number(result, "image_rotation", where, default=0) % 360:
        raise UserError(
            f"{where} was drawn on an image that was turned in Label Studio: "
            "turn it back there and export the labels again."
        )
    fields = json_files.get_field(result, "value", dict, where)
    return _DRAW[kind](RegionValue(fields, size, where, "export the labels again"))


def label_of(result: dict[str, Any]) -> str | None:
    """The first label in an entry of a "result"; None if it has none."""
    value = result.get("value")
    for name, labels in value.items() if isinstance(value, dict) else ():
        if name.endswith("labels") and isinstance(labels, list) and labels:
            return labels[0] if isinstance(labels[0], str) else None
    return None


def labels_by_region(results: Sequence[Any]) -> dict[str, str]:
    """The first label of each region by its id, where a Labels tag has an entry of its own."""
    tags = (result for result in results if isinstance(result, dict))
    named = ((tag.get("id"), label_of(tag)) for tag in tags if tag.get("type") == "labels")
    return {str(region): label for region, label in named if label is not None}


def _shape(result: dict[str, Any]) -> str:
    """The shape in a result's value, which may be another one than its type says."""
    # The tags <Polygon> and <PolygonLabels> write the same shapes.
    kind = str(result.get("type", "")).lower().removesuffix("labels")
    value = result.get("value")
    if kind not in (*_DRAW, "keypoint", "magicwand") or not isinstance(value, dict):
        return kind
    # The label of a smart tool on a mask that came as a brush region is of the smart tool's type.
    for field, shape in _SHAPE_OF_FIELD.items():
        if field in value:
            return shape
    return kind


def _geometry(result: dict[str, Any]) -> Any:
    value = result.get("value")
    if not isinstance(value, dict):
        return value
    return {name: field for name, field in value.items() if not name.endswith("labels")}


_SHAPE_OF_FIELD = {
    "rle": "brush",
    "imageDataURL": "bitmask",
    "vertices": "vector",
    "points": "polygon",
    "radiusX": "ellipse",
    # Points have a width only.
    "height": "rectangle",
}
_DRAW: dict[str, Callable[[RegionValue], np.ndarray]] = {
    "brush": geometry.read_brush,
    "bitmask": read_bitmask,
    "polygon": lambda value: fill_polygon(geometry.read_polygon(value), value.size),
    "rectangle": lambda value: geometry.Rectangle.read(value).mask(value.size),
    "ellipse": lambda value: geometry.Ellipse.read(value).mask(value.size),
    "vector": lambda value: fill_polygon(read_vector(value), value.size),
}
