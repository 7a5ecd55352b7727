"""Writing masks as COCO instances."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as coco

from samlet.masks import crop_mask, join_rings, to_polygons
from samlet.outputs.records import DEFAULT_CATEGORY, record_mask, record_scores, write_json


def write_coco(
    path: str | Path,
    records: Sequence[Mapping[str, Any]],
    image_name: str,
    size: tuple[int, int],
    category: str = DEFAULT_CATEGORY,
    info: Mapping[str, Any] | None = None,
    categories: Sequence[str] = (),
    as_polygons: bool = False,
) -> None:
    """Write the masks of one image as COCO instances, which `pycocotools.coco.COCO` loads.

    Each annotation has its segmentation (compressed RLE, so that holes survive), area (pixels),
    bbox [x, y, width, height] along pixel edges, category_id of the record's "category", and its
    scores; "score" is the predicted IoU where the record has none of its own.

    Args:
        path: the JSON file.
        records: see `samlet.outputs`.
        image_name: written as file_name.
        size: (height, width) in pixels.
        category: name of the category of records without one.
        info: how the masks were made, kept under "info".
        categories: names that are numbered from 1, whether this image has them or not, so that
            several images agree; those that only occur in records follow.
        as_polygons: write polygons in place of RLE, simplified by half a pixel, for tools that
            read nothing else. COCO's have no holes: bridges of no width lead to them, see
            `samlet.masks.join_rings`. Empty masks are left out. Area and bbox are the mask's.

    Raises:
        UserError: a mask is not of this size, or the file cannot be written.
    """
    height, width = size
    ids = category_numbers(records, categories, category)
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": ids[record.get("category", category)],
            "iscrowd": 0,
            **to_annotation(record, size),
        }
        for number, record in enumerate(records, start=1)
    ]
    if as_polygons:
        annotations = [one for one in annotations if one["area"]]
        for annotation in annotations:
            annotation["segmentation"] = _to_coco_polygons(annotation["segmentation"])
    image = {"id": 1, "file_name": image_name, "height": height, "width": width}
    write_json(
        path,
        {
            "info": {"description": "Written by samlet", **(info or {})},
            "images": [image],
            "categories": [
                {"id": number, "name": name, "supercategory": ""} for name, number in ids.items()
            ],
            "annotations": annotations,
        },
    )


def category_numbers(
    records: Sequence[Mapping[str, Any]],
    categories: Sequence[str] = (),
    category: str = DEFAULT_CATEGORY,
) -> dict[str, int]:
    """Number the categories of records from 1; see `write_coco`."""
    of_records = (record.get("category", category) for record in records)
    names = dict.fromkeys((*categories, *of_records)) or {category: None}
    return {name: number for number, name in enumerate(names, start=1)}


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


def _to_coco_polygons(rle: Mapping[str, Any]) -> list[list[float]]:
    cropped = crop_mask(rle)
    polygons = to_polygons(cropped.mask, 0.5, (cropped.x, cropped.y))
    return [join_rings(polygon).ravel().tolist() for polygon in polygons]
