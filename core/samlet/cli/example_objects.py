"""Objects in label files, as examples of what to find: `samlet everything --like`."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from samlet.datasets.finding import find_labelled_images
from samlet.datasets.label_maps import SUFFIXES, read_layers
from samlet.datasets.labelled_images import ReadLayers
from samlet.datasets.layers import iter_objects
from samlet.errors import UserError
from samlet.everything.batch import Examples


def find_examples(
    image: Path, paths: Sequence[Path], labels: Path, results: Path
) -> tuple[list[Path], Callable[[Path], Examples]]:
    """Find the examples of an image, or of a folder of images.

    Args:
        image: the image, or the folder.
        paths: the images.
        labels: a label map of the image; or a folder or file in any format that is read for
            training, see `samlet.datasets.finding.find_labelled_images`.
        results: the folder of results, whose files are no images.

    Returns:
        the images that have labels, and what reads their examples.

    Raises:
        UserError: no image has labels.
    """
    readers: dict[Path, ReadLayers] = {}
    if not image.is_dir() and labels.is_file() and labels.suffix.lower() in SUFFIXES:
        readers[image] = lambda left_out=None: read_layers(image, labels, left_out)
    else:
        root = image if image.is_dir() else image.parent
        found = find_labelled_images(root, labels, results)
        wanted = set(paths)
        readers = {item.path: item.read_layers for item in found if item.path in wanted}
        if not readers:
            raise UserError(f"{labels} has no labels of {image}: check the names.")

    def read_examples(path: Path) -> Examples:
        masks = [mask for _, mask in iter_objects(readers[path](left_out=[]))]
        if not masks:
            raise UserError(f"{path} has no object in {labels}: mark an example, or leave it out.")
        digest = hashlib.sha256(b"".join(mask.tobytes() for mask in masks)).hexdigest()
        return Examples(masks, digest)

    return [path for path in paths if path in readers], read_examples
