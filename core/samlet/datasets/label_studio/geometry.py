"""Label Studio's geometry: the "value" of a region, read and written, as shapes in pixels.

Positions and lengths are in percent of the image's width and height, rotations in degrees,
clockwise: a rectangle turns about the corner (x, y), an ellipse about its centre (x, y). Where the
reference (https://labelstud.io/tags) calls x and y of an ellipse a corner, the program has the
centre: web/libs/editor/src/regions/EllipseRegion.jsx in HumanSignal/label-studio. If the annotator
has turned the image ("image_rotation"), values are still those of the unturned one.

In pixels, coordinates are (x, y) along pixel edges: pixel (0, 0) covers the square from (0, 0) to
(1, 1), its centre is at (0.5, 0.5). A pixel belongs to a shape if its centre is inside; what lies
beyond the image is cut off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from samlet.datasets import json_files
from samlet.datasets.label_studio import brush_rle
from samlet.errors import UserError
from samlet.masks import CroppedMask, fill_ellipse, fill_polygon

Size = tuple[int, int]
"""(H, W)."""

# In percent or degrees: beyond any drawing, and far from overflowing.
_LARGEST = 1e6


@dataclass(frozen=True)
class RegionValue:
    """The "value" of a region as it was received; its fields are checked when they are read.

    Attributes:
        fields: the JSON object.
        size: (H, W) of the image.
        where: names the region, to start a sentence.
        remedy: what to do about a wrong field, to end a sentence.
    """

    fields: Mapping[str, Any]
    size: Size
    where: str
    remedy: str

    def number(
        self, name: str, bounds: tuple[float, float] | None = None, default: float | None = None
    ) -> float:
        """Look up a finite number; a default makes it optional.

        Args:
            name: of the field.
            bounds: the least and the greatest that it may be.
            default: what counts if the field is missing.

        Raises:
            UserError: missing, no number, or out of bounds.
        """
        low, high = bounds or (-_LARGEST, _LARGEST)
        number = self.fields.get(name, default)
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not low <= number <= high:
            limits = f" from {low:g} to {high:g}" if bounds else ""
            raise UserError(f'{self.where} has no number "{name}"{limits}: {self.remedy}.')
        return float(number)

    def pixels(
        self, x: str, y: str, bounds: tuple[float, float] | None = None
    ) -> tuple[float, float]:
        """A field in percent of the width and one in percent of the height, as pixels.

        Raises:
            UserError: see `number`.
        """
        percent = np.array([self.number(name, bounds) for name in (x, y)])
        along_x, along_y = (percent * (np.array([self.size[1], self.size[0]]) / 100)).tolist()
        return along_x, along_y

    def check_not_zero(self, **lengths: float) -> None:
        """Check that none of the lengths, by their fields' names, is 0.

        Raises:
            UserError: one is.
        """
        for name, length in lengths.items():
            if length == 0:
                raise UserError(
                    f'{self.where} has a "{name}" of 0 and hence no area: {self.remedy}.'
                )


def to_percent(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Pixels as percent of the image's width and height.

    Args:
        pixels: N x 2 of (x, y).
        size: (H, W).
    """
    return 100 * pixels / (size[1], size[0])


@dataclass(frozen=True)
class Rectangle:
    """A rectangle that is turned about its corner (x, y).

    Attributes:
        x: pixels, of the corner that is top left before turning.
        y: of the same corner.
        width: pixels; negative if the annotator drew to the left.
        height: pixels; negative if the annotator drew upwards.
        degrees: clockwise on the screen.
    """

    x: float
    y: float
    width: float
    height: float
    degrees: float = 0

    @classmethod
    def read(cls, value: RegionValue) -> Self:
        """Read the value of a RectangleLabels region.

        Raises:
            UserError: a field is missing or wrong.
        """
        corner, sides = value.pixels("x", "y"), value.pixels("width", "height")
        return cls(*corner, *sides, value.number("rotation", default=0))

    def to_value(self, size: Size) -> dict[str, Any]:
        """Write the value of a region on an image of this size (H, W), without its label."""
        height, width = size
        return {
            "x": 100 * self.x / width,
            "y": 100 * self.y / height,
            "width": 100 * self.width / width,
            "height": 100 * self.height / height,
            "rotation": self.degrees,
        }

    def corners(self) -> np.ndarray:
        """The corners in order around the rectangle: float64, 4 x 2 of (x, y)."""
        along, down = np.diag([self.width, self.height]) @ _axes(self.degrees)
        corner = np.array([self.x, self.y])
        return np.stack([corner, corner + along, corner + along + down, corner + down])

    def bounds(self) -> np.ndarray:
        """The least and the greatest (x, y): float64, 2 x 2."""
        corners = self.corners()
        return np.stack([corners.min(axis=0), corners.max(axis=0)])

    def mask(self, size: Size) -> np.ndarray:
        """Draw it: bool, H x W."""
        return fill_polygon(self.corners(), size)


