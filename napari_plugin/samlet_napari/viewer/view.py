"""What a viewer shows of an image: which slice, which part, and where on it the cursor is."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.components import Dims, ViewerModel
from napari.layers import Image

from samlet.masks import Box
from samlet_napari.layers.layer_data import shape_of
from samlet_napari.layers.plane import Plane, plane_of


class Sliders:
    """Keeps track of which slider of a viewer was used last, by hand or otherwise.

    napari's `last_used` is the first slider as long as none was touched, and does not change when
    that one is.

    Args:
        dims: of the viewer.

    Attributes:
        last_used: the axis, counted from the last, which is -1; None if none was used.
    """

    def __init__(self, dims: Dims) -> None:
        self._dims = dims
        self._steps = dims.current_step
        self.last_used = dims.last_used - dims.ndim if dims.last_used else None
        dims.events.last_used.connect(self._on_touched)
        dims.events.current_step.connect(self._on_moved)

    def _on_touched(self) -> None:
        self.last_used = self._dims.last_used - self._dims.ndim

    def _on_moved(self) -> None:
        before, self._steps = self._steps, self._dims.current_step
        if len(before) != len(self._steps):
            return
        changed = np.flatnonzero(np.not_equal(before, self._steps))
        # Several move when a layer comes or goes.
        if len(changed) == 1:
            self.last_used = int(changed[0]) - len(before)


_sliders: "WeakKeyDictionary[ViewerModel, Sliders]" = WeakKeyDictionary()


def sliders_of(viewer: ViewerModel) -> Sliders:
    """The sliders of a viewer, watched from the first call on."""
    if viewer not in _sliders:
        _sliders[viewer] = Sliders(viewer.dims)
    return _sliders[viewer]


class View:
    """An image in a viewer.

    Args:
        viewer: whose dims and camera.
        image: one of its layers.
        colour_axis: the axis of the data that holds colours; None for none.
    """

    def __init__(self, viewer: ViewerModel, image: Image, colour_axis: int | None = None) -> None:
        self._viewer = viewer
        self._image = image
        self._colour_axis = colour_axis
        self._sliders = sliders_of(viewer)
        self.shape = shape_of(image)

    def to_pixel(self, position: Sequence[float]) -> tuple[Plane, float, float]:
        """The plane of a point in world coordinates, and its x and y there.

        Raises:
            UserError: the viewer shows no plane of it.
        """
        image, dims = self._image, self._viewer.dims
        plane = plane_of(image, dims.displayed, dims.point)
        data = np.asarray(image.world_to_data(np.asarray(position, float)))[-image.ndim :]
        return plane, float(data[plane.axes[1]]), float(data[plane.axes[0]])

    def plane(self) -> Plane:
        """The plane that the viewer shows.

        Raises:
            UserError: it shows none.
        """
        return self.to_pixel(self._viewer.dims.point)[0]

    def visible_box(self) -> Box:
        """The part of the plane that is seen, half open.

        Raises:
            UserError: as `plane`.
        """
        image, plane = self._image, self.plane()
        corners = np.asarray(image.corner_pixels, float)
        if image.multiscale:
            corners = corners * np.asarray(image.downsample_factors[image.data_level])
        height, width = self.size(plane)
        (y0, y1), (x0, x1) = (sorted(corners[:, axis].tolist()) for axis in plane.axes)
        box = (max(int(x0), 0), max(int(y0), 0), min(int(x1) + 1, width), min(int(y1) + 1, height))
        # Before the first drawing napari does not know.
        return box if box[2] - box[0] > 1 and box[3] - box[1] > 1 else (0, 0, width, height)

    def visible_size(self) -> float:
        """Pixels along the longer side of what is seen.

        Raises:
            UserError: as `plane`.
        """
        x0, y0, x1, y1 = self.visible_box()
        return float(max(x1 - x0, y1 - y0))

    def size(self, plane: Plane) -> tuple[int, int]:
        """Height and width of a plane."""
        return plane.size(self.shape)

    @property
    def is_stack(self) -> bool:
        """Whether the image has several slices, whichever two axes are shown."""
        lengths = (n for axis, n in enumerate(self.shape) if axis != self._colour_axis)
        return sum(length > 1 for length in lengths) > 2

    def slice_axes(self, plane: Plane) -> list[int]:
        """The axes along which an image is a stack of planes; empty if it is no stack."""
        return [
            axis
            for axis, length in enumerate(self.shape)
            if axis not in plane.axes and length > 1 and axis != self._colour_axis
        ]

    def slice_axis(self, plane: Plane) -> int | None:
        """The axis along which an image is a stack of planes; None if it is no stack.

        Of several it is that of the slider that was used last, or else the last one, which is depth
        in an image of times or positions.
        """
        axes = self.slice_axes(plane)
        last_used = self._sliders.last_used
        if last_used is not None and last_used + len(self.shape) in axes:
            return last_used + len(self.shape)
        return axes[-1] if axes else None

    def neighbours(self, plane: Plane) -> list[Plane]:
        """The next slice, and the one before."""
        axis = self.slice_axis(plane)
        if axis is None:
            return []
        here = plane.index[axis]
        return [plane.moved(axis, i) for i in (here + 1, here - 1) if 0 <= i < self.shape[axis]]

    def go_to(self, plane: Plane) -> None:
        """Show a plane."""
        image, dims = self._image, self._viewer.dims
        world: Any = image.data_to_world(plane.index)
        for axis in set(range(image.ndim)) - set(plane.axes):
            dims.set_point(axis + dims.ndim - image.ndim, world[axis])
