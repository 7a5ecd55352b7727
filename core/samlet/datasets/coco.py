"""Labels as COCO instances: https://cocodataset.org/#format-data."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from samlet.datasets import json_files
from samlet.datasets.label_studio.filenames import match
from samlet.datasets.labelled_images import (
    LabelledImage,
    LabelledImages,
    ObjectClass,
    Region,
    check_size,
    class_named,
    draw_regions,
    image_size,
)
from samlet.datasets.layers import pack_layers
from samlet.errors import UserError
from samlet.masks import fill_polygon, from_rle
from samlet.outputs.records import CLASS_PROBABILITY
from samlet.utils.messages import bullet_list, join_first, pluralize

Named = tuple[str, Any]
"""An entry of the file after its name, which starts sentences about it."""


def find_in_coco(images: Path, paths: Sequence[Path], source: Path, content: Any) -> LabelledImages:
    """Find the images of a folder that a COCO JSON lists; see `find_labelled_images`.

    Listed images that are not in the folder are skipped, since one file often describes several
    folders. An image without annotations counts as labelled, with no objects. An image that is
    listed several times has the annotations of all entries.

    Args:
        images: the folder of the images.
        paths: image files below it.
        source: the JSON file.
        content: of the file, parsed.

    Raises:
        UserError: no list of images or of annotations, or no listed file is in the folder.
    """
    entries = json_files.get_field(content, "images", list, str(source))
    annotations = json_files.get_field(content, "annotations", list, str(source))
    faults: list[str] = []
    names = category_names(content)
    ids, by_name = images_by_name(entries, source, faults)
    by_id = annotations_by_id(annotations, ids, source, faults)
    matches = match(images, paths, {name: listed[0][0] for name, listed in by_name.items()})
    found = []
    for name, path in matches.paths.items():
        own_ids = dict.fromkeys(entry_id(entry, "id", where) for where, entry in by_name[name])
        own = [annotation for number in own_ids for annotation in by_id[number]]
        read = partial(read_layers, path, *by_name[name][0], own, names)
        found.append(LabelledImage(path, read))
    faults += matches.faults
    if not found:
        raise _nothing(images, source, entries, faults)
    return LabelledImages(found, unmatched=matches.unmatched, faults=faults)


def images_by_name(
    entries: Sequence[Any], source: Path, faults: list[str]
) -> tuple[Collection[str], dict[str, list[Named]]]:
    """Read the list of images.

    Args:
        entries: of "images".
        source: the file, for messages.
        faults: get a sentence about each entry that cannot be used.

    Returns:
        all ids; and for each file_name its entries, without names whose ids are ambiguous.
    """
    # Some tools mix numbers and text, so 1 and "1" are the same id.
    names: dict[str, str] = {}
    by_name: dict[str, list[Named]] = {}
    for i, entry in enumerate(entries):
        where = f"images[{i}] of {source}"
        try:
            number = entry_id(entry, "id", where)
            # LVIS has only URLs.
            has_url = "coco_url" in entry and "file_name" not in entry
            name = json_files.get_field(entry, "coco_url" if has_url else "file_name", str, where)
        except UserError as error:
            faults.append(str(error))
            continue
        if names.setdefault(number, name) != name:
            faults.append(
                f"{source} lists two images with the id {number}, {names[number]} and {name}: "
                "give each its own id."
            )
            names[number] = ""
        by_name.setdefault(name, []).append((where, entry))
    unambiguous = {
        name: listed
        for name, listed in by_name.items()
        if all(names[entry_id(entry, "id", where)] == name for where, entry in listed)
    }
    return names, unambiguous


def annotations_by_id(
    annotations: Sequence[Any], ids: Collection[str], source: Path, faults: list[str]
) -> dict[str, list[Named]]:
    """The annotations of each image, by the id of the image; faults as in `images_by_name`."""
    by_id: dict[str, list[Named]] = {number: [] for number in ids}
    for i, annotation in enumerate(annotations):
        where = f"annotations[{i}] of {source}"
        try:
            number = entry_id(annotation, "image_id", where)
            if number not in by_id:
                raise UserError(
                    f'{where} belongs to the image {number!r}, which is not listed in "images": '
                    "export the labels again."
                )
        except UserError as error:
            faults.append(str(error))
        else:
            by_id[number].append((where, annotation))
    return by_id


def category_names(content: Mapping[str, Any]) -> dict[str, str]:
    """The names of the categories in a file, by their ids as text; without those that have none."""
    listed = content.get("categories")
    return {
        str(category.get("id")): str(category["name"])
        for category in (listed if isinstance(listed, list) else ())
        if isinstance(category, Mapping) and category.get("name")
    }


def _nothing(images: Path, source: Path, entries: Sequence[Any], faults: list[str]) -> UserError:
    if faults:
        return UserError(f"{source} has no image with usable labels:{bullet_list(faults)}")
    name = entries[0].get("file_name") or entries[0].get("coco_url") if entries else None
    example = f', such as "{name}",' if name else ""
    return UserError(
        f"{source} lists {pluralize(len(entries), 'image')}{example} and none is below {images}: "
        "give the path of the folder that each file_name is relative to."
    )


def entry_id(entry: Any, name: str, where: str) -> str:
    """Get an id, which may be a number or text, as text.

    Raises:
        UserError: there is none.
    """
    value = entry.get(name) if isinstance(entry, Mapping) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int | str):
        raise UserError(f'{where} has no number "{name}": export the labels again.')
    return str(value)


def read_layers(
    image: Path,
    where: str,
    entry: Any,
    annotations: Sequence[tuple[str, Any]],
    categories: Mapping[str, str],
    left_out: list[str] | None = None,
    classes: dict[int, ObjectClass] | None = None,
) -> np.ndarray:
    """Make layers of the annotations of one image, leaving out those with iscrowd.

    Args:
        image: the image file.
        where: name of the image's entry, to start a sentence with.
        entry: the image's entry; its width and height are checked if it has them.
        annotations: each with its name, to start a sentence with.
        categories: from `category_names`.
        left_out: see `samlet.datasets.labelled_images.ReadLayers`.
        classes: see there.

    Returns:
        int32, L x H x W, numbered as `samlet.datasets.layers.pack_layers` does.

    Raises:
        UserError: unreadable image, different sizes, or a segmentation that is missing or invalid.
    """
    size = image_size(image)
    stated = json_files.stated_size(entry, "width", "height", where)
    check_size(stated or size, image, size, where)
    crowds = [at for at, annotation in annotations if _is_crowd(annotation)]
    if crowds and left_out is not None:
        left_out.append(
            f"{join_first(crowds, 1)}: marked iscrowd, which means several objects in one; set "
            "it to 0 if each is a single object."
        )
    regions = [
        Region(at, partial(_mask, annotation, size, image, at), _class_of(annotation, categories))
        for at, annotation in annotations
        if not _is_crowd(annotation)
    ]
    return pack_layers(draw_regions(regions, left_out, classes), size)


def _class_of(annotation: Any, categories: Mapping[str, str]) -> ObjectClass | None:
    if not isinstance(annotation, Mapping):
        return None
    name = categories.get(str(annotation.get("category_id")))
    return class_named(name, annotation.get(CLASS_PROBABILITY))


def _is_crowd(annotation: Any) -> bool:
    # CVAT and Datumaro write attributes, and set iscrowd for every object that is a mask.
    return (
        isinstance(annotation, Mapping)
        and bool(annotation.get("iscrowd"))
        and "attributes" not in annotation
    )


def _mask(annotation: Any, size: tuple[int, int], image: Path, where: str) -> np.ndarray:
    segmentation = annotation.get("segmentation") if isinstance(annotation, Mapping) else None
    if isinstance(segmentation, Mapping):
        # Before decoding, since a wrong size could need any amount of memory.
        stated = json_files.get_field(segmentation, "size", list, where)
        if len(stated) == 2 and all(isinstance(side, int | float) for side in stated):
            check_size((stated[0], stated[1]), image, size, where)
        try:
            return from_rle({"size": stated, "counts": segmentation.get("counts")})
        except UserError as error:
            raise UserError(f"{where} cannot be read: {error}") from error
    if not isinstance(segmentation, list) or not segmentation:
        raise UserError(
            f'{where} has no "segmentation": export masks or polygons, since boxes do not '
            "have the outlines of objects."
        )
    mask = np.zeros(size, bool)
    for polygon in json_files.parse_polygons(segmentation, where):
        mask |= fill_polygon(polygon, size)
    return mask
