"""Masks as regions of Label Studio's result format."""

import secrets
import string
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from samlet.masks import CroppedMask
from samlet_labelstudio.label_studio.labeling_config import Control
from samlet_labelstudio.regions import brush, ellipse, polygon, rectangle

_ID_CHARACTERS = string.ascii_letters + string.digits
_OWN_PREFIX = "samlet-"


def is_own(result: Mapping[str, Any]) -> bool:
    """Tell whether a region was made by `to_results`: Label Studio keeps its id."""
    return str(result.get("id", "")).startswith(_OWN_PREFIX)


def to_results(
    mask: CroppedMask, control: Control, label: str, score: float, tolerance: float = 1.0
) -> list[dict[str, Any]]:
    """Write a mask as a control's regions.

    Args:
        mask: the object.
        control: a BrushLabels, PolygonLabels, RectangleLabels or EllipseLabels.
        label: of the regions.
        score: 0 to 1.
        tolerance: how far a polygon may deviate from the mask, in pixels.

    Returns:
        Entries of a prediction's "result": one region, or with PolygonLabels one for each larger
        component; none if the mask is empty.

    Raises:
        UserError: the image is too large for a brush mask.
    """
    values: dict[str, Callable[[CroppedMask], list[dict[str, Any]]]] = {
        "BrushLabels": brush.values,
        "PolygonLabels": partial(polygon.values, tolerance=tolerance),
        "RectangleLabels": rectangle.values,
        "EllipseLabels": ellipse.values,
    }
    if not mask.mask.any():
        return []
    kind = control.tag.lower()
    height, width = mask.size
    return [
        {
            "id": _OWN_PREFIX + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(10)),
            "from_name": control.name,
            "to_name": control.image,
            "type": kind,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {**value, kind: [label]},
            "score": float(score),
        }
        for value in values[control.tag](mask)
    ]
