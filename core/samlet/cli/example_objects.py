"""Objects in label files, as examples of what to find: `samlet everything --like`."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from samlet.datasets.finding import find_labelled_images, labels_of
from samlet.datasets.labelled_images import ReadLayers
from samlet.datasets.layers import iter_objects
from samlet.errors import UserError
from samlet.everything.batch import ImageInput
from samlet.images import SlicePath, is_folder_of_images, list_slices
from samlet.storage.locations import Location


def find_examples(
    image: Path, labels: Path, results: Path | None
) -> tuple[set[Location], Callable[[Location], ImageInput]]:
    """Find the examples of an image, or of a folder of images.

    Args:
        image: the image, or the folder.
        labels: of the image, see `samlet.datasets.finding.labels_of`; of a folder in any format
            that is read for training, see `samlet.datasets.finding.find_labelled_images`.
        results: a folder of results, whose files are no images.

    Returns:
        the images that have labels, and what reads their examples.

    Raises:
        UserError: no image has labels.
    """
    readers: dict[Path, ReadLayers]
    if is_folder_of_images(image):
        found = find_labelled_images(image, labels, results)
        readers = {item.path: item.read_layers for item in found}
    else:
        known = {path: labels_of(path, labels) for path in list_slices([image])}
        readers = {path: reader for path, reader in known.items() if reader is not None}
    # In most slices of a label stack there is no example.
    readers = {
        path: reader
        for path, reader in readers.items()
        if not SlicePath.parse(path).numbers or reader(left_out=[]).any()
    }
    if not readers:
        raise UserError(f"{labels} has no labels of {image}: check the names.")

    def read_examples(path: Location) -> ImageInput:
        assert isinstance(path, Path)
        masks = [mask for _, mask in iter_objects(readers[path](left_out=[]))]
        if not masks:
            raise UserError(f"{path} has no object in {labels}: mark an example, or leave it out.")
        digest = hashlib.sha256(b"".join(mask.tobytes() for mask in masks)).hexdigest()
        return ImageInput({"examples": masks}, {"examples": digest})

    return set(readers), read_examples
