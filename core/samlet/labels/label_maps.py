"""Labels as images: one label map for each image, named like it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from samlet.errors import UserError
from samlet.labels.labelled import Labelled, check_size, image_size
from samlet.labels.stems import pairs
from samlet.outputs import read_label_map

SUFFIXES = (".png", ".tif", ".tiff")


def find(images: Path, paths: Sequence[Path], labels: Path) -> list[Labelled]:
    """Find the images that have a label map; see `samlet.labels.find`.

    Args:
        images: the folder of the images.
        paths: image files below it.
        labels: the folder of the label maps.

    Raises:
        UserError: names are ambiguous.
    """
    if labels.resolve() == images.resolve():
        # Every image would be taken for its own label map.
        return []
    return [
        Labelled(path, partial(_read, path, label_map))
        for path, label_map in pairs(images, paths, labels, SUFFIXES)
    ]


def _read(image: Path, label_map: Path) -> np.ndarray:
    labels = read_label_map(label_map)
    check_size((labels.shape[0], labels.shape[1]), image, image_size(image), str(label_map))
    if labels.max() > np.iinfo(np.int32).max:
        raise UserError(
            f"{label_map} has labels up to {labels.max()}, which are too large: "
            "number the objects from 1."
        )
    return labels.astype(np.int32)[None]
