"""The size of pixels in micrometres.

Sources: the OME data model (PhysicalSizeX), ImageJ's TIFF files (XResolution and "unit"), TIFF 6.0
(XResolution, ResolutionUnit), and the units of OME-Zarr's axes.
"""

import math
from typing import Any, NamedTuple

import tifffile

MICROMETRES = {
    "m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "å": 1e-4, "pm": 1e-6,
    "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometre": 1.0,
    "meter": 1e6, "decimeter": 1e5, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0,
    "nanometer": 1e-3, "angstrom": 1e-4, "picometer": 1e-6,
    "inch": 25400.0, "inches": 25400.0, "in": 25400.0,
}  # fmt: skip
"""Of a unit, by its name in lower case; ImageJ calls micrometres microns."""

LARGEST_FROM_TAGS = 20.0
"""Micrometres. Resolution tags of larger pixels are those for printing: 300 per inch are 85."""


class PixelSize(NamedTuple):
    """The size of a pixel in micrometres: height and width."""

    height: float
    width: float

    @classmethod
    def checked(cls, height: float, width: float) -> "PixelSize | None":
        """The size; None unless both sides are numbers above 0."""
        is_size = all(math.isfinite(side) and side > 0 for side in (height, width))
        return cls(float(height), float(width)) if is_size else None


def size_in_tiff(tiff: tifffile.TiffFile, series: int) -> PixelSize | None:
    """The size of a TIFF's pixels.

    It is in the metadata of OME and ImageJ, and in the resolution tags of others, which are left
    out beyond `LARGEST_FROM_TAGS`.

    Args:
        tiff: the file.
        series: of OME's images.
    """
    if tiff.ome_metadata is not None:
        return _from_ome(tiff.ome_metadata, series)
    page = tiff.pages.first
    assert isinstance(page, tifffile.TiffPage)
    if tiff.imagej_metadata is not None:
        return _from_tags(page, micrometres(tiff.imagej_metadata.get("unit")))
    unit = {2: "inch", 3: "cm"}.get(_tag(page, "ResolutionUnit"))
    size = _from_tags(page, micrometres(unit))
    return None if size is None or max(size) > LARGEST_FROM_TAGS else size


def micrometres(unit: Any) -> float | None:
    """How many a unit of length has; None if it is none that is known."""
    if not isinstance(unit, str):
        return None
    # ImageJ escapes the sign, which has two code points.
    name = unit.replace("\\u00B5", "µ").replace("μ", "µ").strip().lower()
    return MICROMETRES.get(name)


def _from_ome(metadata: str, series: int) -> PixelSize | None:
    images = tifffile.xml2dict(metadata)["OME"].get("Image", {})
    listed = images if isinstance(images, list) else [images]
    pixels = listed[min(series, len(listed) - 1)].get("Pixels", {})
    sides = []
    for axis in ("Y", "X"):
        length = pixels.get(f"PhysicalSize{axis}")
        unit = micrometres(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if length is None or unit is None:
            return None
        sides.append(float(length) * unit)
    return PixelSize.checked(*sides)


def _from_tags(page: tifffile.TiffPage, unit: float | None) -> PixelSize | None:
    per_unit = [_tag(page, name) for name in ("YResolution", "XResolution")]
    if unit is None or any(value is None or not value[0] or not value[1] for value in per_unit):
        return None
    return PixelSize.checked(*(unit * value[1] / value[0] for value in per_unit))


def _tag(page: tifffile.TiffPage, name: str) -> Any:
    tag = page.tags.get(name)
    return None if tag is None else tag.value
