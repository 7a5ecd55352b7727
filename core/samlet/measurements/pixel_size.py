"""The size of an image's pixels in micrometres, where its file says it.

Sources: the OME data model (PhysicalSizeX), ImageJ's TIFF files (XResolution and "unit"), and TIFF
6.0 (XResolution, ResolutionUnit).
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import tifffile

from samlet.images.decoding import explain_read_errors, is_tiff

MICROMETRES = {
    "m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "å": 1e-4, "pm": 1e-6,
    "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "inch": 25400.0, "inches": 25400.0, "in": 25400.0,
}  # fmt: skip
"""Of a unit, by its name in lower case; ImageJ calls micrometres microns."""

LARGEST_FROM_TAGS = 20.0
"""Micrometres. Resolution tags of larger pixels are those for printing: 300 per inch are 85."""


class PixelSize(NamedTuple):
    """The size of a pixel in micrometres: height and width."""

    height: float
    width: float


def read_pixel_size(path: str | Path) -> PixelSize | None:
    """Read the size of a file's pixels.

    Args:
        path: an image. Only TIFF files tell it: those of OME and ImageJ in their metadata, others
            in their resolution tags, which are left out beyond `LARGEST_FROM_TAGS`.

    Returns:
        the size, or None if the file does not say it.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = Path(path)
    with explain_read_errors(path), path.open("rb") as stream:
        if not is_tiff(stream):
            return None
        stream.seek(0)
        with tifffile.TiffFile(stream, name=path.name) as tiff:
            if tiff.ome_metadata is not None:
                return _from_ome(tiff.ome_metadata)
            page = tiff.pages.first
            assert isinstance(page, tifffile.TiffPage)
            if tiff.imagej_metadata is not None:
                return _from_tags(page, _micrometres(tiff.imagej_metadata.get("unit")))
            unit = {2: "inch", 3: "cm"}.get(_tag(page, "ResolutionUnit"))
            size = _from_tags(page, _micrometres(unit))
            return None if size is None or max(size) > LARGEST_FROM_TAGS else size


def _from_ome(metadata: str) -> PixelSize | None:
    images = tifffile.xml2dict(metadata)["OME"].get("Image", {})
    pixels = (images[0] if isinstance(images, list) else images).get("Pixels", {})
    sides = []
    for axis in ("Y", "X"):
        length = pixels.get(f"PhysicalSize{axis}")
        unit = _micrometres(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if length is None or unit is None:
            return None
        sides.append(float(length) * unit)
    return _valid(*sides)


def _from_tags(page: tifffile.TiffPage, unit: float | None) -> PixelSize | None:
    per_unit = [_tag(page, name) for name in ("YResolution", "XResolution")]
    if unit is None or any(value is None or not value[0] or not value[1] for value in per_unit):
        return None
    return _valid(*(unit * value[1] / value[0] for value in per_unit))


def _tag(page: tifffile.TiffPage, name: str) -> Any:
    tag = page.tags.get(name)
    return None if tag is None else tag.value


def _micrometres(unit: Any) -> float | None:
    if not isinstance(unit, str):
        return None
    # ImageJ escapes the sign, which has two code points.
    name = unit.replace("\\u00B5", "µ").replace("μ", "µ").strip().lower()
    return MICROMETRES.get(name)


def _valid(height: float, width: float) -> PixelSize | None:
    is_size = all(math.isfinite(side) and side > 0 for side in (height, width))
    return PixelSize(height, width) if is_size else None
