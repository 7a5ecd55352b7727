"""Writing masks to files: label maps, binary masks, COCO JSON, GeoJSON and overlays.

A record is a mapping with a "segmentation" (an H x W mask or COCO RLE) and any of the "score",
"predicted_iou" and "stability_score", as the predictor and everything mode return them.
"""

from samlet.outputs.coco import write_coco
from samlet.outputs.drawing import overlay
from samlet.outputs.geojson import write_polygons
from samlet.outputs.label_maps import read_label_map, write_label_map, write_mask

__all__ = [
    "overlay",
    "read_label_map",
    "write_coco",
    "write_label_map",
    "write_mask",
    "write_polygons",
]
