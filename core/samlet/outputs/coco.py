"""Writing masks as COCO instances."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as coco

from samlet.outputs.records import record_mask, record_scores, write_json


def write_coco(
    path: str | Path,
    records: Sequence[Mapping[str, Any]],
    image_name: str,
    size: tuple[int, int],
    category: str = "object",
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write the masks of one image as COCO instances, which `pycocotools.coco.COCO` loads.

    Each annotation has its segmentation (compressed RLE, so that holes survive), area (pixels),
    bbox [x, y, width, height] along pixel edges, category_id 1, and the record's scores; "score" is
    the predicted IoU where the record has none of its own.

    Args:
        path: the JSON file.
        records: see `samlet.outputs`.
        image_name: written as file_name.
        size: (height, width) in pixels.
        category: the one category's name.
        info: how the masks were made, kept under "info".

    Raises:
        UserError: a mask is not of this size, or the file cannot be written.
    """
    height, width = size
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            **to_annotation(record, size),
        }
        for number, record in enumerate(records, start=1)
    ]
    image = {"id": 1, "file_name": image_name, "height": height, "width": width}
    write_json(
        path,
        {
            "info": {"description": "Written by samlet", **(info or {})},
            "images": [image],
            "categories": [{"id": 1, "name": category, "supercategory": ""}],
            "annotations": annotations,
        },
    )


def to_annotation(record: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """A record's mask, area, box and scores as in `write_coco`, for JSON.

    Raises:
        UserError: the mask is not of this size, (H, W).
    """
    rle = record_mask(record, size).to_rle()
    scores = record_scores(record)
    if "predicted_iou" in scores:
        scores.setdefault("score", scores["predicted_iou"])
    return {
        "segmentation": rle,
        "area": int(coco.area(rle)),
        "bbox": [float(side) for side in coco.toBbox(rle)],
        **scores,
    }
