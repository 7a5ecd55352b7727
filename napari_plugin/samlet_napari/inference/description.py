"""What objects of an image are like, as numbers from which a classifier learns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from samlet.classification.features import describe_object
from samlet.everything.likeness import EmbeddingGrid
from samlet.masks import Box
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.inference.roi import choose_roi
from samlet_napari.layers.plane import Plane


@dataclass(frozen=True)
class LabelledObject:
    """An object in a plane.

    Attributes:
        label: its label.
        plane: where.
        box: around it, half open.
        mask: bool, h x w of the box.
    """

    label: int
    plane: Plane
    box: Box
    mask: np.ndarray


def objects_in(plane: Plane, labels: np.ndarray) -> list[LabelledObject]:
    """The objects of a plane, by rising label.

    Args:
        plane: which.
        labels: all of it: H x W.
    """
    numbers, places = np.unique(labels, return_inverse=True)
    # Numbered from 1 on, as boxes are searched for all numbers up to the highest.
    dense = places.reshape(labels.shape) + 1
    found = []
    for number, slices in zip(numbers.tolist(), ndimage.find_objects(dense), strict=True):
        if number > 0:
            rows, columns = slices
            box = (columns.start, rows.start, columns.stop, rows.stop)
            found.append(LabelledObject(number, plane, box, labels[slices] == number))
    return found


def describe_objects(
    embeddings: EmbeddingProvider, objects: Sequence[LabelledObject]
) -> Iterator[tuple[int, np.ndarray]]:
    """Describe objects, see `samlet.classification.features.describe_object`.

    Args:
        embeddings: of the image. Those of its parts are used that clicks use where the image is not
            enlarged.
        objects: none of them empty.

    Yields:
        the place of an object in `objects`, and its features; objects of one part of the image one
        after another.

    Raises:
        UserError: the pixels cannot be shown to the model.
    """
    snapshot, side = embeddings.snapshot, embeddings.input_size
    rois = [choose_roi(one.plane, snapshot.size(one.plane), one.box, side, side) for one in objects]
    in_order: Iterable[int] = sorted(range(len(objects)), key=lambda i: str(rois[i]))
    grid, shown = None, None
    for i in in_order:
        one, roi = objects[i], rois[i]
        if grid is None or roi != shown:
            grid, shown = EmbeddingGrid.of(embeddings.get(roi), roi.box), roi
        x0, y0, x1, y1 = one.box
        pooled = grid.pooled(one.mask, x0, y0)
        rgb = snapshot.read(one.plane, one.box, max(x1 - x0, y1 - y0))
        # Of very large objects, not all pixels are read.
        rows = np.arange(rgb.shape[0]) * one.mask.shape[0] // rgb.shape[0]
        columns = np.arange(rgb.shape[1]) * one.mask.shape[1] // rgb.shape[1]
        mask = one.mask[np.ix_(rows, columns)]
        yield i, describe_object(pooled, mask, rgb)
