"""Two-dimensional planes through an image of any number of axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image

from samlet.errors import UserError
from samlet.masks import Box
from samlet_napari.layers.layer_data import shape_of


@dataclass(frozen=True)
class Plane:
    """A slice through an image.

    Attributes:
        axes: the data axes that are its rows and its columns.
        index: where it is along every data axis; 0 along its own two.
    """

    axes: tuple[int, int]
    index: tuple[int, ...]

    def moved(self, axis: int, to: int) -> "Plane":
        """The parallel plane at another index of an axis."""
        return Plane(self.axes, (*self.index[:axis], to, *self.index[axis + 1 :]))

    def slices(self, box: Box, step: int = 1) -> tuple[int | slice, ...]:
        """What indexes a box of the plane in an array of the image's shape."""
        x0, y0, x1, y1 = box
        where: list[int | slice] = list(self.index)
        where[self.axes[0]], where[self.axes[1]] = slice(y0, y1, step), slice(x0, x1, step)
        return tuple(where)

    def read(self, array: Any, box: Box, step: int = 1) -> np.ndarray:
        """Read a box of the plane from an array of the image's shape.

        Returns:
            h x w, and axes of the array behind those of the image.
        """
        values = np.asarray(array[self.slices(box, step)])
        return values.swapaxes(0, 1) if self.is_transposed else values

    def to_data(self, x: float, y: float) -> tuple[float, ...]:
        """Data coordinates of a point of the plane."""
        where: list[float] = list(self.index)
        where[self.axes[0]], where[self.axes[1]] = y, x
        return tuple(where)

    def size(self, shape: Sequence[int]) -> tuple[int, int]:
        """Its height and width in an array of that shape."""
        return shape[self.axes[0]], shape[self.axes[1]]

    @property
    def is_transposed(self) -> bool:
        """Whether its columns come before its rows in the data."""
        return self.axes[0] > self.axes[1]


def plane_of(layer: Image, displayed: Sequence[int], point: Sequence[float]) -> Plane:
    """Which plane of a layer a viewer shows.

    Args:
        layer: the image.
        displayed: the viewer's axes of rows and columns.
        point: where the viewer is, in world coordinates.

    Raises:
        UserError: the viewer shows it in 3D, or along axes that the layer does not have.
    """
    if len(displayed) != 2:
        raise UserError("Clicks need the 2D view: press Ctrl-Y, or the cube below the layers.")
    missing = len(point) - layer.ndim
    rows, columns = (axis - missing for axis in displayed)
    if min(rows, columns) < 0:
        raise UserError(f"{layer.name} has no axis {min(displayed)}, which the viewer shows.")
    shape = shape_of(layer)
    position = layer.world_to_data(np.asarray(point, dtype=float))[-layer.ndim :]
    index = [
        0 if axis in (rows, columns) else int(np.clip(round(float(at)), 0, length - 1))
        for axis, (at, length) in enumerate(zip(position, shape, strict=True))
    ]
    return Plane((rows, columns), tuple(index))
