"""Regions that were drawn in Label Studio, as masks.

Positions and lengths are in percent of the image's width and height, rotations in degrees,
clockwise: a rectangle turns about the corner (x, y), an ellipse about its centre (x, y). Where the
reference (https://labelstud.io/tags) calls x and y of an ellipse a corner, the program has the
centre: web/libs/editor/src/regions/EllipseRegion.jsx in HumanSignal/label-studio.
"""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from samlet.datasets import json_files
from samlet.datasets.label_studio import brush_rle
from samlet.datasets.labelled_images import check_size
from samlet.errors import UserError
from samlet.images.decoding import decode
from samlet.masks import fill_ellipse, fill_polygon, fill_rectangle

_Draw = Callable[[dict[str, Any], tuple[int, int], str], np.ndarray]


def is_shape(kind: str) -> bool:
    """Tell whether results of this type describe what an object covers, as points do not."""
    return _bare(kind) in _DRAW or _bare(kind) in _UNREAD


def to_mask(result: dict[str, Any], image: Path, size: tuple[int, int], where: str) -> np.ndarray:
    """Draw one region.

    Args:
        result: an entry of an annotation's "result", of a type for which `is_shape` holds.
        image: the image file.
        size: its (H, W).
        where: names the task, to start a sentence.

    Returns:
        bool, H x W.

    Raises:
        UserError: made for another size, on an image that was turned in Label Studio, of a type
            that is not read, or fields are missing or wrong.
    """
    where = f"{where}, region {result.get('id')},"
    kind = _bare(result["type"])
    if kind in _UNREAD:
        raise UserError(
            f"{where} is of the type {result['type']}, which is not read: "
            "draw it with a brush or bitmask, or as a polygon, rectangle or ellipse."
        )
    stated = json_files.stated_size(result, "original_width", "original_height", where)
    check_size(stated or size, image, size, where)
    if json_files.get_number(result, "image_rotation", where, default=0) % 360:
        raise UserError(
            f"{where} was drawn on an image that was turned in Label Studio: "
            "turn it back there and export the labels again."
        )
    return _DRAW[kind](json_files.get_field(result, "value", dict, where), size, where)


def _bare(kind: str) -> str:
    # The tags <Polygon> and <PolygonLabels> write the same shapes.
    return kind.lower().removesuffix("labels")


def _brush(value: dict[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    numbers = json_files.get_field(value, "rle", list, where)
    try:
        packed = bytes(numbers)
    except (TypeError, ValueError) as error:
        raise UserError(
            f'{where} has something else in its "rle" than bytes: export the labels again.'
        ) from error
    try:
        return brush_rle.decode(packed, size)
    except UserError as error:
        raise UserError(f"{where} cannot be read: {error}") from error


def _bitmask(value: dict[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    """A PNG of the image's size as a data URL, black and opaque on the object."""
    url = json_files.get_field(value, "imageDataURL", str, where)
    try:
        content = base64.b64decode(url.partition(",")[2], validate=True)
        pixels = decode("imageDataURL", content=content).values
    except (ValueError, UserError) as error:
        raise UserError(
            f'{where} has no image in its "imageDataURL": export the labels again.'
        ) from error
    if pixels.ndim != 3 or pixels.shape[:2] != size:
        raise UserError(
            f"{where} has a bitmask that is not {size[1]} x {size[0]} pixels with opacity, as its "
            "image: draw it again."
        )
    return pixels[..., -1] > 127


def _polygon(value: dict[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    return fill_polygon(json_files.parse_polygon(value.get("points"), where) * _percent(size), size)


def _rectangle(value: dict[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    x, y, width, height = _lengths(value, ("x", "y", "width", "height"), size, where)
    degrees = json_files.get_number(value, "rotation", where, default=0)
    return fill_rectangle(x, y, width, height, degrees, size)


def _ellipse(value: dict[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    x, y, radius_x, radius_y = _lengths(value, ("x", "y", "radiusX", "radiusY"), size, where)
    degrees = json_files.get_number(value, "rotation", where, default=0)
    return fill_ellipse(x, y, radius_x, radius_y, degrees, size)


def _lengths(
    value: dict[str, Any], names: tuple[str, ...], size: tuple[int, int], where: str
) -> list[float]:
    """Numbers in percent of the width and the height, in turns, as pixels."""
    percent = np.array([json_files.get_number(value, name, where) for name in names])
    return (percent.reshape(-1, 2) * _percent(size)).ravel().tolist()


def _percent(size: tuple[int, int]) -> np.ndarray:
    return np.array([size[1], size[0]]) / 100


_DRAW: dict[str, _Draw] = {
    "brush": _brush,
    "bitmask": _bitmask,
    "polygon": _polygon,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
}
# Left out, what they cover would be trained on as background.
_UNREAD = ("vector",)
