"""Labels as COCO instances: https://cocodataset.org/#format-data."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from samlet.errors import UserError
from samlet.labels import json_files, shapes
from samlet.labels.labelled import Labelled, check_size, image_size
from samlet.labels.layers import pack
from samlet.masks import from_rle


def find(images: Path, paths: Sequence[Path], source: Path, content: Any) -> list[Labelled]:
    """Find the images that a COCO JSON lists; see `samlet.labels.find`.

    Listed images that are not in the folder are passed over, since one file often describes more
    than is at hand. An image without annotations counts as labelled, with no objects.

    Args:
        images: the folder that file_name is relative to.
        paths: image files below it.
        source: the JSON file.
        content: what it holds.

    Raises:
        UserError: fields are missing, annotations belong to no image, a file is listed twice, or
            no listed file is in the folder.
    """
    entries = json_files.field(content, "images", list, str(source))
    annotations: dict[Any, list[tuple[str, Any]]] = {}
    for i, entry in enumerate(entries):
        image_id = _id(entry, "id", f"images[{i}] of {source}")
        if image_id in annotations:
            raise UserError(f"{source} lists two images with the id {image_id}: number them anew.")
        annotations[image_id] = []
    for i, annotation in enumerate(json_files.field(content, "annotations", list, str(source))):
        where = f"annotations[{i}] of {source}"
        image_id = _id(annotation, "image_id", where)
        if image_id not in annotations:
            raise UserError(
                f"{where} belongs to the image {image_id!r}, which is not in its list of images: "
                "export the labels again."
            )
        annotations[image_id].append((where, annotation))

    by_name = {path.relative_to(images).as_posix(): path for path in paths}
    found: dict[Path, Labelled] = {}
    for i, entry in enumerate(entries):
        where = f"images[{i}] of {source}"
        name = str(
            PurePosixPath(json_files.field(entry, "file_name", str, where).replace("\\", "/"))
        )
        if name not in by_name:
            continue
        path = by_name[name]
        if path in found:
            raise UserError(f"{source} lists {name} twice: put its annotations under one image.")
        read = partial(read_layers, path, where, entry, annotations[entry["id"]])
        found[path] = Labelled(path, read)
    if not found:
        example = f', such as "{entries[0]["file_name"]}",' if entries else ""
        raise UserError(
            f"{source} lists {len(entries)} images{example} and none is below {images}: give the "
            "folder that their file_name is relative to."
        )
    return list(found.values())


def _id(entry: Any, name: str, where: str) -> int | str:
    value = entry.get(name) if isinstance(entry, Mapping) else None
    if not isinstance(value, int | str):
        raise UserError(f'{where} has no number "{name}": export the labels again.')
    return value


def read_layers(
    image: Path, where: str, entry: Any, annotations: Sequence[tuple[str, Any]]
) -> np.ndarray:
    """Make layers of the annotations of one image; those with iscrowd are left out.

    Args:
        image: the image file.
        where: names the entry, to start a sentence.
        entry: the image's entry; its width and height are checked where it has them.
        annotations: each with where it is, to start a sentence.

    Returns:
        int32, L x H x W, numbered as `samlet.labels.layers.pack` does.

    Raises:
        UserError: unreadable image, sizes that differ, or a segmentation that is missing or wrong.
    """
    size = image_size(image)
    stated = json_files.pixel_size(entry, "width", "height", where)
    check_size(stated or size, image, size, where)
    return pack((_mask(a, size, image, at) for at, a in annotations if not _is_crowd(a)), size)


def _is_crowd(annotation: Any) -> bool:
    return isinstance(annotation, Mapping) and bool(annotation.get("iscrowd"))


def _mask(annotation: Any, size: tuple[int, int], image: Path, where: str) -> np.ndarray:
    segmentation = annotation.get("segmentation") if isinstance(annotation, Mapping) else None
    if isinstance(segmentation, Mapping):
        # Before decoding, as a size made up would ask for any amount of memory.
        stated = json_files.field(segmentation, "size", list, where)
        if len(stated) == 2 and all(isinstance(side, int | float) for side in stated):
            check_size((stated[0], stated[1]), image, size, where)
        try:
            return from_rle({"size": stated, "counts": segmentation.get("counts")})
        except UserError as error:
            raise UserError(f"{where} cannot be read: {error}") from error
    if not isinstance(segmentation, list) or not segmentation:
        raise UserError(
            f'{where} has no "segmentation": export masks or polygons, as boxes alone do not tell '
            "the objects' outlines."
        )
    mask = np.zeros(size, bool)
    for polygon in segmentation:
        mask |= shapes.polygon(json_files.outline(polygon, where), size)
    return mask
