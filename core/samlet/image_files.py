"""Decoding image files: the values as stored, before any scaling.

Pillow decodes everything but TIFF. TIFF goes through tifffile, which knows scientific files (axes,
16-bit, float and packed samples, planar layouts, BigTIFF, pyramids), and with imagecodecs every
common compression. Pillow reads what is a matter of colours: palettes, CMYK and YCbCr.
"""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from samlet.errors import UserError

# 16 bits and four channels of this size still fit a laptop's memory; larger files are usually whole
# slides, which have to be tiled anyway, or attacks.
DEFAULT_MAX_PIXELS = 10_000 * 10_000

# Left out on purpose: formats that are programs (EPS), wrappers or too rare to be tested here.
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF")
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp",
    ".pgm", ".ppm", ".jp2", ".avif",
)  # fmt: skip

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
GDAL_NODATA = 42113
"""The tag in which GIS programs name the value that stands for no measurement."""

KINDS = "PNG, JPEG, TIFF, BMP, GIF, WebP, PGM and PPM, JPEG 2000, AVIF"
"""What is read, for people."""

Kind = Literal["colour", "colour+alpha", "channels", "pages"]


class Stored(NamedTuple):
    """The values of a file: H x W, or H x W x C with the channels last, in the file's own dtype.

    `kind` tells what the channels are: "colour" is grey or RGB, "colour+alpha" has opacity as its
    last channel, "channels" are separate signals (stains, detectors), and "pages" come from a file
    that does not tell whether its pages are channels, slices or times.
    """

    values: np.ndarray
    kind: Kind


def decode(
    path: str | Path,
    *,
    content: bytes | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    palette_indices: bool = False,
) -> Stored:
    """Read the first image of a file without changing its values.

    A JPEG, PNG or WebP is turned as its EXIF orientation says. A TIFF is left as stored, as ImageJ,
    napari and tifffile do. Of several TIFF series (a pyramid, a thumbnail) the first counts.

    Args:
        path: one of `KINDS`, recognised by content; of several frames the first.
        content: the file's bytes where it is no file of its own; `path` then only names it.
        max_pixels: limit on height x width (four values each), checked before anything is decoded.
        palette_indices: return the indices of a palette image (labels) instead of its colours.

    Raises:
        UserError: missing, not an image, damaged, too large, or of a layout that is not read.
    """
    path = Path(path)
    if content is None and path.is_dir():
        raise UserError(f"{path} is a folder: give one image file.")
    try:
        with path.open("rb") if content is None else BytesIO(content) as stream:
            if stream.read(4) in _TIFF_SIGNATURES:
                return _decode_tiff(path, stream, max_pixels, palette_indices)
            return _decode_pillow(path, stream, max_pixels, palette_indices)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the path.") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: check its permissions.") from error
    except (UserError, MemoryError):
        raise
    # Decoders of damaged files raise nearly anything: OSError, zlib.error, struct.error, KeyError.
    except Exception as error:
        raise UserError(
            f"{path} cannot be decoded ({error}): it is damaged, cut short or unusual; "
            "copy it again, or export it as PNG."
        ) from error


def _check_size(path: Path, height: int, width: int, values: int, max_pixels: int) -> None:
    if height == 0 or width == 0:
        raise UserError(f"{path} is empty ({height} x {width} pixels): export it again.")
    pixels = max(height * width, values // 4)
    if pixels > max_pixels:
        raise UserError(
            f"{path} declares {height} x {width} pixels, and {pixels} are more than the limit of "
            f"{max_pixels}: crop or tile it, or raise the limit with max_pixels= in Python or "
            "--max-pixels on the command line."
        )


def _decode_pillow(path: Path, stream: IO[bytes], max_pixels: int, palette_indices: bool) -> Stored:
    image = _open_pillow(path, stream, PILLOW_FORMATS)
    _check_size(path, image.height, image.width, 0, max_pixels)
    mode = image.tile[0][3] if image.format == "PNG" and image.tile else ""
    # Pillow keeps only the high byte of 16-bit colour. It has decoders for either byte order, and
    # the one for the wrong order yields the low bytes.
    if mode in ("RGB;16B", "RGBA;16B"):
        low = _open_pillow(path, stream, PILLOW_FORMATS)
        _set_raw_mode(low, mode.replace("16B", "16L"))
        high_bytes, low_bytes = (_upright(half).astype(np.uint16) for half in (image, low))
        kind: Kind = "colour" if mode == "RGB;16B" else "colour+alpha"
        return Stored(high_bytes << 8 | low_bytes, kind)
    if mode == "LA;16B":
        # Four bytes a pixel, as in 8-bit RGBA.
        _set_raw_mode(image, "RGBA")
        pixels = _upright(image).astype(np.uint16)
        return Stored(pixels[..., 0::2] << 8 | pixels[..., 1::2], "colour+alpha")
    return _from_pillow(image, palette_indices)


def _open_pillow(path: Path, stream: IO[bytes], formats: tuple[str, ...]) -> ImageFile.ImageFile:
    # Image.open has its own limit on the size, a global that other threads may be using.
    Image.init()
    stream.seek(0)
    prefix = stream.read(16)
    for name in formats:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(prefix) is True:
            stream.seek(0)
            return factory(stream, str(path))
    raise UserError(f"{path} is not an image that samlet reads ({KINDS}).")


def _set_raw_mode(image: ImageFile.ImageFile, mode: str) -> None:
    codec, extents, offset, _ = image.tile[0]
    image.tile = [(codec, extents, offset, mode)]  # type: ignore[list-item]


def _upright(image: Image.Image) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(image))


