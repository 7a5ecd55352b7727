"""The files that the command line writes for one image, and the record of how they were made.

The record is under "samlet" in COCO's "info": "model", "weights" (`model_fingerprint`), "precision"
(of the image encoder), "image" (the file's SHA-256), "file" (its path at that time), the settings
of everything mode, and under "prompts" the prompts of `samlet segment`, one entry for each of the
last objects.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from samlet.errors import UserError
from samlet.masks import to_label_map
from samlet.outputs.coco import write_coco
from samlet.outputs.drawing import overlay
from samlet.outputs.geojson import write_polygons
from samlet.outputs.label_maps import write_label_map
from samlet.utils.files import atomic_path, sha256_of

LABELS_SUFFIXES = (".labels.png", ".labels.tif")
POLYGONS_SUFFIX = ".geojson"
OVERLAY_SUFFIX = ".overlay.png"
COCO_SUFFIX = ".coco.json"
MAX_NAME_BYTES = 255
"""Longest file name that common file systems allow."""


class Results(NamedTuple):
    """Earlier results of an image: its records, and how they were made."""

    records: list[dict[str, Any]]
    info: dict[str, Any]


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
        folder: the folder for the files; created if necessary.
        image_path: the files are named after it.
        image: RGB uint8, H x W x 3.
        records: masks with their scores, as everything mode gives them.
        info: how the masks were made, see this module. Objects with "prompts" lie on top of others
            in the label map, since a user has placed them.
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
    prompted = len(info.get("prompts", ()))
    scores = [
        record["predicted_iou"] + (number >= len(records) - prompted)
        for number, record in enumerate(records)
    ]
    name = image_path.name
    label_path = folder / f"{name}{LABELS_SUFFIXES[len(masks) > 65535]}"
    # Nothing as large as the image is kept in memory for longer than it takes to write it.
    write_label_map(label_path, to_label_map(masks or np.zeros((0, *size), dtype=bool), scores))
    polygon_path = folder / f"{name}{POLYGONS_SUFFIX}"
    write_polygons(polygon_path, records, size)
    overlay_path = folder / f"{name}{OVERLAY_SUFFIX}"
    with atomic_path(overlay_path) as path:
        Image.fromarray(overlay(image, masks, points, point_labels, boxes)).save(path)
    coco_path = folder / f"{name}{COCO_SUFFIX}"
    write_coco(coco_path, records, name, size, info={"samlet": info})
    return [label_path, polygon_path, overlay_path, coco_path]


def image_source(path: Path) -> dict[str, str]:
    """The identity of an image file: "image", the SHA-256 of its bytes, and "file", its path.

    Raises:
        UserError: the file cannot be read, or its name is too long to add the suffixes of results.
    """
    if len(os.fsencode(f"{path.name}{OVERLAY_SUFFIX}")) > MAX_NAME_BYTES:
        raise UserError(
            f"The name of {path} is too long to add the suffixes of results: rename it."
        )
    try:
        return {"image": sha256_of(path), "file": str(path.absolute())}
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the path.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check it.") from error


def read_results(folder: Path, image_path: Path) -> Results | None:
    """Read what `write_results` wrote for an image; None if there is nothing.

    Raises:
        UserError: the file exists, but cannot be read or was not written by samlet.
    """
    path = folder / f"{image_path.name}{COCO_SUFFIX}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        # Before the precision could be chosen, it was float32.
        earlier = {"image": None, "file": None, "precision": "float32"}
        info = earlier | content["info"]["samlet"]
        records = [
            {"predicted_iou": annotation.get("score", 0.0), **annotation}
            for annotation in content["annotations"]
        ]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} exists, but is not what samlet wrote for {image_path.name}: move it away, "
            "or choose another --out."
        ) from error
    return Results(records, info)


def label_map_of(folder: Path, image_path: Path) -> Path | None:
    """The label map among an image's results; None without one."""
    candidates = [folder / f"{image_path.name}{suffix}" for suffix in LABELS_SUFFIXES]
    return next((path for path in candidates if path.exists()), None)


def is_done(folder: Path, image_path: Path, results: Results, info: Mapping[str, Any]) -> bool:
    """Whether earlier results are complete, and were made of the same file with the same settings.

    Args:
        folder: the folder of the results.
        image_path: of the image.
        results: the earlier results.
        info: how they would be made now; the path of the file and objects that were added with
            prompts are not compared.
    """
    name = image_path.name
    return (
        is_same_work(results.info, info)
        and label_map_of(folder, image_path) is not None
        and (folder / f"{name}{POLYGONS_SUFFIX}").exists()
        and (folder / f"{name}{OVERLAY_SUFFIX}").exists()
    )


def is_same_work(before: Mapping[str, Any], info: Mapping[str, Any]) -> bool:
    """Whether earlier results were made of the same file with the same model and settings.

    Args:
        before: how they were made.
        info: how they would be made now; the path of the file is not compared.
    """
    return all(before.get(key) == value for key, value in info.items() if key != "file")


def check_owner(
    before: Mapping[str, Any], source: Mapping[str, Any], path: Path, folder: Path
) -> None:
    """Make sure that earlier results are not of another image of the same name that still exists.

    Args:
        before: how they were made.
        source: the image now, see `image_source`.
        path: its file.
        folder: of the results.

    Raises:
        UserError: they are.
    """
    file = before.get("file")
    if (
        file not in (None, source["file"])
        and before.get("image") != source["image"]
        and Path(file).exists()
    ):
        raise UserError(
            f"{path} has the name of {file}, whose results are in {folder}: "
            "give another --out, or --replace to write over them."
        )
