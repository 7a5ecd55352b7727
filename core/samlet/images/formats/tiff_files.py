"""Decoding TIFF files with tifffile: axes, samples, and values that mark missing data."""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
import tifffile
from PIL import ExifTags
from PIL.TiffImagePlugin import TiffImageFile

from samlet.errors import UserError
from samlet.images.formats.decoded_image import ChannelKind, DecodedImage
from samlet.images.formats.pillow_files import from_pillow, open_pillow

GDAL_NODATA = 42113
"""The tag in which GIS programs store the value that marks missing data."""


class Series(NamedTuple):
    """A series of a file.

    Attributes:
        axes: tifffile's letters.
        shape: a length per axis.
        page: a page for other metadata.
        load: gives all values.
        page_count: number of pages.
        load_page: gives the values of one page.
    """

    axes: str
    shape: tuple[int, ...]
    page: tifffile.TiffPage
    load: Callable[[], np.ndarray]
    page_count: int
    load_page: Callable[[int], np.ndarray]


def open_series(path: Path, tiff: tifffile.TiffFile, number: int) -> Series:
    """A series, without planes in other files.

    The metadata of an OME file can refer to planes in other files. tifffile reads those that it
    finds in the working folder, and fills the others with zeros; here they are left out.

    Raises:
        UserError: the planes in this file are no block of the series.
    """
    series = tiff.series[number]
    whole = Series(
        series.axes,
        series.shape,
        series.keyframe,
        series.asarray,
        len(series),
        lambda number: cast(tifffile.TiffPage, series[number]).asarray(),
    )
    if series.kind != "ome":
        return whole
    own = [i for i, page in enumerate(series) if page is not None and page.parent is tiff]
    if not own or len(own) == len(series):
        return whole
    pages = [
        cast(tifffile.TiffPage, tiff.pages[cast(tifffile.TiffPage, series[i]).index]) for i in own
    ]
    leading = len(series.axes) - len(pages[0].shape)
    where = np.unravel_index(own, series.shape[:leading])
    lengths = {
        axis: count
        for axis, index in zip(series.axes, where, strict=False)
        if (count := len(set(index.tolist()))) > 1
    }
    if prod(lengths.values()) != len(own):
        raise UserError(
            f"{path} has some planes of a series of {len(series)} planes, which has the rest in "
            "other files: join them to one file, as Fiji does."
        )
    return Series(
        "".join(lengths) + series.axes[leading:],
        (*lengths.values(), *pages[0].shape),
        pages[0],
        lambda: np.stack([page.asarray() for page in pages]),
        len(pages),
        lambda number: pages[number].asarray(),
    )


def read_colours(
    path: Path, stream: IO[bytes], size: tuple[int, int], palette_indices: bool
) -> DecodedImage:
    """Read a TIFF whose colours must be converted with Pillow.

    Args:
        path: its name.
        stream: the file.
        size: height and width in pixels.
        palette_indices: see `samlet.images.decoding.decode`.
    """
    image = open_pillow(path, stream, ("TIFF",))
    # Pillow turns a TIFF while it loads, unlike tifffile; the inverse orientation turns it back.
    turned = cast(TiffImageFile, image).tag_v2.get(ExifTags.Base.Orientation, 1)
    image.load()
    image.getexif()[ExifTags.Base.Orientation] = {6: 8, 8: 6}.get(turned, turned)
    stored = from_pillow(image, palette_indices)
    # Pillow 13 scrambles uncompressed files that lie on their side.
    if stored.values.shape[:2] != size:
        raise ValueError(f"orientation {turned}")
    return stored


def is_plain(page: tifffile.TiffPage) -> bool:
    """Whether the samples of a page are grey or RGB, so that no colours must be converted."""
    photometric = (
        tifffile.PHOTOMETRIC.MINISWHITE,
        tifffile.PHOTOMETRIC.MINISBLACK,
        tifffile.PHOTOMETRIC.RGB,
    )
    return page.photometric in photometric and page.dtype is not None


def colour_error(path: Path, page: tifffile.TiffPage) -> UserError:
    """The error for a file whose colours cannot be converted."""
    kind = tifffile.PHOTOMETRIC(page.photometric).name
    return UserError(
        f"{path} has colours of a kind that is not read ({kind}, {page.bitspersample} "
        "bits): export it as PNG, or as a TIFF in RGB or grey."
    )


def as_stored(values: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """Values of plain pages with white as the highest, and NaN where data is missing."""
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        values = -values if values.dtype.kind == "f" else ~values
    return _without_nodata(values, page)


def _without_nodata(values: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """Replace values that a GIS program marks as missing by NaN, except in 8-bit images."""
    tag = page.tags.get(GDAL_NODATA)
    if tag is None or values.dtype == np.uint8:
        return values
    try:
        missing = values == float(str(tag.value).strip("\0 "))
    except ValueError:
        return values
    if not missing.any():
        return values
    return np.where(missing, np.nan, values.astype(np.promote_types(values.dtype, np.float32)))


def channels_last(values: np.ndarray, axes: str) -> np.ndarray:
    """Values with the axes Y and X first."""
    order = "YX" + axes.replace("Y", "").replace("X", "")
    return values.transpose([axes.index(axis) for axis in order])


def kind_of(axes: str, shape: tuple[int, ...], page: tifffile.TiffPage) -> ChannelKind:
    """What the channels of an image with these axes are."""
    if len(axes) == 2:
        return "colour"
    if set(axes) & set("IQ"):
        return "pages"
    samples = shape[axes.index("S")] if "S" in axes else 0
    colours = 3 if page.photometric == tifffile.PHOTOMETRIC.RGB else 1
    if samples == colours:
        return "colour"
    if samples == colours + 1 and all(extra in (1, 2) for extra in page.extrasamples):
        return "colour+alpha"
    return "channels"
