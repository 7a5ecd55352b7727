"""Labels as YOLO's segmentation text: https://docs.ultralytics.com/datasets/segment/."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from samlet.datasets.labelled_images import (
    LabelledImages,
    ObjectClass,
    Region,
    class_named,
    draw_regions,
    find_by_name,
    image_size,
)
from samlet.datasets.layers import pack_layers
from samlet.errors import UserError
from samlet.masks import fill_polygon
from samlet.outputs.yolo import read_classes

SUFFIX = ".txt"
NAMES_FILES = ("classes.txt", "obj.names")
OTHER_FILES = (*NAMES_FILES, "train.txt", "val.txt", "test.txt")
"""What stands beside the labels."""
_BOX_NUMBERS = 5


def find_yolo(images: Path, paths: Sequence[Path], labels: Path) -> LabelledImages:
    """Find the images of a folder that have a text file; see `find_labelled_images`.

    Args:
        images: the folder of the images.
        paths: image files below it.
        labels: the folder of the text files, which may be that of the images.
    """
    found = find_by_name(images, paths, labels, (SUFFIX,), read_layers)
    unmatched = [name for name in found.unmatched if Path(name).name not in OTHER_FILES]
    return replace(found, unmatched=unmatched)


def read_layers(
    image: Path,
    source: Path,
    left_out: list[str] | None = None,
    classes: dict[int, ObjectClass] | None = None,
) -> np.ndarray:
    """Make layers of the polygons of one image, whatever their class.

    Names of classes are those of a file classes.txt or obj.names beside the text or in one of the
    two folders above, or else the numbers.

    Args:
        image: the image file.
        source: the text file; without lines the image has no objects.
        left_out: see `samlet.datasets.labelled_images.ReadLayers`.
        classes: see there.

    Returns:
        int32, L x H x W, numbered as `samlet.datasets.layers.pack_layers` does.

    Raises:
        UserError: the image or the file cannot be read, or a line is not a class and a polygon.
    """
    size = image_size(image)
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source} cannot be read as YOLO's text ({error}).") from error
    names = [] if classes is None else _names(source)
    regions: list[Region] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{source}, line {number}"
            words = line.split()
            draw = partial(_draw, where, words, size)
            regions.append(Region(where, draw, _class_of(words[0], names)))
    return pack_layers(draw_regions(regions, left_out, classes), size)


def _names(source: Path) -> list[str]:
    files = (folder / name for folder in source.parents[:3] for name in NAMES_FILES)
    return next((names for file in files if (names := read_classes(file))), [])


def _class_of(number: str, names: Sequence[str]) -> ObjectClass | None:
    is_named = number.isdecimal() and int(number) < len(names)
    return class_named(names[int(number)] if is_named else number)


def _draw(where: str, words: Sequence[str], size: tuple[int, int]) -> np.ndarray:
    try:
        numbers = np.array(words, float)
    except ValueError as error:
        raise UserError(
            f"{where} is not YOLO's text: a class and the corners of a polygon, all numbers."
        ) from error
    if len(numbers) == _BOX_NUMBERS:
        raise UserError(
            f"{where} is a box, which does not have the outline of an object: export segmentation "
            "labels."
        )
    corners = numbers[1:]
    if len(corners) < 6 or len(corners) % 2:
        raise UserError(
            f"{where} has {len(corners)} numbers after the class: give x and y of three corners or "
            "more."
        )
    if not (np.abs(corners - 0.5) <= 0.51).all():
        raise UserError(
            f"{where} has coordinates beyond 0 to 1: they are shares of the width and height."
        )
    height, width = size
    return fill_polygon(corners.reshape(-1, 2) * [width, height], size)