def _from_pillow(image: Image.Image, palette_indices: bool) -> Stored:
    # Upright first, since a conversion of colours forgets the orientation.
    image = ImageOps.exif_transpose(image)
    plain = image.mode in ("1", "L", "LA", "RGB", "RGBA", "I", "F") or image.mode.startswith("I;16")
    if not plain and not (image.mode == "P" and palette_indices):
        image = image.convert("RGB")
    kind: Kind = "colour+alpha" if image.mode in ("LA", "RGBA") else "colour"
    return Stored(np.asarray(image), kind)


class _Series(NamedTuple):
    """What of a file is read: its axes and shape, a page that tells the rest, and the values."""

    axes: str
    shape: tuple[int, ...]
    page: tifffile.TiffPage
    load: Callable[[], np.ndarray]


def _decode_tiff(path: Path, stream: IO[bytes], max_pixels: int, palette_indices: bool) -> Stored:
    stream.seek(0)
    with tifffile.TiffFile(stream, name=path.name) as tiff:
        axes, shape, page, load = _first_series(tiff)
        axes, shape = _spatial_axes(path, axes, shape)
        height, width = shape[axes.index("Y")], shape[axes.index("X")]
        _check_size(path, height, width, int(np.prod(shape)), max_pixels)
        plain = page.photometric in (
            tifffile.PHOTOMETRIC.MINISWHITE,
            tifffile.PHOTOMETRIC.MINISBLACK,
            tifffile.PHOTOMETRIC.RGB,
        )
        if plain and page.dtype is not None:
            values = load().reshape(shape)
            if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
                values = -values if values.dtype.kind == "f" else ~values
            values = _channels_last(_without_nodata(values, page), axes)
            return Stored(values, _kind(axes, shape, page))
        # Elsewhere Pillow would read one page of many, or drop the low byte of 16-bit colour.
        if len(axes) > 2 and (page.bitspersample != 8 or axes[-1] != "S"):
            kind = tifffile.PHOTOMETRIC(page.photometric).name
            raise UserError(
                f"{path} has colours of a kind that is not read ({kind}, {page.bitspersample} "
                "bits): export it as PNG, or as a TIFF in RGB or grey."
            )
    image = _open_pillow(path, stream, ("TIFF",))
    # Pillow turns a TIFF while it loads, unlike tifffile; the inverse orientation turns it back.
    turned = cast(TiffImageFile, image).tag_v2.get(ExifTags.Base.Orientation, 1)
    image.load()
    image.getexif()[ExifTags.Base.Orientation] = {6: 8, 8: 6}.get(turned, turned)
    stored = _from_pillow(image, palette_indices)
    # Pillow 13 scrambles uncompressed files that lie on their side.
    if stored.values.shape[:2] != (height, width):
        raise ValueError(f"orientation {turned}")
    return stored


def _first_series(tiff: tifffile.TiffFile) -> _Series:
    """The first series, as far as it lies in this very file.

    The metadata of an OME file can name planes in other files. tifffile reads those that it finds
    in the working folder, and fills the others with zeros; here they do not count.
    """
    series = tiff.series[0]
    whole = _Series(series.axes, series.shape, series.keyframe, series.asarray)
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
    varying = "".join(
        axis
        for axis, index in zip(series.axes, where, strict=False)
        if len(set(index.tolist())) > 1
    )
    axes = varying + series.axes[leading:]
    # Along several axes what is there need not be a whole block; such a stack is refused anyhow.
    shape = (len(own),) + (1,) * (len(varying) - 1) if varying else ()
    return _Series(
        axes,
        shape + pages[0].shape,
        pages[0],
        lambda: np.stack([page.asarray() for page in pages]),
    )


def _without_nodata(values: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """Values that a GIS program marks as missing, as NaN; 8-bit images are left as they are."""
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


def _spatial_axes(path: Path, axes: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Keep the axes that matter: Y, X and at most one of C, S (samples), I or Q (not told)."""
    kept = [(a, n) for a, n in zip(axes, shape, strict=True) if n != 1 or a in "YX"]
    axes, shape = "".join(a for a, _ in kept), tuple(n for _, n in kept)
    if axes == "QYX" and shape[2] < shape[0]:
        # tifffile labels any three unnamed dimensions so, channels last included.
        axes = "YXQ"
    extra = set(axes) - set("YX")
    if not set("YX") <= set(axes) or len(axes) > 3 or not extra <= set("CSIQ"):
        sizes = " x ".join(map(str, shape))
        raise UserError(
            f"{path} is a stack (axes {axes}, {sizes}): save the one slice to segment as a file."
        )
    return axes, shape


def _channels_last(values: np.ndarray, axes: str) -> np.ndarray:
    order = "YX" + axes.replace("Y", "").replace("X", "")
    return values.transpose([axes.index(axis) for axis in order])


def _kind(axes: str, shape: tuple[int, ...], page: tifffile.TiffPage) -> Kind:
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
