"""What a napari image layer shows, as RGB pixels of any box of any plane.

A `LayerSnapshot` copies a layer's settings, so that other threads never touch the layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image

from samlet.errors import UserError
from samlet.images import to_rgb
from samlet.masks import Box
from samlet_napari.layers.layer_data import format_shape, shape_of
from samlet_napari.layers.plane import Plane

MOST_READ = 4096
"""Pixels along a side that are read at most: of larger boxes every n-th."""

INTENSITIES = 256


@dataclass(frozen=True)
class Channel:
    """One layer's part in a snapshot.

    Attributes:
        levels: its arrays, each smaller than the one before; one if it is no pyramid.
        limits: the values that become black and full intensity; None to take percentiles.
        colours: uint8, 256 x 3: what each intensity looks like; None for grey, and for RGB.
    """

    levels: tuple[Any, ...]
    limits: tuple[float, float] | None
    colours: np.ndarray | None


@dataclass(frozen=True, eq=False)
class LayerSnapshot:
    """An image as planes of RGB pixels.

    Attributes:
        channels: added up, as napari's additive blending does.
        shape: of the data, without the axis of RGB.
        is_rgb: whether the data has an axis of RGB or RGBA behind those.
        colour_axis: an axis whose first three entries are red, green and blue; None for none.
    """

    channels: tuple[Channel, ...]
    shape: tuple[int, ...]
    is_rgb: bool
    colour_axis: int | None = None

    @classmethod
    def of(
        cls,
        layers: Sequence[Image],
        *,
        as_shown: bool = True,
        colour_axis: int | None = None,
    ) -> "LayerSnapshot":
        """Take a snapshot of a layer, or of several to blend.

        Args:
            layers: of one shape; of several each is coloured by its colormap.
            as_shown: with their contrast limits, or by percentiles of what is read.
            colour_axis: see the class.

        Raises:
            UserError: the layers are of several shapes, or not images of two axes or more.
        """
        shape = shape_of(layers[0])
        for layer in layers[1:]:
            if shape_of(layer) != shape:
                raise UserError(
                    f"{layer.name} is {format_shape(shape_of(layer))} and {layers[0].name} is "
                    f"{format_shape(shape)}: hide one of them, since only "
                    "layers of the same size can be blended."
                )
        if len(shape) < 2 or 0 in shape:
            raise UserError(
                f"{layers[0].name} is {format_shape(shape)}: choose an image with pixels."
            )
        blended = len(layers) > 1
        channels = tuple(
            Channel(
                tuple(layer.data) if layer.multiscale else (layer.data,),
                _limits(layer) if as_shown else None,
                _colours(layer) if blended and not layer.rgb else None,
            )
            for layer in layers
        )
        return cls(channels, shape, bool(layers[0].rgb), colour_axis)

    def size(self, plane: Plane) -> tuple[int, int]:
        """Height and width of a plane."""
        return plane.size(self.shape)

    def read(self, plane: Plane, box: Box, detail: int = MOST_READ) -> np.ndarray:
        """Read a box.

        Args:
            plane: whose.
            box: x0, y0, x1, y1, half open, within the plane.
            detail: pixels along the longer side that suffice; of a pyramid the coarsest level
                that has them is read. Beyond `MOST_READ`, and without a pyramid, at most twice as
                many as suffice.

        Returns:
            uint8, h x w x 3: of the box's size, or smaller.

        Raises:
            UserError: the pixels are not real numbers.
        """
        parts = [self._read_channel(channel, plane, box, detail) for channel in self.channels]
        if len(parts) == 1:
            return parts[0]
        height, width = (min(part.shape[axis] for part in parts) for axis in (0, 1))
        total = np.zeros((height, width, 3), np.uint16)
        for part in parts:
            # A pyramid gives fewer pixels of the same box than a single array.
            rows = np.arange(height) * part.shape[0] // height
            columns = np.arange(width) * part.shape[1] // width
            total += part[np.ix_(rows, columns)]
        return total.clip(0, 255).astype(np.uint8)

    def _read_channel(self, channel: Channel, plane: Plane, box: Box, detail: int) -> np.ndarray:
        level = self._level(channel, plane, box, detail)
        array = channel.levels[level]
        where, within = _scale_to_level(plane, box, self.shape, array.shape)
        step = max(1, max(within[2] - within[0], within[3] - within[1]) // max(detail, MOST_READ))
        if self.colour_axis is None:
            values = where.read(array, within, step)
        else:
            count = min(3, self.shape[self.colour_axis])
            planes = [where.moved(self.colour_axis, number) for number in range(count)]
            values = np.stack([p.read(array, within, step) for p in planes], axis=-1)
        return _to_8_bit(values, channel, self.is_rgb)

    def _level(self, channel: Channel, plane: Plane, box: Box, detail: int) -> int:
        longest = max(box[2] - box[0], box[3] - box[1])
        level = 0
        for number, array in enumerate(channel.levels):
            shrunk = min(array.shape[axis] / self.shape[axis] for axis in plane.axes)
            if longest * shrunk >= detail:
                level = number
        return level


def _scale_to_level(
    plane: Plane, box: Box, full: Sequence[int], shape: Sequence[int]
) -> tuple[Plane, Box]:
    """A plane and a box of it in a pyramid's level, of which the shape is given."""
    index = tuple(
        min(i * small // large, small - 1)
        for i, large, small in zip(plane.index, full, shape, strict=False)
    )
    sides = []
    for axis, start, stop in ((plane.axes[1], box[0], box[2]), (plane.axes[0], box[1], box[3])):
        ratio = shape[axis] / full[axis]
        first = min(int(start * ratio), shape[axis] - 1)
        sides.append((first, max(first + 1, min(round(stop * ratio), shape[axis]))))
    (x0, x1), (y0, y1) = sides
    return Plane(plane.axes, index), (x0, y0, x1, y1)


def _to_8_bit(values: np.ndarray, channel: Channel, is_rgb: bool) -> np.ndarray:
    if values.dtype.kind not in "buif":
        raise UserError(f"The image is of {values.dtype}: convert it to real numbers first.")
    if channel.limits is not None:
        colours = _stretch(values[..., :3] if is_rgb else values, channel.limits)
        # What is fully transparent has any colour, and napari does not show it.
        opacity = [(values[..., 3:] != 0).astype(np.uint8)] if is_rgb else []
        values = np.concatenate([colours, *opacity], axis=-1)
    rgb = to_rgb(values)
    return rgb if channel.colours is None else channel.colours[rgb[..., 0]]


def _stretch(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """From the limits to 0 and 255; what is no number becomes 0."""
    low, high = limits
    if values.dtype == np.uint8 and limits == (0.0, 255.0):
        return np.ascontiguousarray(values)
    # float32 holds 16-bit integers exactly, but not larger ones.
    numbers: np.ndarray = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    shares = (numbers - low) * (255 / (high - low) if high > low else 0.0)
    return np.nan_to_num(np.rint(shares), nan=0.0).clip(0, 255).astype(np.uint8)


def _limits(layer: Image) -> tuple[float, float]:
    low, high = layer.contrast_limits
    return float(low), float(high)


def _colours(layer: Image) -> np.ndarray:
    mapped = np.asarray(layer.colormap.map(np.linspace(0, 1, INTENSITIES)))[:, :3]
    return np.rint(mapped * 255).astype(np.uint8)
