"""Masks as values: H x W bool arrays or their RLE, and what they turn into.

Coordinates are (x, y) in pixels. Outlines and boxes run along pixel edges: pixel (0, 0) covers the
square from (0, 0) to (1, 1), and a full H x W mask spans (0, 0) to (W, H), as in COCO. Points name
a pixel, so their centre is at integers, as in segment_anything's prompts.
"""

from samlet.masks.boxes import Box, box_xyxy
from samlet.masks.label_maps import from_label_map, to_label_map
from samlet.masks.overlap import iou, iou_matrix
from samlet.masks.polygons import to_polygons
from samlet.masks.regions import deepest_point, remove_small_regions
from samlet.masks.rle import Cutout, Mask, area, cut_out, extent, from_rle, to_rle
from samlet.masks.shapes import fill_ellipse, fill_polygon, fill_rectangle

__all__ = [
    "Box",
    "Cutout",
    "Mask",
    "area",
    "box_xyxy",
    "cut_out",
    "deepest_point",
    "extent",
    "fill_ellipse",
    "fill_polygon",
    "fill_rectangle",
    "from_label_map",
    "from_rle",
    "iou",
    "iou_matrix",
    "remove_small_regions",
    "to_label_map",
    "to_polygons",
    "to_rle",
]
