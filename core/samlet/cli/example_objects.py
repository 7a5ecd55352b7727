"""Objects in label files, as examples of what to find: `samlet everything --like`."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samlet.cli.common import list_locations, parse_channels
from samlet.datasets.finding import find_labelled_images, labels_of
from samlet.datasets.labelled_images import ReadLayers
from samlet.datasets.layers import iter_objects
from samlet.errors import UserError
from samlet.everything.batch import ImageInput
from samlet.images import SliceChoice, is_folder_of_images, split_slice
from samlet.images.listing import LIST_SUFFIX, ImageList, parse_slice
from samlet.measurements.at_urls import (
    LABEL_SUFFIXES,
    is_folder_at,
    pair_at_urls,
    staged_labels,
)
from samlet.measurements.files import files_and_folders
from samlet.storage.locations import Location, Url
from samlet.storage.staging import staged_image


@dataclass(frozen=True)
class Examples:
    """The examples of some images.

    Attributes:
        labels: what was given as --like.
        by_image: for each image that has labels, what reads them; or their file, which belongs to
            the image, where one of the two is at a URL.
    """

    labels: Location
    by_image: Mapping[Location, ReadLayers | Location]

    def read(self, image: Location, here: Path) -> ImageInput:
        """Read the examples of an image.

        Args:
            image: one of `by_image`.
            here: the same on this machine.

        Raises:
            UserError: there is none, or the labels cannot be read.
        """
        own = self.by_image[image]
        if isinstance(own, Path | Url):
            with staged_labels(own) as file:
                masks = _masks(labels_of(here, file))
        else:
            masks = _masks(own)
        if not masks:
            raise UserError(
                f"{image} has no object in {self.labels}: mark an example, or leave it out."
            )
        digest = hashlib.sha256(b"".join(mask.tobytes() for mask in masks)).hexdigest()
        return ImageInput({"examples": masks}, {"examples": digest})


def list_with_examples(
    image: Location,
    labels: Location,
    results: Location,
    channels: str | None,
    slices: str | None,
    series: str | None,
) -> tuple[ImageList, Examples]:
    """List the images of a command, of stacks each slice, and find the examples of each.

    Args:
        image: see `samlet.cli.common.list_locations`; no list.
        labels: of the image, see `samlet.datasets.finding.labels_of`; of a folder in any format
            that is read for training, see `samlet.datasets.finding.find_labelled_images`. Where one
            of the two is at a URL: those that `samlet.measurements.at_urls.pair_at_urls` takes.
        results: folder of the results, which are no images.
        channels: value of --channels.
        slices: of --slice.
        series: of --series.

    Returns:
        all images, and the examples of those that have labels.

    Raises:
        UserError: no image has labels.
    """
    is_folder = isinstance(image, Path) and is_folder_of_images(image)
    if image.suffix.lower() == LIST_SUFFIX and not is_folder:
        raise UserError(
            f"{image} is a list, and --like finds the labels of an image, or of a folder by the "
            "names of its images: give one of these."
        )
    image, labels = (
        parse_slice(each) if isinstance(each, Url) else each for each in (image, labels)
    )
    found: Mapping[Location, ReadLayers | Location]
    if isinstance(image, Path) and isinstance(labels, Path):
        listed = list_locations(image, results, channels, slices, series)
        if is_folder:
            labelled = find_labelled_images(
                image,
                labels,
                results if isinstance(results, Path) else None,
                slices=SliceChoice.parse(slices, series),
                channels=parse_channels(channels),
            )
            found = _with_objects({item.path: item.read_layers for item in labelled})
        else:
            found = _with_objects(
                {path: labels_of(path, labels) for path in listed.paths if isinstance(path, Path)}
            )
    else:
        files = _label_files(image, labels)
        whole = {split_slice(each)[0] for each in files}
        listed = list_locations(image, results, channels, slices, series, opened=whole)
        found = _find_at_urls(listed.paths, files)
    if not found:
        raise UserError(f"{labels} has no labels of {image}: check the names.")
    return listed, Examples(labels, found)


def _with_objects(
    readers: Mapping[Location, ReadLayers | None],
) -> dict[Location, ReadLayers]:
    """Those of images that have labels; in most slices of a label stack there is no example."""
    return {
        path: reader
        for path, reader in readers.items()
        if reader is not None and (not split_slice(path)[1] or reader(left_out=[]).any())
    }


def _label_files(image: Location, labels: Location) -> dict[Location, Location]:
    """The file of the labels of each image file, or of a slice that it has the name of."""
    if not is_folder_at(labels, LABEL_SUFFIXES):
        if is_folder_at(image):
            raise files_and_folders(labels, image)
        return {split_slice(image)[0]: labels}
    folder = image if is_folder_at(image) else split_slice(image)[0].parent
    return {own: file for file, own in pair_at_urls(labels, folder) if own is not None}


def _find_at_urls(
    paths: Sequence[Location], files: Mapping[Location, Location]
) -> dict[Location, Location]:
    """The file of the labels of each image or slice; stacks are brought here once a file."""
    slices: dict[tuple[Location, Location], list[Location]] = defaultdict(list)
    found: dict[Location, Location] = {}
    for path in paths:
        file, _ = split_slice(path)
        labels = files.get(path, files.get(file))
        if labels is not None and path == file:
            found[path] = labels
        elif labels is not None:
            slices[file, labels].append(path)
    for (file, labels), of_stack in slices.items():
        with staged_labels(labels) as own, staged_image(file, own.parent) as here:
            readers = {one: labels_of(here.path.with_name(one.name), own) for one in of_stack}
            found |= dict.fromkeys(_with_objects(readers), labels)
    return found


def _masks(read_layers: ReadLayers | None) -> list[np.ndarray]:
    if read_layers is None:
        return []
    return [mask for _, mask in iter_objects(read_layers(left_out=[]))]
