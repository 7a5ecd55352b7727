"""Measurements of the objects of a labels layer, in the layer's features."""

from typing import Any

import numpy as np
import pint
from napari.layers import Image, Labels

from samlet.errors import UserError
from samlet.measurements import PixelSize, measure_objects
from samlet_napari.labels.object_classes import ObjectClasses
from samlet_napari.layers.layer_data import full_resolution
from samlet_napari.layers.plane import Plane
from samlet_napari.viewer.workspace import Workspace


def measure(workspace: Workspace) -> int:
    """Measure the objects in the plane that is shown, and put the values into the layer's features.

    A row per object, as napari's features table shows them: "index" is the label, the others are
    those of `samlet.measure_objects`. Lengths are in micrometres where the image layer has units of
    length, else in pixels.

    Returns:
        how many objects there are.

    Raises:
        UserError: there is no image, or no object in this plane.
    """
    image, labels = workspace.require_image(), workspace.labels
    plane = workspace.view().plane()
    found = None if labels is None else _plane_of(full_resolution(labels), plane)
    if labels is None or found is None or not found.any():
        raise UserError("There is no object here to measure: commit one first.")
    columns: dict[str, Any] = measure_objects(
        found, _plane_of(full_resolution(image), plane), pixel_size(image, plane)
    )
    numbers = columns.pop("label")
    labels.features = {"index": numbers, **columns}
    ObjectClasses(labels).update_features()
    return len(numbers)


def pixel_size(image: Image | Labels, plane: Plane) -> PixelSize | None:
    """The size of a layer's pixels in a plane; None if its units are none of length."""
    sides = []
    for axis in plane.axes:
        try:
            unit = pint.Quantity(abs(float(image.scale[axis])), image.units[axis])
            sides.append(float(unit.to("micrometer").magnitude))
        except pint.DimensionalityError:
            return None
    return PixelSize(*sides)


def _plane_of(data: Any, plane: Plane) -> np.ndarray:
    height, width = plane.size(data.shape)
    return plane.read(data, (0, 0, width, height))
