"""Measuring labels in files, with the images that they belong to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from samlet.datasets.finding import find_labelled_images, labels_of
from samlet.datasets.label_map_classes import classes_with
from samlet.datasets.label_maps import SUFFIXES
from samlet.datasets.label_stacks import pair_slices
from samlet.datasets.labelled_images import ObjectClass, ReadLayers
from samlet.datasets.pairing import pair_by_name
from samlet.errors import UserError
from samlet.images import (
    PixelSize,
    SliceChoice,
    SlicePath,
    check_exists,
    find,
    is_folder_of_images,
    list_slices,
    read_pixel_size,
)
from samlet.images.decoding import decode
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS
from samlet.measurements.objects import measure_objects
from samlet.outputs import read_label_map
from samlet.outputs.results import LABELS_SUFFIXES, results_beside
from samlet.storage.locations import Location
from samlet.utils.files import walk_files

Row = dict[str, Any]
"""An object's values by the name of the column."""

Pair = tuple[Path | ReadLayers, Path | None]
"""A label map, or what reads labels, and the image that they belong to."""


class Measured(NamedTuple):
    """The objects of some files, or of slices in files.

    Attributes:
        rows: of the table.
        left_out: a sentence on each faulty object.
        failed: a sentence on each file or slice that could not be measured.
        succeeded: number of the others.
    """

    rows: Sequence[Row] = ()
    left_out: Sequence[str] = ()
    failed: Sequence[str] = ()
    succeeded: int = 0

    def naming(self, originals: Mapping[Path, str]) -> "Measured":
        """The same with other names in place of those of copies."""

        def named(text: str) -> str:
            for copy, original in originals.items():
                text = text.replace(str(copy), original)
            return text

        left_out, failed = ([*map(named, texts)] for texts in (self.left_out, self.failed))
        return self._replace(left_out=left_out, failed=failed)


def measure_pairs(pairs: Iterable[Pair], pixel_size: float | None, max_pixels: int) -> Measured:
    """Measure files of labels one by one, see `measure_file`, or say why that cannot be done."""
    rows: list[Row] = []
    left_out: list[str] = []
    failed: list[str] = []
    succeeded = 0
    for pair in pairs:
        try:
            rows += measure_file(*pair, pixel_size, max_pixels, left_out)
            succeeded += 1
        except UserError as error:
            failed.append(str(error))
    return Measured(rows, left_out, failed, succeeded)


def measure_file(
    labels: Path | ReadLayers,
    image: Path | None = None,
    pixel_size: float | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    left_out: list[str] | None = None,
) -> list[Row]:
    """Measure the objects of a file of labels.

    Args:
        labels: a label map, see `samlet.outputs.read_label_map`; or what reads the labels of the
            image.
        image: the image that it belongs to, whose values are measured as they are stored.
        pixel_size: micrometres a pixel; None for what the image's file says, or else the labels'.
        max_pixels: see `samlet.images.read`.
        left_out: gets a sentence about each faulty object; without it, UserError is raised.

    Returns:
        a row for each object, see `measure_objects`, with the name of the image (or of the labels)
        under "image"; and "class", "class_probability" and "predicted_iou" where they are known.

    Raises:
        UserError: a file cannot be read, or they do not have the same size.
    """
    classes: dict[int, ObjectClass] = {}
    ious: dict[int, float] = {}
    if isinstance(labels, Path):
        layers = read_label_map(labels, max_pixels=max_pixels)[None]
        results = results_beside(labels)
        classes = classes_with(labels, results)
        records = enumerate(results.records if results else (), start=1)
        ious = {number: record["predicted_iou"] for number, record in records}
    else:
        layers = labels(left_out, classes)
    values = None
    if image is not None:
        decoded = decode(image, max_pixels=max_pixels)
        values = decoded.values
        if decoded.kind == "colour+alpha":
            values = values[..., :-1] if values.shape[2] > 2 else values[..., 0]
        height, width = layers.shape[1:]
        if values.shape[:2] != (height, width):
            raise UserError(
                f"{labels} is for {height} x {width} pixels, and {image} "
                f"has {values.shape[0]} x {values.shape[1]}: choose the labels of this image."
            )
    size = None if pixel_size is None else PixelSize(pixel_size, pixel_size)
    files = [path for path in (image, labels) if isinstance(path, Path)]
    for path in files:
        size = size or read_pixel_size(path)
    rows = [row for layer in layers for row in _rows(measure_objects(layer, values, size))]
    return [
        {"image": files[0].name, "label": row["label"], **_class_columns(classes.get(row["label"]))}
        | row
        | ({"predicted_iou": ious[row["label"]]} if row["label"] in ious else {})
        for row in sorted(rows, key=itemgetter("label"))
    ]


