"""Measuring labels and images at URLs, which are brought here one image at a time."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from samlet.datasets import imagej_rois, label_maps, yolo
from samlet.datasets.pairing import pair_files_by_name, slices_named
from samlet.errors import UserError
from samlet.images import SliceChoice, SlicePath, find, is_folder_of_images, split_slice
from samlet.images.finding import ALL_SUFFIXES
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS
from samlet.images.listing import find_at_url, parse_slice
from samlet.measurements.files import (
    Measured,
    choose_label_maps,
    files_and_folders,
    measure_pairs,
    pair_files,
)
from samlet.outputs.results import COCO_SUFFIX, image_of_label_map, label_map_of
from samlet.storage.locations import Location, Url
from samlet.storage.remote import list_files
from samlet.storage.staging import staged_files, staged_image
from samlet.utils.files import walk_files

LABEL_SUFFIXES = (*label_maps.SUFFIXES, *imagej_rois.SUFFIXES, yolo.SUFFIX, ".json")
"""Of files of labels; a URL that ends otherwise is a folder."""


def pair_at_urls(
    labels: Location, image: Location | None
) -> list[tuple[Location, Location | None]]:
    """Find the image of each file of labels, where one or both are at URLs.

    Args:
        labels: the labels of one image in any format, or a folder of label maps or ImageJ's ROIs.
        image: the image, or the folder of the images; None to measure shapes alone.

    Returns:
        files of labels and the image of each; of stacks the whole files.

    Raises:
        UserError: nothing was found, or one is a folder and the other is not, or a name is
            ambiguous.
    """
    labels = parse_slice(labels) if isinstance(labels, Url) else labels
    image = parse_slice(image) if isinstance(image, Url) else image
    is_folder = is_folder_at(labels, LABEL_SUFFIXES)
    if image is not None and is_folder != is_folder_at(image):
        raise files_and_folders(labels, image)
    if not is_folder:
        return [(labels, image)]
    inside = list_files(labels) if isinstance(labels, Url) else walk_files(labels)
    files = {_as_path(file): file for file in inside}
    found: list[tuple[Location, Location | None]]
    if image is None:
        found = [(files[path], None) for path in choose_label_maps(files)]
    else:
        found = [*_pair_by_name(labels, files, image)]
    if not found:
        raise UserError(
            f"{labels} has no label maps or zips of ImageJ ROIs"
            f"{'' if image is None else f' with the names of images in {image}'}: check the URL. "
            "Folders of labels in other formats have to be on this machine, as their images."
        )
    return found


@contextmanager
def staged_labels(labels: Location) -> Iterator[Path]:
    """Bring a file of labels here, or a slice of one, with the files that name its classes.

    Raises:
        UserError: see `samlet.storage.staging.staged_files`.
    """
    file = split_slice(labels)[0].name
    owner = image_of_label_map(file)
    beside = yolo.NAMES_FILES if owner is None else (f"{owner}{COCO_SUFFIX}",)
    with staged_files(labels.parent, [file, *beside]) as folder:
        yield folder / labels.name


def measure_at_urls(
    labels: Location,
    image: Location | None,
    choice: SliceChoice | None = None,
    pixel_size: float | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Measured:
    """Bring labels and their image here and measure them, or each of their slices.

    Args:
        labels: a file from `pair_at_urls`.
        image: the image that it belongs to.
        choice: see `pair_files`.
        pixel_size: see `samlet.measurements.files.measure_file`.
        max_pixels: see there.
    """
    try:
        with (
            staged_labels(labels) as own,
            nullcontext() if image is None else staged_image(image, own.parent) as here,
        ):
            pairs = pair_files(own, None if here is None else here.path, choice)
            originals = {} if here is None else {here.path: str(image)}
            measured = measure_pairs(pairs, pixel_size, max_pixels)
            return measured.naming(originals | {own.parent: str(labels.parent)})
    except UserError as error:
        return Measured(failed=[str(error)])


def measure_result(image: Location, results: Location, max_pixels: int) -> Measured:
    """Measure the objects that were found in an image, or in each slice of a stack.

    Args:
        image: the image.
        results: the folder of its results; nothing is measured without a label map there.
        max_pixels: see `samlet.images.read`.
    """
    try:
        with staged_image(image, results) as here:
            labels = label_map_of(here.folder, here.path)
            pairs = [] if labels is None else pair_files(labels, here.path)
            measured = measure_pairs(pairs, None, max_pixels)
            return measured.naming({here.path: str(image), here.folder: str(results)})
    except UserError as error:
        return Measured(failed=[str(error)])


def is_folder_at(place: Location, suffixes: tuple[str, ...] = ALL_SUFFIXES) -> bool:
    """Whether a place is a folder, which of a URL its suffix tells.

    Args:
        place: files, or a folder of them.
        suffixes: of the files.
    """
    if isinstance(place, Path):
        return is_folder_of_images(place)
    return place.suffix.lower() not in suffixes


def _pair_by_name(
    labels: Location, files: dict[Path, Location], image: Location
) -> list[tuple[Location, Location]]:
    listed = find_at_url(image) if isinstance(image, Url) else find(image)
    images: dict[Path, Location] = {_as_path(path): path for path in listed}
    for suffixes in (label_maps.SUFFIXES, imagej_rois.SUFFIXES):
        chosen = sorted(file for file in files if file.suffix.lower() in suffixes)
        folders = _as_path(image), _as_path(labels)
        for one in slices_named(folders[0], [*images], folders[1], chosen):
            named = SlicePath.of_name(one)
            whole = images[named.file]
            images[one] = one if isinstance(whole, Path) else Url(whole.text, named.ending)
        paired = pair_files_by_name(folders[0], [*images], folders[1], chosen)
        if paired.faults:
            fault = paired.faults[0]
            for place in (labels, image):
                fault = fault.replace(str(_as_path(place)), str(place))
            raise UserError(fault)
        if paired.pairs:
            return [(files[file], images[path]) for path, file in paired.pairs]
    return []


def _as_path(place: Location) -> Path:
    """A URL as a path to compare names, which nobody opens."""
    return place if isinstance(place, Path) else Path(place.text)
