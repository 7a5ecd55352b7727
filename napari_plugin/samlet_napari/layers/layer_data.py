"""Data and shapes of layers, pyramids included."""

from collections.abc import Sequence
from typing import Any

from napari.layers import Image, Labels


def full_resolution(layer: Image | Labels) -> Any:
    """A layer's data in full resolution: of a pyramid, the first level."""
    return layer.data[0] if layer.multiscale else layer.data


def shape_of(layer: Image) -> tuple[int, ...]:
    """The shape of an image's data in full resolution, without an axis of RGB."""
    shape = tuple(int(length) for length in full_resolution(layer).shape)
    return shape[:-1] if layer.rgb else shape


def format_shape(shape: Sequence[int]) -> str:
    """A shape, for messages: "520 x 696"."""
    return " x ".join(map(str, shape))