def pair_files(
    labels: Path, image: Path | None = None, choice: SliceChoice | None = None
) -> list[Pair]:
    """Find the image of each label map, or the labels of each image.

    Args:
        labels: a label map, or a folder of them; with images, labels in any format that is read
            for training, see `samlet.datasets.finding`.
        image: the image, or the folder of the images; None to measure shapes alone.
        choice: of slices of the images, or of the labels without images; None for all.

    Returns:
        label maps or what reads labels, and the image of each; of stacks those of each slice.
        Without images, a folder's label maps are those that samlet wrote (NAME.labels.png), or
        else all images in it.

    Raises:
        UserError: nothing was found, or one is a folder and the other is not, or a name is
            ambiguous.
    """
    is_folder = is_folder_of_images(labels)
    is_other = SlicePath.parse(labels).file.suffix.lower() not in SUFFIXES
    if is_other and not labels.is_dir():
        return _pair_other_labels(labels, image, choice)
    if image is not None and is_folder != is_folder_of_images(image):
        raise files_and_folders(labels, image)
    if not is_folder:
        return _pair_slices(labels, image, choice)
    found: list[Pair]
    if image is None:
        own = choose_label_maps(walk_files(labels))
        found = [(path, None) for path in list_slices(own, choice)]
    else:
        paired = pair_by_name(image, list_slices(find(image), choice), labels, SUFFIXES)
        if paired.faults:
            raise UserError(paired.faults[0])
        found = [(file, path) for path, file in paired.pairs]
        if not found:
            return _pair_other_labels(labels, image, choice)
    if not found:
        raise UserError(
            f"{labels} has no label maps: check the path. Labels of other formats need the images."
        )
    return found


def files_and_folders(labels: Location, image: Location) -> UserError:
    """What is wrong if one is a file and the other is a folder.

    Raises:
        UserError: one of them is missing.
    """
    for place in (labels, image):
        if isinstance(place, Path):
            check_exists(place)
    return UserError(
        f"{labels} and {image} must both be files, or both folders: choose the labels of the "
        "image, or the folder of the images."
    )


def choose_label_maps(files: Iterable[Path]) -> list[Path]:
    """The label maps in a folder: those that samlet wrote, or else all images; sorted."""
    maps = sorted(path for path in files if path.suffix.lower() in SUFFIXES)
    return [path for path in maps if path.name.endswith(LABELS_SUFFIXES)] or maps


def _pair_slices(labels: Path, image: Path | None, choice: SliceChoice | None) -> list[Pair]:
    """A label map and its image, or the slices of a label stack and of its image."""
    if image is None:
        return [(path, None) for path in list_slices([labels], choice)]
    numbers = SlicePath.parse(image).numbers
    slices = list_slices([image], choice)
    is_slice = len(slices) == 1 and SlicePath.parse(labels).numbers
    if is_slice or (slices == [image] and not numbers):
        return [(labels, slices[0])]
    return [(own, path) for path, own in pair_slices(labels, slices, numbers)]


def _pair_other_labels(labels: Path, image: Path | None, choice: SliceChoice | None) -> list[Pair]:
    """Labels that are no label maps, and so do not have the size of their images."""
    if image is None:
        raise UserError(
            f"{labels} is no label map, and other labels need the image, or the folder of the "
            "images: give it as well."
        )
    if is_folder_of_images(image):
        listed = find_labelled_images(image, labels, slices=choice)
        if listed.faults:
            raise UserError(listed.faults[0])
        return [(item.read_layers, item.path) for item in listed]
    readers = [(labels_of(path, labels), path) for path in list_slices([image], choice)]
    found = [(reader, path) for reader, path in readers if reader is not None]
    if not found:
        raise UserError(f"{labels} has no labels of {image}: check the names.")
    return [*found]


def _class_columns(known: ObjectClass | None) -> Row:
    if known is None:
        return {}
    probability = {} if known.probability is None else {"class_probability": known.probability}
    return {"class": known.name, **probability}


def _rows(columns: dict[str, np.ndarray]) -> Iterator[Row]:
    names = list(columns)
    for values in zip(*(column.tolist() for column in columns.values()), strict=True):
        yield dict(zip(names, map(_rounded, values), strict=True))


def _rounded(value: Any) -> Any:
    """As many digits as a sum of intensities may need; and NaN as an empty cell."""
    if not isinstance(value, float):
        return value
    return "" if np.isnan(value) else float(f"{value:.10g}")
