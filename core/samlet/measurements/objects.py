"""What is measured of each object of a label map.

The shapes are scikit-image's `regionprops`.
"""

import warnings

import numpy as np
from skimage.measure import regionprops_table

from samlet.errors import UserError
from samlet.images import PixelSize

Columns = dict[str, np.ndarray]
"""Values by the name of the column, one for each object."""


def measure_objects(
    labels: np.ndarray, image: np.ndarray | None = None, pixel_size: PixelSize | None = None
) -> Columns:
    """Measure the objects of a label map.

    Args:
        labels: H x W, integers from 0 up; 0 is background.
        image: H x W or H x W x C, any numbers: intensities. NaN is left out.
        pixel_size: in micrometres; None measures in pixels.

    Returns:
        by column, the values of the objects in the order of their numbers:

        - label: the object's number.
        - centroid_x, centroid_y: pixels.
        - area_px; area_um2 where the size of pixels is known. Lengths (perimeter, axis_major,
          axis_minor, the axes of the ellipse with the same moments) end with _px or _um likewise.
          There is no perimeter where pixels are not square.
        - orientation: degrees from the x axis to the major axis, counter-clockwise, above -90 to
          90.
        - eccentricity: of that ellipse, 0 (a circle) to 1.
        - solidity: area relative to the convex hull's, 0 to 1.
        - touches_border: whether a part of it lies on the border of the image, and more of it may
          lie outside.
        - mean, min, max, sum: of the image in the object; of several channels mean_0, mean_1 ...

    Raises:
        UserError: labels or image have other shapes or values than these.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "bui" or (labels.size and labels.min() < 0):
        raise UserError(
            f"Labels must be H x W integers from 0 up, not {labels.dtype} of shape {labels.shape}: "
            "measure the slices of a stack one by one."
        )
    numbers, places = np.unique(labels[labels > 0], return_inverse=True)
    # Numbered from 1 on, as memory grows with the highest number.
    dense = np.zeros(labels.shape, np.int32)
    dense[labels > 0] = places + 1
    columns: Columns = {"label": numbers.astype(np.int64)}
    columns |= _shapes(dense, pixel_size)
    if image is not None:
        columns |= _intensities(np.asarray(image), labels > 0, places, len(numbers))
    return columns


def _shapes(labels: np.ndarray, pixel_size: PixelSize | None) -> Columns:
    height, width = pixel_size or (1.0, 1.0)
    is_square = np.isclose(height, width, rtol=1e-3)
    properties = ["area", "axis_major_length", "axis_minor_length", "orientation", "eccentricity"]
    properties += ["solidity", "bbox", "centroid"]
    # Of objects of one line, whose hull has no area, it warns for each.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spacing = (height, height) if is_square else (height, width)
        measured = regionprops_table(
            labels,
            properties=properties + ["perimeter"] * bool(is_square),
            spacing=spacing,
        )
    unit = "px" if pixel_size is None else "um"
    pixels = np.bincount(labels.ravel(), minlength=1)[1:]
    solidity = measured["solidity"]
    columns = {
        "centroid_x": measured["centroid-1"] / spacing[1],
        "centroid_y": measured["centroid-0"] / spacing[0],
        "area_px": pixels,
        **({} if pixel_size is None else {"area_um2": measured["area"]}),
        **({f"perimeter_{unit}": measured["perimeter"]} if is_square else {}),
        f"axis_major_{unit}": measured["axis_major_length"],
        f"axis_minor_{unit}": measured["axis_minor_length"],
        "orientation": _from_x_axis(measured["orientation"]),
        "eccentricity": measured["eccentricity"],
        "solidity": np.where(np.isfinite(solidity), solidity, 1.0).clip(0, 1),
        "touches_border": (measured["bbox-0"] == 0)
        | (measured["bbox-1"] == 0)
        | (measured["bbox-2"] == labels.shape[0])
        | (measured["bbox-3"] == labels.shape[1]),
    }
    return {name: np.asarray(values) for name, values in columns.items()}


def _from_x_axis(angles: np.ndarray) -> np.ndarray:
    """Degrees from the x axis, above -90 to 90; scikit-image's radians are from the y axis."""
    degrees = np.rad2deg(angles) + 90
    return np.where(degrees > 90, degrees - 180, degrees)


def _intensities(image: np.ndarray, inside: np.ndarray, places: np.ndarray, count: int) -> Columns:
    if image.shape[:2] != inside.shape or image.ndim not in (2, 3):
        raise UserError(
            f"The image has the shape {image.shape} and the labels {inside.shape}: measure labels "
            "of the same image."
        )
    channels = image[..., None] if image.ndim == 2 else image
    columns: Columns = {}
    for number in range(channels.shape[2]):
        values = channels[..., number][inside].astype(np.float64)
        known = np.isfinite(values)
        where, values = places[known], values[known]
        counts = np.bincount(where, minlength=count)
        sums = np.bincount(where, values, minlength=count)
        lowest, highest = np.full(count, np.inf), np.full(count, -np.inf)
        np.minimum.at(lowest, where, values)
        np.maximum.at(highest, where, values)
        suffix = "" if image.ndim == 2 else f"_{number}"
        empty = counts == 0
        for name, figures in (
            ("mean", sums / np.maximum(counts, 1)),
            ("min", lowest),
            ("max", highest),
            ("sum", sums),
        ):
            columns[name + suffix] = np.where(empty, np.nan, figures)
    return columns
