"""The files that the command line writes for one image."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from samlet.files import atomic_path
from samlet.masks import to_label_map
from samlet.outputs import write_coco, write_label_map, write_polygons
from samlet.overlay import overlay

COCO_SUFFIX = ".coco.json"


def write_results(
    folder: Path,
    image_path: Path,
    image: np.ndarray,
    records: Sequence[Mapping[str, Any]],
    info: Mapping[str, Any],
    points: Sequence[Sequence[float]] | None = None,
    point_labels: Sequence[int] | None = None,
    boxes: Sequence[Sequence[float]] | None = None,
) -> list[Path]:
    """Write an image's masks in every format that annotation tools read.

    Args:
        folder: where; made if needed.
        image_path: its name gives the files' names.
        image: RGB uint8, H x W x 3.
        records: masks with their scores, as everything mode gives them.
        info: how the masks were made: model and settings. `is_done` compares it.
        points: clicks to draw, (x, y) in pixels of the image.
        point_labels: 1 or 0 for each.
        boxes: boxes to draw, x1, y1, x2, y2.

    Returns:
        the files: label map (NAME.labels.png, or .tif beyond 65535 objects), polygons
        (NAME.geojson), overlay (NAME.overlay.png) and, last, so that it marks the image as done,
        COCO (NAME.coco.json). NAME is the image's file name with its suffix.

    Raises:
        UserError: a file cannot be written.
    """
    size = image.shape[:2]
    masks = [record["segmentation"] for record in records]
    scores = [record["predicted_iou"] for record in records]
    name = image_path.name
    label_path = folder / f"{name}.labels.{'png' if len(masks) < 65536 else 'tif'}"
    # Nothing as large as the image is kept for longer than it takes to write it.
    write_label_map(label_path, to_label_map(masks or np.zeros((0, *size), dtype=bool), scores))
    polygon_path = folder / f"{name}.geojson"
    write_polygons(polygon_path, records, size)
    overlay_path = folder / f"{name}.overlay.png"
    with atomic_path(overlay_path) as path:
        Image.fromarray(overlay(image, masks, points, point_labels, boxes)).save(path)
    coco_path = folder / f"{name}{COCO_SUFFIX}"
    write_coco(coco_path, records, name, size, info={"samlet": info})
    return [label_path, polygon_path, overlay_path, coco_path]


def is_done(folder: Path, image_path: Path, info: Mapping[str, Any]) -> bool:
    """Whether `write_results` finished for this image, with the same model and settings."""
    path = folder / f"{image_path.name}{COCO_SUFFIX}"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["info"]["samlet"] == info
    except (OSError, ValueError, KeyError, TypeError):
        return False
