"""Images and labels of a folder as napari's layers, made without a viewer, in any thread."""

from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.layers._source import layer_source
from napari_builtins.io import napari_get_reader

from samlet import images
from samlet.errors import UserError
from samlet.images.decoding import decode
from samlet.images.formats.read_errors import explain_read_errors
from samlet_napari.labels import pyramid
from samlet_napari.labels.labels_file import read_labels
from samlet_napari.labels.object_classes import ObjectClasses
from samlet_napari.layers.layer_data import format_shape, shape_of


def read_image(path: Path, name: str) -> Image:
    """Read an image file as it would be seen by napari, or by samlet's command line.

    Stacks, and channels that are no colours, are read by napari, each along an axis of its own.
    Everything else is decoded as `samlet.images.read` does, with its values as they are stored.

    Args:
        path: the file.
        name: of the layer.

    Raises:
        UserError: the file is missing, damaged, too large, or holds no image.
    """
    # Embeddings beside the image need its path, which napari's own opening notes like this.
    with layer_source(path=str(path)):
        if images.is_stack(path):
            return _read_by_napari(path, name)
        values, kind = decode(path)
        if kind in ("channels", "pages"):
            return _read_by_napari(path, name)
        if values.ndim == 3 and values.shape[2] <= 2:
            # Grey, and what is opaque of it.
            values = values[..., 0]
        return Image(values, name=name, rgb=values.ndim == 3)


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


def _read_by_napari(path: Path, name: str) -> Image:
    with explain_read_errors(path):
        read: Any = napari_get_reader(str(path))
        data = read(str(path))[0][0]
        return Image(data, name=name)
