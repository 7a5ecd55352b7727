"""Our two layers in a viewer: the mask being made, and the clicks that it comes from."""

from typing import Any
from weakref import WeakSet

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Points
from napari.utils.colormaps import DirectLabelColormap
from scipy import ndimage

from samlet.masks import Box, bounding_slices
from samlet_napari.inference.prompts import Steps, all_points
from samlet_napari.layers.plane import Plane
from samlet_napari.viewer.batches import batched_update

MASK, HOVER, LINE = 1, 2, 3
"""Values of the preview: the object, what lies under the cursor, and outlines and boxes."""

PREVIEW, CLICKS = "samlet preview", "samlet clicks"
POSITIVE, NEGATIVE = "lime", "red"
YELLOW = (1.0, 0.84, 0.0, 1.0)
CLICK_PIXELS = (9, 14)
"""Smallest and largest diameter of a click on the screen."""

_ours: WeakSet[Layer] = WeakSet()


def is_overlay(layer: Layer) -> bool:
    """Whether a layer is one of ours, and so no image or labels to be chosen."""
    return layer in _ours


class Overlays:
    """The layers that a user clicks on; they lie exactly over an image.

    Args:
        viewer: gets the layers.
        image: below them.
    """

    def __init__(self, viewer: ViewerModel, image: Image) -> None:
        self._viewer = viewer
        self._image = image
        self._shown_at: tuple[Plane, Box] | None = None
        self._colour: np.ndarray | None = None
        ndim = image.ndim
        self.preview = Labels(np.zeros((1,) * ndim, np.uint8), name=PREVIEW, opacity=0.6)
        self.clicks = Points(
            np.empty((0, ndim)),
            name=CLICKS,
            size=20,
            canvas_size_limits=CLICK_PIXELS,
            border_color="white",
            border_width=0.15,
            face_color=POSITIVE,
        )
        for layer in (self.preview, self.clicks):
            layer.units = image.units
            _ours.add(layer)
            viewer.add_layer(layer)
        self.preview.editable = False
        self.set_colour(np.ones(4))
        self.follow()

    @property
    def layers(self) -> tuple[Labels, Points]:
        """Both layers."""
        return self.preview, self.clicks

    def follow(self) -> None:
        """Take over the image's transform: scale, translation, rotation and the like."""
        self._matrix = _matrix(self._image)
        self.clicks.affine = self._matrix
        self._move()

    def set_colour(self, colour: np.ndarray) -> None:
        """Show masks in a colour: RGBA, each 0 to 1."""
        if self._colour is not None and np.array_equal(colour, self._colour):
            return
        self._colour = colour
        under_cursor = (*map(float, colour[:3]), 0.6)
        self.preview.colormap = DirectLabelColormap(
            color_dict={
                None: "transparent",
                0: "transparent",
                MASK: colour,
                HOVER: under_cursor,
                LINE: YELLOW,
            }
        )

    def show(self, plane: Plane, box: Box, values: np.ndarray) -> None:
        """Show values, uint8, h x w, in a box of a plane."""
        values = values.T if plane.is_transposed else values
        shape = [1] * self._image.ndim
        for axis, length in zip(sorted(plane.axes), values.shape, strict=True):
            shape[axis] = length
        shaped = values.reshape(shape)
        if self._shown_at == (plane, box) and self.preview.data.shape == shaped.shape:
            # Three times as fast as new data.
            self.preview.data[...] = shaped
            self.preview.refresh(extent=False, thumbnail=False)
            return
        self._shown_at = plane, box
        self.preview.data = shaped.copy()
        self._move()

    def show_points(self, plane: Plane | None, steps: Steps) -> None:
        """Show the clicks of an object in a plane; none without a plane."""
        points = all_points(steps)
        if plane is None:
            if len(self.clicks.data):
                self.clicks.data = np.empty((0, self._image.ndim))
            return
        self.clicks.data = np.array([plane.to_data(x, y) for x, y, _ in points]).reshape(
            -1, self._image.ndim
        )
        if points:
            self.clicks.face_color = [POSITIVE if on else NEGATIVE for _, _, on in points]
        self.clicks.selected_data = set()

    def clear(self) -> None:
        """Show no mask."""
        if self._shown_at is not None:
            self._shown_at = None
            self.preview.data = np.zeros((1,) * self._image.ndim, np.uint8)

    def activate(self) -> None:
        """Make our layers receive clicks on the canvas."""
        self._viewer.layers.selection.active = self.clicks

    def remove(self) -> None:
        """Take the layers out of the viewer."""
        shown = [layer for layer in self.layers if layer in self._viewer.layers]
        if not shown:
            return
        with batched_update(self._viewer):
            for layer in shown:
                self._viewer.layers.remove(layer)

    def _move(self) -> None:
        if self._shown_at is None:
            self.preview.affine = self._matrix
            return
        plane, (x0, y0, _, _) = self._shown_at
        shift = np.eye(len(self._matrix))
        shift[:-1, -1] = plane.to_data(x0, y0)
        self.preview.affine = self._matrix @ shift


def draw_outline(mask: np.ndarray, value: int, thickness: int) -> np.ndarray:
    """Values, uint8, h x w, of a mask, bool, h x w, with a line along its border."""
    values = np.zeros(mask.shape, np.uint8)
    rows, columns = bounding_slices(mask)
    inside = mask[rows, columns]
    # Padding makes the line close along the border of the values, too.
    inner = ndimage.binary_erosion(np.pad(inside, 1), iterations=thickness)[1:-1, 1:-1]
    values[rows, columns] = np.where(inner, value, np.where(inside, LINE, 0))
    return values


def draw_frame(values: np.ndarray, frame: Any, thickness: int) -> np.ndarray:
    """Draw a box, x0, y0, x1, y1 within the values, over values, uint8, h x w."""
    height, width = values.shape
    x0, y0, x1, y1 = (round(float(side)) for side in frame)
    outer = (slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width)))
    inner = (
        slice(max(y0, 0) + thickness, max(min(y1, height) - thickness, 0)),
        slice(max(x0, 0) + thickness, max(min(x1, width) - thickness, 0)),
    )
    drawn = values.copy()
    drawn[outer] = LINE
    drawn[inner] = values[inner]
    return drawn


def _matrix(layer: Any) -> np.ndarray:
    """The layer's data coordinates to the world's, homogeneous."""
    ndim = layer.ndim
    origin = np.asarray(layer.data_to_world(np.zeros(ndim)))
    matrix = np.eye(ndim + 1)
    matrix[:-1, -1] = origin
    for axis, unit in enumerate(np.eye(ndim)):
        matrix[:-1, axis] = np.asarray(layer.data_to_world(unit)) - origin
    return matrix
