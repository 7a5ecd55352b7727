"""Masks on disk: label maps, binary masks, COCO JSON and GeoJSON.

A record is a mapping with a "segmentation" (an H x W mask or COCO RLE) and any of the "score",
"predicted_iou" and "stability_score" that the predictor or everything mode gave.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from pycocotools import mask as coco

from samlet.errors import UserError
from samlet.files import atomic_path
from samlet.image_files import DEFAULT_MAX_PIXELS, decode
from samlet.masks import Cutout, cut_out, to_polygons

_SCORES = ("score", "predicted_iou", "stability_score")
_TIFF = (".tif", ".tiff")


def read_label_map(path: str | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Read an image of labels: 0 background, every other number an object or class.

    Args:
        path: PNG, TIFF, BMP or GIF with one channel of whole numbers, also as float (Fiji's 32 bit;
            NaN is background) or three times over as grey RGB; of a palette image the indices
            count, not the colours.
        max_pixels: see `samlet.images.read`.

    Returns:
        H x W, uint16, or uint32 where a label is beyond 65535.

    Raises:
        UserError: unreadable, colours or several channels, no whole numbers, or negative labels.
    """
    labels, kind = decode(path, max_pixels=max_pixels, palette_indices=True)
    if labels.ndim == 3 and kind in ("colour", "colour+alpha"):
        labels = _grey(Path(path), labels, kind == "colour+alpha")
    if labels.ndim != 2 or labels.dtype.kind not in "buif":
        raise UserError(
            f"{path} is no label map ({labels.dtype}, {' x '.join(map(str, labels.shape))}): "
            "save one channel of 8, 16 or 32-bit integers, 0 being the background."
        )
    if labels.dtype.kind == "f":
        labels = _whole(Path(path), labels)
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > np.iinfo(np.uint32).max:
        raise UserError(
            f"{path} has labels from {lowest} to {highest}: number the objects from 1, "
            "and the background 0."
        )
    return labels.astype(np.uint16 if highest <= np.iinfo(np.uint16).max else np.uint32)


def _grey(path: Path, pixels: np.ndarray, has_opacity: bool) -> np.ndarray:
    """One channel of a label map that was saved as RGB, or with opacity."""
    colours = pixels[..., :-1] if has_opacity else pixels
    if not (colours == colours[..., :1]).all():
        raise UserError(
            f"{path} is no label map but a picture in colours, which do not tell the background: "
            "save one channel, 0 being the background, and a number for each object."
        )
    return colours[..., 0]


def _whole(path: Path, values: np.ndarray) -> np.ndarray:
    values = np.where(np.isnan(values), 0, values)
    if not (np.isfinite(values) & (values == np.rint(values))).all():
        raise UserError(
            f"{path} is no label map, as its values are not whole numbers: save the numbers of the "
            "objects, not probabilities or intensities."
        )
    return values.astype(np.int64)


def write_label_map(path: str | Path, labels: np.ndarray) -> None:
    """Write H x W labels (integers from 0): 16-bit PNG, or 16 or 32-bit TIFF, by the suffix.

    Raises:
        UserError: another suffix, not labels, labels beyond 65535 in a PNG, or no place to write.
    """
    path, labels = Path(path), np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "bui" or labels.size == 0 or labels.min() < 0:
        raise UserError(f"The labels for {path} are not integers from 0 up as H x W: convert them.")
    short = int(labels.max()) <= np.iinfo(np.uint16).max
    if path.suffix.lower() == ".png":
        if not short:
            raise UserError(f"{path} cannot hold labels beyond 65535: write a .tif instead of PNG.")
        with atomic_path(path) as temporary:
            Image.fromarray(labels.astype(np.uint16, copy=False)).save(temporary, format="PNG")
    elif path.suffix.lower() in _TIFF:
        with atomic_path(path) as temporary:
            data = labels.astype(np.uint16 if short else np.uint32, copy=False)
            tifffile.imwrite(temporary, data, compression="zlib", photometric="minisblack")
    else:
        raise UserError(f"{path} has no suffix for a label map: end it in .png or .tif.")


def write_mask(path: str | Path, mask: np.ndarray) -> None:
    """Write one H x W mask as an 8-bit PNG of 0 and 255.

    Raises:
        UserError: the suffix is not .png, or no place to write.
    """
    if Path(path).suffix.lower() != ".png":
        raise UserError(f"{path} would be a PNG: end it in .png.")
    with atomic_path(path) as temporary:
        Image.fromarray(np.asarray(mask, dtype=bool) * np.uint8(255)).save(temporary, format="PNG")


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
        records: see this module.
        image_name: written as file_name.
        size: (height, width) in pixels.
        category: the one category's name.
        info: how the masks were made, kept under "info".

    Raises:
        UserError: a mask is not of this size, or no place to write.
    """
    height, width = size
    annotations = []
    for number, record in enumerate(records, start=1):
        rle = _cutout(record, size).rle()
        scores = _scores(record)
        if "predicted_iou" in scores:
            scores.setdefault("score", scores["predicted_iou"])
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "segmentation": rle,
                "area": int(coco.area(rle)),
                "bbox": [float(side) for side in coco.toBbox(rle)],
                **scores,
            }
        )
    image = {"id": 1, "file_name": image_name, "height": height, "width": width}
    _write_json(
        path,
        {
            "info": {"description": "Written by samlet", **(info or {})},
            "images": [image],
            "categories": [{"id": 1, "name": category, "supercategory": ""}],
            "annotations": annotations,
        },
    )


def write_polygons(
    path: str | Path,
    records: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    tolerance: float = 1.0,
) -> None:
    """Write masks as a GeoJSON FeatureCollection in pixels, y down: QuPath opens it as annotations.

    A mask of one part is a Polygon, of several a MultiPolygon; holes are inner rings. Empty masks
    are left out. The record's scores are the feature's "measurements", as in QuPath.

    Args:
        path: the GeoJSON file.
        records: see this module.
        size: (height, width) in pixels.
        tolerance: see `samlet.masks.to_polygons`.

    Raises:
        UserError: a mask is not of this size, or no place to write.
    """
    features = []
    for number, record in enumerate(records, start=1):
        cutout = _cutout(record, size)
        polygons = [
            [np.vstack([ring, ring[:1]]).tolist() for ring in polygon]
            for polygon in to_polygons(cutout.mask, tolerance, (cutout.x, cutout.y))
        ]
        if not polygons:
            continue
        geometry = (
            {"type": "Polygon", "coordinates": polygons[0]}
            if len(polygons) == 1
            else {"type": "MultiPolygon", "coordinates": polygons}
        )
        properties = {"objectType": "annotation", "name": str(number)}
        features.append(
            {
                "type": "Feature",
                "geometry": geometry,
                "properties": {**properties, "measurements": _scores(record)},
            }
        )
    _write_json(path, {"type": "FeatureCollection", "features": features})


def _cutout(record: Mapping[str, Any], size: tuple[int, int]) -> Cutout:
    cutout = cut_out(record["segmentation"])
    if cutout.size != tuple(size):
        raise UserError(f"A mask of {cutout.size} does not belong to an image of {tuple(size)}.")
    return cutout


def _scores(record: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(record[key]) for key in _SCORES if key in record}


def _write_json(path: str | Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
