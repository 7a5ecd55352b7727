"""Writing masks to files: label maps, COCO, GeoJSON, ImageJ ROIs, YOLO, and overlays.

A record is a mapping with a "segmentation" (an H x W mask or COCO RLE) and any of the "score",
"predicted_iou" and "stability_score", as the predictor and everything mode return them, and the
name of its "category".
"""

from samlet.outputs.coco import write_coco
from samlet.outputs.drawing import overlay
from samlet.outputs.geojson import write_polygons
from samlet.outputs.imagej_rois import write_rois
from samlet.outputs.label_maps import read_label_map, write_label_map, write_mask
from samlet.outputs.yolo import write_yolo

__all__ = [
    "overlay",
    "read_label_map",
    "write_coco",
    "write_label_map",
    "write_mask",
    "write_polygons",
    "write_rois",
    "write_yolo",
]
