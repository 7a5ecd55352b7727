"""Measuring label map files, with the images that they belong to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from samlet.datasets.label_maps import SUFFIXES
from samlet.datasets.pairing import pair_by_name
from samlet.errors import UserError
from samlet.images import find
from samlet.images.decoded_image import DEFAULT_MAX_PIXELS
from samlet.images.decoding import decode
from samlet.measurements.objects import measure_objects
from samlet.measurements.pixel_size import PixelSize, read_pixel_size
from samlet.outputs import read_label_map
from samlet.outputs.results import LABELS_SUFFIXES
from samlet.utils.files import walk_files

Row = dict[str, Any]
"""An object's values by the name of the column."""


def measure_file(
    labels: Path,
    image: Path | None = None,
    pixel_size: float | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> list[Row]:
    """Measure the objects of a label map file.

    Args:
        labels: see `samlet.outputs.read_label_map`.
        image: the image that it belongs to, whose values are measured as they are stored.
        pixel_size: micrometres a pixel; None for what the image's file says, or else the labels'.
        max_pixels: see `samlet.images.read`.

    Returns:
        a row for each object, see `measure_objects`, with the name of the image (or of the labels)
        under "image".

    Raises:
        UserError: a file cannot be read, or they do not have the same size.
    """
    label_map = read_label_map(labels, max_pixels=max_pixels)
    values = None
    if image is not None:
        decoded = decode(image, max_pixels=max_pixels)
        values = decoded.values
        if decoded.kind == "colour+alpha":
            values = values[..., :-1] if values.shape[2] > 2 else values[..., 0]
        if values.shape[:2] != label_map.shape:
            raise UserError(
                f"{labels} is for {label_map.shape[0]} x {label_map.shape[1]} pixels, and {image} "
                f"has {values.shape[0]} x {values.shape[1]}: choose the labels of this image."
            )
    size = None if pixel_size is None else PixelSize(pixel_size, pixel_size)
    for path in (image, labels):
        if size is None and path is not None:
            size = read_pixel_size(path)
    columns = measure_objects(label_map, values, size)
    name = (image or labels).name
    return [{"image": name} | row for row in _rows(columns)]


def pair_files(labels: Path, image: Path | None = None) -> list[tuple[Path, Path | None]]:
    """Find the image of each label map.

    Args:
        labels: a label map, or a folder of them.
        image: the image, or the folder of the images; None to measure shapes alone.

    Returns:
        label maps, and the image of each. Without images, a folder's label maps are those that
        samlet wrote (NAME.labels.png), or else all images in it.

    Raises:
        UserError: nothing was found, or one is a folder and the other is not, or a name is
            ambiguous.
    """
    if image is not None and labels.is_dir() != image.is_dir():
        raise UserError(
            f"{labels} and {image} must both be files, or both folders: choose the labels of the "
            "image, or the folder of the images."
        )
    if not labels.is_dir():
        return [(labels, image)]
    if image is None:
        files = [p for p in walk_files(labels) if p.suffix.lower() in SUFFIXES]
        own = [path for path in files if path.name.endswith(LABELS_SUFFIXES)]
        found: list[tuple[Path, Path | None]] = [(path, None) for path in sorted(own or files)]
    else:
        paired = pair_by_name(image, find(image), labels, SUFFIXES)
        if paired.faults:
            raise UserError(paired.faults[0])
        found = [(file, path) for path, file in paired.pairs]
    if not found:
        of_images = "" if image is None else f" of the images in {image}"
        raise UserError(f"{labels} has no label maps{of_images}: check the paths.")
    return found


def _rows(columns: dict[str, np.ndarray]) -> Iterator[Row]:
    names = list(columns)
    for values in zip(*(column.tolist() for column in columns.values()), strict=True):
        yield dict(zip(names, map(_rounded, values), strict=True))


def _rounded(value: Any) -> Any:
    """As many digits as a sum of intensities may need; and NaN as an empty cell."""
    if not isinstance(value, float):
        return value
    return "" if np.isnan(value) else float(f"{value:.10g}")
