"""Images and labels of a folder as napari's layers, made without a viewer, in any thread."""

from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.layers._source import layer_source

from samlet import images
from samlet.errors import UserError
from samlet_napari.folder.slice_array import read_slices
from samlet_napari.labels import pyramid
from samlet_napari.labels.labels_file import read_labels
from samlet_napari.labels.object_classes import ObjectClasses
from samlet_napari.layers.layer_data import format_shape, shape_of

COLOURS = ("red", "green", "blue", "cyan", "magenta", "yellow", "gray")
"""Of channels, in this order; the first three are those of the command line."""


def read_layers(path: Path, name: str) -> tuple[Image, ...]:
    """Read an image or a stack, with its values as they are stored.

    Of stacks only the slices that are looked at are read, and their axes are time, z, rows and
    columns, as far as they have them.

    Args:
        path: the file, an OME-Zarr folder, or a series, see `samlet.images.slice_path`.
        name: of the layer.

    Returns:
        one layer, or one for each channel where these are no colours.

    Raises:
        UserError: the file is missing, damaged, too large, or holds no image; or what reads it is
            not installed.
    """
    return layers_of(images.open_image(path), name)


def layers_of(file: images.ImageFile, name: str) -> tuple[Image, ...]:
    """As `read_layers`, of a file that is open; it is closed once its values are not needed.

    Raises:
        UserError: it is damaged.
    """
    # Embeddings beside the image need its path, which napari's own opening notes like this.
    with layer_source(path=str(file.path.path)):
        data: Any
        if file.slice_axes(None, are_pages_slices=True):
            data, kind, axes = read_slices(file)
        else:
            with file:
                data, kind = file.decode()
            axes = []
        labels = [*(axis.lower() for axis in axes), "y", "x"]
        if kind == "channels":
            return tuple(
                Image(
                    data[..., number],
                    name=f"{name} channel {number}",
                    axis_labels=labels,
                    colormap=COLOURS[number % len(COLOURS)],
                    blending="additive",
                )
                for number in range(data.shape[-1])
            )
        is_rgb = data.ndim > len(labels)
        if is_rgb and data.shape[-1] <= 2:
            # Grey, and what is opaque of it.
            data, is_rgb = data[..., 0], False
        return (Image(data, name=name, axis_labels=labels, rgb=is_rgb),)


def read_labels_for(image: Image, path: Path) -> Labels:
    """Read the labels of an image; empty ones if it has no file of them.

    Args:
        image: the image; the labels lie over it.
        path: the file of its labels.

    Raises:
        UserError: the file is damaged, or the labels are of another size.
    """
    shape = shape_of(image)
    if not path.exists():
        return pyramid.make_labels_layer(image, pyramid.empty_labels(shape))
    [(data, meta, _)] = read_labels(path)
    if data.shape != shape:
        raise UserError(
            f"{path} is {format_shape(data.shape)} and the image is {format_shape(shape)}: "
            "one of them was replaced; move the labels away, or restore the image."
        )
    if data.dtype == bool:
        data = data.astype(np.uint8)
    labels = pyramid.make_labels_layer(image, pyramid.with_levels(data), meta["metadata"])
    ObjectClasses(labels).update_features()
    return labels
