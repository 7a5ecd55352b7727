"""Masks as regions of Label Studio's result format."""

import secrets
import string
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from samlet.datasets.label_studio.vectors import vector_value
from samlet.masks import CroppedMask
from samlet_labelstudio.label_studio.labeling_config import Control
from samlet_labelstudio.regions import bitmask, brush, ellipse, polygon, rectangle

_ID_CHARACTERS = string.ascii_letters + string.digits
_OWN_PREFIX = "samlet-"


def is_own(result: Mapping[str, Any]) -> bool:
    """Tell whether a region was made by `to_results`: Label Studio keeps its id."""
    return str(result.get("id", "")).startswith(_OWN_PREFIX)


def to_results(
    mask: CroppedMask,
    control: Control,
    label: str,
    score: float,
    tolerance: float = 1.0,
    page: int | None = None,
) -> list[dict[str, Any]]:
    """Write a mask as a control's regions.

    Args:
        mask: the object.
        control: one in which masks can be returned.
        label: of the regions.
        score: 0 to 1.
        tolerance: how far an outline may deviate from the mask, in pixels.
        page: the image's place in the list of addresses; None if the task has one image.

    Returns:
        Entries of a prediction's "result": one for each region, or two of the same id if the label
        is that of a Labels tag. The mask is one region, or with polygons and vectors one for each
        larger component; none if it is empty.

    Raises:
        UserError: the image is too large for a brush mask.
    """
    write: dict[str, Callable[[CroppedMask], list[dict[str, Any]]]] = {
        "Brush": brush.values,
        "Bitmask": bitmask.values,
        "Polygon": partial(polygon.values, tolerance=tolerance),
        "Vector": partial(polygon.values, tolerance=tolerance, write=vector_value),
        "Rectangle": rectangle.values,
        "Ellipse": ellipse.values,
    }
    if not mask.mask.any():
        return []
    height, width = mask.size
    results: list[dict[str, Any]] = []
    for value in write[control.shape](mask):
        region: dict[str, Any] = {
            "id": _OWN_PREFIX + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(10)),
            "to_name": control.image,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": float(score),
        }
        if page is not None:
            region["item_index"] = page
        kind, named = control.tag.lower(), {"from_name": control.name}
        if control.labels_tag is not None:
            results.append({**region, **named, "type": kind, "value": value})
            kind, named = "labels", {"from_name": control.labels_tag}
        results.append({**region, **named, "type": kind, "value": {**value, kind: [label]}})
    return results
