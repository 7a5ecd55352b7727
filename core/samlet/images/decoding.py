"""Decoding image files to the values that they store, without any scaling.

Pillow decodes everything but TIFF. TIFF goes through tifffile, which knows scientific files (axes,
16-bit, float and packed samples, planar layouts, BigTIFF, pyramids), and with imagecodecs every
common compression. Pillow reads the TIFFs whose colours must be converted: palettes, CMYK, YCbCr.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

from samlet.errors import UserError
from samlet.images.decoded_image import DEFAULT_MAX_PIXELS, DecodedImage
from samlet.images.pillow_files import decode_pillow
from samlet.images.tiff_files import decode_tiff

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def decode(
    path: str | Path,
    *,
    content: bytes | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    palette_indices: bool = False,
) -> DecodedImage:
    """Read the first image of a file without changing its values.

    The EXIF orientation is applied to JPEG, PNG and WebP. A TIFF is read as stored, as ImageJ,
    napari and tifffile do; of several TIFF series (a pyramid, a thumbnail) the first is read.

    Args:
        path: a file of one of `samlet.images.decoded_image.IMAGE_FORMATS`, recognised by its
            content; of several frames the first.
        content: the file's bytes, if they are in memory; `path` is then only its name in messages.
        max_pixels: limit on height x width (four values each), checked before anything is decoded.
        palette_indices: return the indices of a palette image (labels) instead of its colours.

    Raises:
        UserError: missing, not an image, damaged, too large, or of a layout that is not read.
    """
    path = Path(path)
    if content is None and path.is_dir():
        raise UserError(f"{path} is a folder: give one image file.")
    with (
        explain_read_errors(path),
        path.open("rb") if content is None else BytesIO(content) as stream,
    ):
        if is_tiff(stream):
            return decode_tiff(path, stream, max_pixels, palette_indices)
        return decode_pillow(path, stream, max_pixels, palette_indices)


def is_tiff(stream: IO[bytes]) -> bool:
    """Whether a file that is read from its start is a TIFF."""
    return stream.read(4) in _TIFF_SIGNATURES


@contextmanager
def explain_read_errors(path: Path) -> Iterator[None]:
    """Turn what a decoder raises into a UserError with one sentence.

    Raises:
        UserError: in place of all exceptions but a MemoryError.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the path.") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: check its permissions.") from error
    except (UserError, MemoryError):
        raise
    # On damaged files decoders raise nearly anything: OSError, zlib.error, struct.error, KeyError.
    except Exception as error:
        raise UserError(
            f"{path} cannot be decoded ({error}): it is damaged, cut short or unusual; "
            "copy it again, or export it as PNG."
        ) from error
