"""The files that the command line writes for one image, and the record of how they were made.

The record is under "samlet" in COCO's "info": "model", "weights" (`model_fingerprint`), "precision"
(of the image encoder), "image" (the file's SHA-256), "file" (its path or URL then), the settings
of everything mode, and under "prompts" the prompts of `samlet segment`, one entry for each of the
last objects: "points", (x, y) in pixels of the image, "point_labels", 1 or 0 for each, and "box",
x1, y1, x2, y2 or None. "also" has the further formats in which the image's objects are there, see
`samlet.outputs.further_formats`. "classified" has the model whose embeddings told classes.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from samlet.errors import UserError
from samlet.images import SlicePath
from samlet.masks import to_label_map
from samlet.outputs.coco import write_coco
from samlet.outputs.drawing import overlay
from samlet.outputs.further_formats import path_in_format, write_formats
from samlet.outputs.geojson import write_polygons
from samlet.outputs.label_maps import write_label_map
from samlet.storage.staging import exists
from samlet.utils.files import atomic_path, sha256_of

LABELS_SUFFIXES = (".labels.png", ".labels.tif")
POLYGONS_SUFFIX = ".geojson"
OVERLAY_SUFFIX = ".overlay.png"
COCO_SUFFIX = ".coco.json"
MAX_NAME_BYTES = 255
"""Longest file name that common file systems allow."""


class Results(NamedTuple):
    """Earlier results of an image.

    Attributes:
        records: its objects.
        info: how they were made.
        size: (height, width) of the image in pixels.
        categories: names of all categories, in the order of their numbers.
    """

    records: Sequence[Mapping[str, Any]]
    info: Mapping[str, Any]
    size: tuple[int, int]
    categories: Sequence[str]


def write_results(
    folder: Path,
    image_path: Path,
    image: np.ndarray,
    records: Sequence[Mapping[str, Any]],
    info: Mapping[str, Any],
    categories: Sequence[str] = (),
) -> list[Path]:
    """Write an image's masks in every format that annotation tools read.

    Args:
        folder: the folder for the files; created if necessary.
        image_path: the files are named after it.
        image: RGB uint8, H x W x 3.
        records: masks with their scores, as everything mode gives them.
        info: how the masks were made, see this module; its "also" are further formats to write.
            Objects with "prompts" lie on top of others in the label map, since a user has placed
            them, and their prompts are drawn.
        categories: see `samlet.outputs.write_coco`.

    Returns:
        the files: label map (NAME.labels.png, or .tif beyond 65535 objects), polygons
        (NAME.geojson), overlay (NAME.overlay.png), further formats and, last, so that it marks the
        image as done, COCO (NAME.coco.json). NAME is the image's file name with its suffix.

    Raises:
        UserError: a file cannot be written.
    """
    size = (image.shape[0], image.shape[1])
    masks = [record["segmentation"] for record in records]
    prompts = info.get("prompts", ())
    scores = [
        record["predicted_iou"] + (number >= len(records) - len(prompts))
        for number, record in enumerate(records)
    ]
    name = image_path.name
    label_path = folder / f"{name}{LABELS_SUFFIXES[len(masks) > 65535]}"
    # Nothing as large as the image is kept in memory for longer than it takes to write it.
    write_label_map(label_path, to_label_map(masks or np.zeros((0, *size), dtype=bool), scores))
    polygon_path = folder / f"{name}{POLYGONS_SUFFIX}"
    write_polygons(polygon_path, records, size)
    points = [point for prompt in prompts for point in prompt["points"]]
    point_labels = [label for prompt in prompts for label in prompt["point_labels"]]
    boxes = [prompt["box"] for prompt in prompts if prompt["box"] is not None]
    overlay_path = folder / f"{name}{OVERLAY_SUFFIX}"
    with atomic_path(overlay_path) as path:
        Image.fromarray(overlay(image, masks, points, point_labels, boxes)).save(path)
    written = [label_path, polygon_path, overlay_path]
    return written + _write_records(folder, image_path, Results(records, info, size, categories))


def add_formats(
    folder: Path,
    image_path: Path,
    results: Results,
    formats: Sequence[str],
    categories: Sequence[str] = (),
) -> None:
    """Write the objects of finished results in further formats, unless they are there.

    Args:
        folder: of the results.
        image_path: of the image.
        results: from `read_results`.
        formats: that are wanted.
        categories: see `samlet.outputs.write_coco`; those of the results follow.

    Raises:
        UserError: a file cannot be written.
    """
    known = {*results.info.get("also", ())}
    if known >= {*formats} and all(
        path_in_format(name, folder, image_path).exists() for name in formats
    ):
        return
    info = {**results.info, "also": sorted(known | {*formats})}
    names = list(dict.fromkeys([*categories, *results.categories]))
    _write_records(folder, image_path, results._replace(info=info, categories=names))


def write_classified(folder: Path, image_path: Path, results: Results) -> list[Path]:
    """Write the records of an image's objects; label map and overlay, if any, stay as they are.

    Args:
        folder: for the files.
        image_path: the files are named after it.
        results: with the classes of the records.

    Returns:
        the files: polygons, further formats and, last, COCO, see `write_results`.

    Raises:
        UserError: a file cannot be written.
    """
    polygon_path = folder / f"{image_path.name}{POLYGONS_SUFFIX}"
    write_polygons(polygon_path, results.records, results.size)
    return [polygon_path, *_write_records(folder, image_path, results)]


def _write_records(folder: Path, image_path: Path, results: Results) -> list[Path]:
    records, info, size, categories = results
    formats = info.get("also", ())
    written = write_formats(formats, folder, image_path, records, size, categories)
    path = folder / f"{image_path.name}{COCO_SUFFIX}"
    facts = {"samlet": info}
    write_coco(path, records, image_path.name, size, info=facts, categories=categories)
    return [*written, path]


def image_source(path: Path, origin: str | None = None) -> dict[str, str]:
    """The identity of an image or slice: "image", its file's SHA-256, and "file", its path.

    Args:
        path: the file.
        origin: where it really is, if `path` is a copy.

    Raises:
        UserError: the file cannot be read, or its name is too long to add the suffixes of results.
    """
    if len(os.fsencode(f"{path.name}{OVERLAY_SUFFIX}")) > MAX_NAME_BYTES:
        raise UserError(
            f"The name of {path} is too long to add the suffixes of results: rename it."
        )
    file = SlicePath.parse(path).file
    try:
        # All slices of a file have its content.
        content = _content_of(file, file.stat().st_mtime_ns)
        return {"image": content, "file": origin or str(path.absolute())}
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the path.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check it.") from error


@lru_cache(maxsize=64)
def _content_of(path: Path, changed: int) -> str:
    """The SHA-256 of a file, or of the names and files in a folder, that was changed at a time."""
    if not path.is_dir():
        return sha256_of(path)
    digest = hashlib.sha256()
    for file in sorted(part for part in path.rglob("*") if part.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


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
        image = content["images"][0]
        size = image["height"], image["width"]
        names = {category["id"]: category["name"] for category in content["categories"]}
        records = [
            {
                "predicted_iou": annotation.get("score", 0.0),
                "category": names[annotation["category_id"]],
                **annotation,
            }
            for annotation in content["annotations"]
        ]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} exists, but is not what samlet wrote for {image_path.name}: move it away, "
            "or choose another --out."
        ) from error
    return Results(records, info, size, list(names.values()))


def results_beside(label_map: Path) -> Results | None:
    """The results that a label map is part of, whose records are numbered as its objects are.

    Returns:
        None if samlet did not write it, or the records are gone or not samlet's.
    """
    image = image_of_label_map(label_map.name)
    if image is not None:
        with suppress(UserError):
            return read_results(label_map.parent, label_map.with_name(image))
    return None


def image_of_label_map(name: str) -> str | None:
    """The name of the image whose label map has this name; None if samlet did not write it."""
    own = (suffix for suffix in LABELS_SUFFIXES if name.endswith(suffix))
    return next((name.removesuffix(suffix) for suffix in own), None)


def read_earlier(folder: Path, image_path: Path, replace: bool) -> Results | None:
    """As `read_results`; of results that are to be replaced it does not matter what they are.

    Raises:
        UserError: see `read_results`.
    """
    try:
        return read_results(folder, image_path)
    except UserError:
        if not replace:
            raise
        return None


def further_formats(formats: Sequence[str], before: Results | None) -> dict[str, list[str]]:
    """The "also" of an image's info: what is wanted, and what it had before.

    Results that are replaced keep their formats, so that no file of other objects is left.
    """
    also = {*formats, *(before.info.get("also", ()) if before else ())}
    return {"also": sorted(also)} if also else {}


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
        info: how they would be made now; the path of the file, further formats and objects that
            were added with prompts are not compared.
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
        info: how they would be made now; the path of the file and further formats are not
            compared.
    """
    compared = {key: value for key, value in info.items() if key not in ("file", "also")}
    return all(before.get(key) == value for key, value in compared.items())


def has_prompts(results: Results) -> bool:
    """Whether some of the objects were made by prompts."""
    return bool(results.info.get("prompts"))


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
        and exists(file.removesuffix(SlicePath.parse(file).ending))
    ):
        raise UserError(
            f"{path} has the name of {file}, whose results are in {folder}: "
            "give another --out, or --replace to write over them."
        )
