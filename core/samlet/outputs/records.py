"""Helpers of the writers: a record's mask and scores, and JSON files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samlet.errors import UserError
from samlet.masks import CroppedMask, crop_mask
from samlet.utils.files import atomic_path

CLASS_PROBABILITY = "class_probability"
"""Score of a record whose "category" a classifier has given, and not a person."""
_SCORES = ("score", "predicted_iou", "stability_score", "likeness", CLASS_PROBABILITY)
_TIFF = (".tif", ".tiff")
DEFAULT_CATEGORY = "object"
"""Of records without one."""


def record_mask(record: Mapping[str, Any], size: tuple[int, int]) -> CroppedMask:
    """A record's mask, cropped; UserError if it is not of an image of this size, (H, W)."""
    cropped = crop_mask(record["segmentation"])
    if cropped.size != tuple(size):
        raise UserError(f"A mask of {cropped.size} does not belong to an image of {tuple(size)}.")
    return cropped


def record_scores(record: Mapping[str, Any]) -> dict[str, float]:
    """The record's scores, by name."""
    return {key: float(record[key]) for key in _SCORES if key in record}


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
