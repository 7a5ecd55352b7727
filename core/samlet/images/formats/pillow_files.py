"""All files but TIFF, and the colours of TIFF, as Pillow decodes them.

16-bit colour PNGs are decoded with Pillow, too, as torchvision's decoder (0.29) crashes the process
where a file is cut short, and imagecodecs ignores the EXIF orientation.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, ImageOps

from samlet.errors import UserError
from samlet.images.formats.decoded_image import (
    IMAGE_FORMATS,
    MICROSCOPE_SUFFIXES,
    ChannelKind,
    DecodedImage,
)

PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of the formats that are read: no programs (EPS), no wrappers, nothing untested."""


class PillowPlanes:
    """An image that Pillow reads; see `samlet.images.formats.planes.Planes`.

    Args:
        path: its name.
        stream: the file, which stays open.
        palette_indices: see `samlet.images.decoding.decode`.
    """

    axes = "YX"
    series_count = 1
    pixel_size = None

    def __init__(self, path: Path, stream: IO[bytes], palette_indices: bool) -> None:
        image = open_pillow(path, stream, PILLOW_FORMATS)
        self.shape = (image.height, image.width)
        self._path = path
        self._stream = stream
        self._palette_indices = palette_indices

    def decode(self, index: Mapping[str, int]) -> DecodedImage:
        """See `Planes`."""
        return _decode(self._path, self._stream, self._palette_indices)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _decode(path: Path, stream: IO[bytes], palette_indices: bool) -> DecodedImage:
    image = open_pillow(path, stream, PILLOW_FORMATS)
    mode = image.tile[0][3] if image.format == "PNG" and image.tile else ""
    # Pillow keeps only the high byte of 16-bit colour: decoded as little-endian, the low byte.
    if mode in ("RGB;16B", "RGBA;16B"):
        low = open_pillow(path, stream, PILLOW_FORMATS)
        _set_raw_mode(low, mode.replace("16B", "16L"))
        high_bytes, low_bytes = (_upright(half).astype(np.uint16) for half in (image, low))
        kind: ChannelKind = "colour" if mode == "RGB;16B" else "colour+alpha"
        return DecodedImage(high_bytes << 8 | low_bytes, kind)
    if mode == "LA;16B":
        # Four bytes per pixel, as in 8-bit RGBA.
        _set_raw_mode(image, "RGBA")
        pixels = _upright(image).astype(np.uint16)
        return DecodedImage(pixels[..., 0::2] << 8 | pixels[..., 1::2], "colour+alpha")
    return from_pillow(image, palette_indices)


def open_pillow(path: Path, stream: IO[bytes], formats: tuple[str, ...]) -> ImageFile.ImageFile:
    """Open an image of one of these formats of Pillow's without loading it, or raise UserError."""
    # Image.open has its own limit on the size, a global that other threads may be using.
    Image.init()
    stream.seek(0)
    prefix = stream.read(16)
    for name in formats:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(prefix) is True:
            stream.seek(0)
            return factory(stream, str(path))
    if path.suffix.lower() in MICROSCOPE_SUFFIXES:
        kind = path.suffix[1:].upper()
        raise UserError(f"{path} does not begin as a {kind} file does: copy it again.")
    raise UserError(f"{path} is not an image that samlet reads ({IMAGE_FORMATS}).")


def _set_raw_mode(image: ImageFile.ImageFile, mode: str) -> None:
    codec, extents, offset, _ = image.tile[0]
    image.tile = [(codec, extents, offset, mode)]  # type: ignore[list-item]


def _upright(image: Image.Image) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(image))


def from_pillow(image: Image.Image, palette_indices: bool) -> DecodedImage:
    """Values and kind of an image that Pillow has loaded, upright."""
    # Upright first, since a conversion of colours forgets the orientation.
    image = ImageOps.exif_transpose(image)
    plain = image.mode in ("1", "L", "LA", "RGB", "RGBA", "I", "F") or image.mode.startswith("I;16")
    if not plain and not (image.mode == "P" and palette_indices):
        image = image.convert("RGB")
    kind: ChannelKind = "colour+alpha" if image.mode in ("LA", "RGBA") else "colour"
    return DecodedImage(np.asarray(image), kind)
