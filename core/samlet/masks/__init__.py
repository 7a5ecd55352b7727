"""Masks as H x W bool arrays or RLE: boxes, polygons, label maps, IoU and regions.

Coordinates are (x, y) in pixels. Outlines and boxes run along pixel edges: pixel (0, 0) covers the
square from (0, 0) to (1, 1), and a full H x W mask spans (0, 0) to (W, H), as in COCO. Points refer
to a pixel, so that its centre is at integers, as in segment_anything's prompts.
"""

import warnings
from typing import TYPE_CHECKING, Any

from samlet.masks.boxes import Box, box_xyxy
from samlet.masks.label_maps import from_label_map, to_label_map
from samlet.masks.overlap import iou, iou_matrix
from samlet.masks.polygons import join_rings, to_polygons
from samlet.masks.regions import deepest_point, remove_small_regions
from samlet.masks.rle import (
    CroppedMask,
    Mask,
    area,
    bounding_slices,
    check_masks,
    crop_mask,
    from_rle,
    to_rle,
)
from samlet.masks.shapes import fill_ellipse, fill_polygon

_RENAMED = {"Cutout": "CroppedMask", "cut_out": "crop_mask", "extent": "bounding_slices"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Give renamed objects under their old names, with a DeprecationWarning."""
        if name not in _RENAMED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        warnings.warn(
            f"samlet.masks.{name} is now samlet.masks.{_RENAMED[name]}.",
            DeprecationWarning,
            stacklevel=2,
        )
        return globals()[_RENAMED[name]]


__all__ = [
    "Box",
    "CroppedMask",
    "Mask",
    "area",
    "bounding_slices",
    "box_xyxy",
    "check_masks",
    "crop_mask",
    "deepest_point",
    "fill_ellipse",
    "fill_polygon",
    "from_label_map",
    "from_rle",
    "iou",
    "iou_matrix",
    "join_rings",
    "remove_small_regions",
    "to_label_map",
    "to_polygons",
    "to_rle",
]
