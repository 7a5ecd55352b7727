"""Labels as label maps: for each image a file of the same name, where each number is an object."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from samlet.datasets.label_map_classes import read_classes
from samlet.datasets.labelled_images import (
    LabelledImage,
    LabelledImages,
    ObjectClass,
    check_size,
    image_size,
)
from samlet.datasets.pairing import pair_by_name
from samlet.errors import UserError
from samlet.images import SlicePath
from samlet.outputs import read_label_map

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")


def find_label_maps(images: Path, paths: Sequence[Path], labels: Path) -> LabelledImages:
    """Find the images of a folder that have a label map; see `find_labelled_images`.

    Args:
        images: the folder of the images.
        paths: image files below it.
        labels: the folder of the label maps, which may be that of the images.
    """
    matched = pair_by_name(images, paths, labels, SUFFIXES)
    found = [
        LabelledImage(
            path,
            partial(read_layers, path, source),
            may_be_unlabelled=bool(SlicePath.parse(source).numbers),
        )
        for path, source in matched.pairs
    ]
    # In a folder of both, label maps were found as images, too.
    maps = {SlicePath.parse(source).file.resolve() for _, source in matched.pairs}

    def is_map(path: Path) -> bool:
        return SlicePath.parse(path).file.resolve() in maps

    return LabelledImages(
        [labelled for labelled in found if not is_map(labelled.path)],
        [path for path in paths if not is_map(path)],
        matched.unmatched,
        matched.faults,
    )


def read_layers(
    image: Path,
    label_map: Path,
    left_out: list[str] | None = None,
    classes: dict[int, ObjectClass] | None = None,
) -> np.ndarray:
    """Read the label map of an image as one layer: int32, 1 x H x W, with its numbers unchanged.

    Args:
        image: the image file.
        label_map: its label map.
        left_out: not used, since a label map is faulty as a whole or not at all.
        classes: see `samlet.datasets.labelled_images.ReadLayers`.

    Raises:
        UserError: unreadable, not a label map, or not of the size of the image.
    """
    labels = read_label_map(label_map)
    check_size((labels.shape[0], labels.shape[1]), image, image_size(image), str(label_map))
    if labels.max() > np.iinfo(np.int32).max:
        raise UserError(
            f"{label_map} has labels up to {labels.max()}, which are too large: "
            "number the objects from 1."
        )
    if classes is not None:
        classes.update(read_classes(label_map))
    return labels.astype(np.int32)[None]