@dataclass(frozen=True)
class Ellipse:
    """An ellipse that is turned about its centre.

    Attributes:
        x: pixels, of the centre.
        y: of the centre.
        radius_x: pixels, along x before turning.
        radius_y: pixels, along y before turning.
        degrees: clockwise on the screen.
    """

    x: float
    y: float
    radius_x: float
    radius_y: float
    degrees: float = 0

    @classmethod
    def read(cls, value: RegionValue) -> Self:
        """Read the value of an EllipseLabels region.

        Raises:
            UserError: a field is missing or wrong.
        """
        centre, radii = value.pixels("x", "y"), value.pixels("radiusX", "radiusY")
        return cls(*centre, *radii, value.number("rotation", default=0))

    def to_value(self, size: Size) -> dict[str, Any]:
        """Write the value of a region on an image of this size (H, W), without its label.

        The radii are in percent of the image's width and height, but turning is done in pixels.
        """
        height, width = size
        return {
            "x": 100 * self.x / width,
            "y": 100 * self.y / height,
            "radiusX": 100 * self.radius_x / width,
            "radiusY": 100 * self.radius_y / height,
            "rotation": self.degrees,
        }

    def bounds(self) -> np.ndarray:
        """The least and the greatest (x, y): float64, 2 x 2."""
        centre = np.array([self.x, self.y])
        reach = np.linalg.norm(
            np.diag([self.radius_x, self.radius_y]) @ _axes(self.degrees), axis=0
        )
        return np.stack([centre - reach, centre + reach])

    def mask(self, size: Size) -> np.ndarray:
        """Draw it: bool, H x W; without a radius it is empty."""
        radii = (self.radius_x, self.radius_y)
        return fill_ellipse(self.x, self.y, *radii, self.degrees, size)


def read_keypoint(value: RegionValue) -> tuple[float, float]:
    """Read the (x, y) of a KeyPointLabels region, in pixels along pixel edges.

    Raises:
        UserError: a field is missing, or not from -1 to 101 percent.
    """
    return value.pixels("x", "y", (-1, 101))


def read_polygon(value: RegionValue) -> np.ndarray:
    """Read the corners of a PolygonLabels region: float64, N x 2 of (x, y), N >= 3.

    Raises:
        UserError: not pairs of finite numbers, or fewer than three.
    """
    outline = json_files.parse_polygon(value.fields.get("points"), value.where)
    return outline * (np.array([value.size[1], value.size[0]]) / 100)


def polygon_value(outline: np.ndarray, size: Size) -> dict[str, Any]:
    """Write the value of a PolygonLabels region, without its label.

    Args:
        outline: N x 2 of (x, y) in pixels.
        size: (H, W) of the image.
    """
    return {"points": to_percent(outline, size).tolist(), "closed": True}


def read_brush(value: RegionValue) -> np.ndarray:
    """Unpack the mask of a BrushLabels region: bool, H x W.

    Raises:
        UserError: "rle" is missing, is not made of bytes, or is no mask of this size.
    """
    numbers = json_files.get_field(value.fields, "rle", list, value.where, value.remedy)
    try:
        packed = bytes(numbers)
    except (TypeError, ValueError) as error:
        raise UserError(
            f'{value.where} has something else in its "rle" than bytes: {value.remedy}.'
        ) from error
    try:
        return brush_rle.decode(packed, value.size)
    except UserError as error:
        raise UserError(f"{value.where} cannot be read: {error}") from error


def brush_value(mask: CroppedMask) -> dict[str, Any]:
    """Write the value of a BrushLabels region, without its label.

    Raises:
        UserError: the image is too large for a brush mask.
    """
    return {"format": "rle", "rle": brush_rle.encode(mask)}


def _axes(degrees: float) -> np.ndarray:
    """The directions of x and y after turning clockwise, one per row."""
    turn = np.deg2rad(degrees)
    return np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
