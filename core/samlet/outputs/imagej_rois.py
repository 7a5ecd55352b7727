"""Writing masks as regions of interest (ROIs) of ImageJ, which its ROI Manager opens."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import roifile

from samlet.masks import to_polygons
from samlet.outputs.records import DEFAULT_CATEGORY, record_mask
from samlet.utils.files import atomic_path

_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


def write_rois(
    path: str | Path, records: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> None:
    """Write masks as a zip of ROIs, which cover exactly their pixels.

    A mask of one part without holes becomes a traced ROI, others a composite one. ROIs are named by
    the number of the record and its "category": 0001, 0002-neuron. Empty masks are left out.

    Args:
        path: the zip file.
        records: see `samlet.outputs`.
        size: (height, width) in pixels.

    Raises:
        UserError: a mask is not of this size, or the file cannot be written.
    """
    rois = []
    for number, record in enumerate(records, start=1):
        cropped = record_mask(record, size)
        polygons = to_polygons(cropped.mask, 0.0, (cropped.x, cropped.y))
        if polygons:
            rois.append(_to_roi([ring for polygon in polygons for ring in polygon]))
            rois[-1].name = _name(number, record.get("category", DEFAULT_CATEGORY))
    with atomic_path(path) as temporary:
        roifile.roiwrite(temporary, rois, mode="w")


def _name(number: int, category: str) -> str:
    # It becomes a file's name within the zip.
    suffix = "" if category == DEFAULT_CATEGORY else "-" + re.sub(r"[\\/:\0]", "_", category)
    return f"{number:04d}{suffix}"


def _to_roi(rings: Sequence[np.ndarray]) -> roifile.ImagejRoi:
    if len(rings) == 1:
        roi = roifile.ImagejRoi.frompoints(rings[0].astype(np.int32))
        roi.roitype = roifile.ROI_TYPE.TRACED
        return roi
    path = [_steps(ring) for ring in rings]
    points = np.concatenate(rings)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    roi = roifile.ImagejRoi()
    roi.roitype = roifile.ROI_TYPE.RECT
    roi.left, roi.top, roi.right, roi.bottom = (int(side) for side in (left, top, right, bottom))
    roi.multi_coordinates = np.concatenate(path).astype(np.float32)
    roi.shape_roi_size = len(roi.multi_coordinates)
    return roi


def _steps(ring: np.ndarray) -> np.ndarray:
    """A closed ring in the steps of Java's PathIterator: kind, x, y, ..., and the end."""
    kinds = np.full(len(ring), _LINE)
    kinds[0] = _MOVE
    return np.append(np.column_stack([kinds, ring]), _CLOSE)
