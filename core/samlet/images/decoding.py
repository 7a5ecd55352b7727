"""Decoding image files to the values that they store, without any scaling.

Pillow decodes everything but TIFF, OME-Zarr and the files of microscopes. TIFF goes through
tifffile, which knows scientific files (axes, 16-bit, float and packed samples, planar layouts,
BigTIFF, pyramids), and with imagecodecs every common compression. Pillow reads the TIFFs whose
colours must be converted: palettes, CMYK, YCbCr.
"""

from pathlib import Path

from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS, DecodedImage
from samlet.images.image_file import open_image


def decode(
    path: str | Path,
    *,
    content: bytes | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    palette_indices: bool = False,
) -> DecodedImage:
    """Read an image, or a slice of a stack, without changing its values.

    The EXIF orientation is applied to JPEG, PNG and WebP. A TIFF is read as stored, as ImageJ,
    napari and tifffile do; of several TIFF series (a pyramid, a thumbnail) the first is read.

    Args:
        path: a file of a format that samlet reads, recognised by its content; of several frames
            the first. Or a slice, see `samlet.images.slice_path`.
        content: the file's bytes, if they are in memory; `path` is then only its name in messages.
        max_pixels: limit on height x width (four values each), checked before anything is decoded.
        palette_indices: return the indices of a palette image (labels) instead of its colours.

    Raises:
        UserError: missing, not an image, damaged, too large, or of a layout that is not read; or a
            stack of which no slice is named.
    """
    with open_image(
        path, content=content, max_pixels=max_pixels, palette_indices=palette_indices
    ) as file:
        return file.decode()
