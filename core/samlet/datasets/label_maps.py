"""Labels as images: one label map for each image, named like it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from samlet.datasets.labelled_images import LabelledImage, LabelledImages, check_size, image_size
from samlet.datasets.pairing import pair_by_name
from samlet.errors import UserError
from samlet.outputs import read_label_map

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")


def find_label_maps(images: Path, paths: Sequence[Path], labels: Path) -> LabelledImages:
    """Find the images that have a label map; see `samlet.datasets.find_labelled_images`.

    Args:
        images: the folder of the images.
        paths: image files below it.
        labels: the folder of the label maps, which may be the same.
    """
    matched = pair_by_name(images, paths, labels, SUFFIXES)
    found = [
        LabelledImage(path, partial(read_layers, path, source)) for path, source in matched.pairs
    ]
    # In a folder that holds both, a label map was found as an image, too.
    maps = {source.resolve() for _, source in matched.pairs}
    return LabelledImages(
        [labelled for labelled in found if labelled.path.resolve() not in maps],
        [path for path in paths if path.resolve() not in maps],
        matched.unmatched,
        matched.faults,
    )


def read_layers(image: Path, label_map: Path, left_out: list[str] | None = None) -> np.ndarray:
    """Read a label map of an image: int32, 1 x H x W, its numbers as they are.

    Args:
        image: the image file.
        label_map: its label map.
        left_out: nothing of a label map can be faulty alone.

    Raises:
        UserError: unreadable, no label map, or of another size than the image.
    """
    labels = read_label_map(label_map)
    check_size((labels.shape[0], labels.shape[1]), image, image_size(image), str(label_map))
    if labels.max() > np.iinfo(np.int32).max:
        raise UserError(
            f"{label_map} has labels up to {labels.max()}, which are too large: "
            "number the objects from 1."
        )
    return labels.astype(np.int32)[None]
