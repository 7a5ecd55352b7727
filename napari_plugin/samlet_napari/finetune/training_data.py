"""An image layer and its labels as training data: in memory, and as a folder."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image, Labels
from PIL import Image as PillowImage

from samlet.errors import UserError
from samlet.masks import Box
from samlet.outputs import write_label_map
from samlet.utils.files import atomic_path
from samlet_napari.layers.layer_data import format_shape, full_resolution
from samlet_napari.layers.layer_reader import LayerSnapshot
from samlet_napari.layers.plane import Plane

MAX_UNCROPPED = 2048
"""Pixels along a side. Larger planes are cropped, as objects would be tiny when shown whole."""
MAX_CROP = 1024

IMAGES, LABELS = "images", "labels"
"""Folders of what `export` writes."""


class Crop(NamedTuple):
    """A part of a plane, half open: x0, y0, x1, y1."""

    plane: Plane
    box: Box


@dataclass(frozen=True, eq=False)
class TrainingData:
    """An image and its labels, plane by plane: a snapshot, for other threads to read.

    Attributes:
        snapshot: the image.
        labels: integers of the image's shape; 0 is background.
        names: of the two layers, for messages.
    """

    snapshot: LayerSnapshot
    labels: Any
    names: tuple[str, str]

    @classmethod
    def of(cls, image: Image | None, labels: Labels | None) -> "TrainingData":
        """Take a snapshot of two layers.

        Raises:
            UserError: one is missing, or their shapes differ.
        """
        if image is None:
            raise UserError("Choose an image layer: there is none in the viewer yet.")
        if labels is None:
            raise UserError("Choose a labels layer: there is none in the viewer yet.")
        snapshot = LayerSnapshot.of([image])
        array = full_resolution(labels)
        if tuple(array.shape) != snapshot.shape:
            raise UserError(
                f"{labels.name} is {format_shape(array.shape)} and {image.name} is "
                f"{format_shape(snapshot.shape)}: choose labels of the same size as the image."
            )
        return cls(snapshot, array, (image.name, labels.name))

    def crops(self) -> Iterator[Crop]:
        """All planes along the last two axes, the large ones in crops."""
        *leading, height, width = self.snapshot.shape
        axes = (len(leading), len(leading) + 1)
        is_large = max(height, width) > MAX_UNCROPPED
        rows, columns = (_cuts(side) if is_large else [0, side] for side in (height, width))
        for index in np.ndindex(*leading):
            plane = Plane(axes, (*index, 0, 0))
            for y0, y1 in pairwise(rows):
                for x0, x1 in pairwise(columns):
                    yield Crop(plane, (x0, y0, x1, y1))

    def labels_in(self, crop: Crop) -> np.ndarray | None:
        """The objects of a crop, numbered from 1: uint16, h x w; None if there are none.

        Raises:
            UserError: there are more than a label map can number.
        """
        values = np.asarray(self.labels[crop.plane.slices(crop.box)])
        if not values.any():
            return None
        # Numbers may be negative, or beyond what a label map holds.
        objects = np.unique(values[values != 0])
        if len(objects) > np.iinfo(np.uint16).max:
            raise UserError(f"{self.names[1]} has {len(objects)} objects on a plane: check it.")
        numbers = np.searchsorted(objects, values) + 1
        return np.where(values == 0, 0, numbers).astype(np.uint16)

    def image_in(self, crop: Crop) -> np.ndarray:
        """RGB, uint8, h x w x 3.

        Raises:
            UserError: the pixels are not real numbers.
        """
        return self.snapshot.read(crop.plane, crop.box)

    def no_objects_error(self) -> UserError:
        """What to raise when no crop has labels."""
        return UserError(f"{self.names[1]} has no objects: label some in {self.names[0]} first.")


def file_name(number: int) -> str:
    """The file name of the crop of this number."""
    return f"{number:06}.png"


def export(data: TrainingData, folder: Path) -> Generator[int, None, int]:
    """Write what has labels: `images/NAME.png` and `labels/NAME.png`.

    Yields:
        how many were written so far, often, so that a thread can be stopped.

    Returns:
        how many there are.

    Raises:
        UserError: none has labels, or the folder cannot be written.
    """
    count = 0
    for number, crop in enumerate(data.crops()):
        labels = data.labels_in(crop)
        if labels is not None:
            name = file_name(number)
            with atomic_path(folder / IMAGES / name) as temporary:
                PillowImage.fromarray(data.image_in(crop)).save(temporary)
            write_label_map(folder / LABELS / name, labels)
            count += 1
        yield count
    if count == 0:
        raise data.no_objects_error()
    return count


def _cuts(side: int) -> list[int]:
    """Where to cut a side, evenly, with both ends."""
    count = ceil(side / MAX_CROP)
    return [side * number // count for number in range(count + 1)]
