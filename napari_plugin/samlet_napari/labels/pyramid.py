"""Multiscale labels: each level half as large as the one before.

New layers of large images are pyramids, since napari draws all of an array that is none, and some
graphics cards cannot. napari's brushes do not paint on pyramids, but everything here does.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels

from samlet.masks import Box
from samlet_napari.layers.plane import Plane

PYRAMID_FROM = 4096
"""Pixels along a plane from which a new layer is a pyramid."""

DTYPE = np.uint16


def empty_labels(shape: Sequence[int]) -> np.ndarray | list[np.ndarray]:
    """Make data for a new layer, a pyramid if it is large; memory is taken as it fills."""
    shapes = _level_shapes(shape)
    levels = [np.zeros(each, DTYPE) for each in shapes]
    return levels if len(levels) > 1 else levels[0]


def with_levels(array: np.ndarray) -> np.ndarray | list[np.ndarray]:
    """Make data for a layer of an array, which becomes the first level if it is large."""
    steps = [2**level for level in range(len(_level_shapes(array.shape)))]
    # Copies, since each level is written to by itself.
    levels = [array, *(array[..., ::step, ::step].copy() for step in steps[1:])]
    return levels if len(levels) > 1 else array


def add_labels_layer(viewer: ViewerModel, image: Image, shape: Sequence[int]) -> Labels:
    """Put an empty labels layer over an image of that shape; what is active stays so."""
    labels = make_labels_layer(image, empty_labels(shape))
    insert_above(viewer, image, labels)
    return labels


def make_labels_layer(
    image: Image,
    data: np.ndarray | list[np.ndarray],
    metadata: dict[str, Any] | None = None,
) -> Labels:
    """Make a labels layer that lies over an image, of data as `empty_labels` gives it."""
    return Labels(
        data,
        multiscale=isinstance(data, list),
        metadata=metadata,
        name=f"{image.name} objects",
        scale=image.scale,
        translate=image.translate,
        rotate=image.rotate,
        shear=image.shear,
        affine=image.affine,
        units=image.units,
        axis_labels=image.axis_labels,
    )


def insert_above(viewer: ViewerModel, image: Image, labels: Labels) -> None:
    """Put a labels layer right over an image; what is active stays so."""
    layers, selection = viewer.layers, viewer.layers.selection
    active = selection.active
    # Whoever hears that the new layer is active, and then the other one again, takes a quarter of
    # the time for which the window is blocked.
    with nullcontext() if active is None else selection.events.blocker_all():
        layers.insert(layers.index(image) + 1, labels)
        selection.active = active


def level_shape(shape: Sequence[int], level: int) -> tuple[int, ...]:
    """The shape of a pyramid's level; 0 is full resolution."""
    step = 2**level
    return (*shape[:-2], *(-(-length // step) for length in shape[-2:]))


def _level_shapes(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """The shapes of all levels of a new layer; one if it is no pyramid."""
    shapes = [tuple(shape)]
    if max(shape[-2:]) > PYRAMID_FROM:
        while max(shapes[-1][-2:]) > PYRAMID_FROM // 4:
            shapes.append(level_shape(shape, len(shapes)))
    return shapes


def update_level(full: Any, small: Any, plane: Plane, box: Box, step: int) -> None:
    """Copy a box of a pyramid's first level to another level, of which a pixel is `step` wide."""
    last = len(full.shape) - 2
    source: list[int | slice] = list(plane.index)
    target: list[int | slice] = list(plane.index)
    ranges = {plane.axes[0]: (box[1], box[3]), plane.axes[1]: (box[0], box[2])}
    for axis, (start, stop) in ranges.items():
        if axis < last:
            source[axis] = target[axis] = slice(start, stop)
        else:
            first = -(-start // step)
            source[axis] = slice(first * step, stop, step)
            target[axis] = slice(first, -(-stop // step))
    for axis in range(last, len(full.shape)):
        if axis not in ranges:
            # A plane across the rows or columns shows in the pyramid only where it is sampled.
            if plane.index[axis] % step:
                return
            target[axis] = plane.index[axis] // step
    small[tuple(target)] = full[tuple(source)]
