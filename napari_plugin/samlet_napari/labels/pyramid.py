"""Multiscale labels: each level half as large as the one before.

New layers of large images are pyramids, since napari draws all of an array that is none, and some
graphics cards cannot. napari's brushes do not paint on pyramids, but everything here does.
"""

from collections.abc import Sequence
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
    if max(shape[-2:]) <= PYRAMID_FROM:
        return np.zeros(shape, DTYPE)
    levels = [np.zeros(shape, DTYPE)]
    while max(levels[-1].shape[-2:]) > PYRAMID_FROM // 4:
        levels.append(np.zeros(level_shape(shape, len(levels)), DTYPE))
    return levels


def add_labels_layer(viewer: ViewerModel, image: Image, shape: Sequence[int]) -> Labels:
    """Put an empty labels layer over an image of that shape; what is active stays so."""
    data = empty_labels(shape)
    labels = Labels(
        data,
        multiscale=isinstance(data, list),
        name=f"{image.name} objects",
        scale=image.scale,
        translate=image.translate,
        rotate=image.rotate,
        shear=image.shear,
        affine=image.affine,
        units=image.units,
        axis_labels=image.axis_labels,
    )
    active = viewer.layers.selection.active
    viewer.layers.insert(viewer.layers.index(image) + 1, labels)
    viewer.layers.selection.active = active
    return labels


def level_shape(shape: Sequence[int], level: int) -> tuple[int, ...]:
    """The shape of a pyramid's level; 0 is full resolution."""
    step = 2**level
    return (*shape[:-2], *(-(-length // step) for length in shape[-2:]))


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
