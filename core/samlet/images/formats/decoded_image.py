"""What decoding a file gives: values as stored; which formats are read, and how large at most."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from samlet.errors import ImageTooLargeError, UserError

# 16 bits and four channels of this size still fit a laptop's memory; larger files are usually whole
# slides, which have to be tiled anyway, or attacks.
DEFAULT_MAX_PIXELS = 10_000 * 10_000

ChannelKind = Literal["colour", "colour+alpha", "channels", "pages"]


class DecodedImage(NamedTuple):
    """The values of a file, unscaled.

    Attributes:
        values: H x W, or H x W x C with the channels last, in the file's own dtype.
        kind: what the channels are: "colour" is grey or RGB, "colour+alpha" has opacity as its last
            channel, "channels" are separate signals (stains, detectors), and "pages" come from a
            file that does not say whether its pages are channels, slices or time points.
    """

    values: np.ndarray
    kind: ChannelKind


def check_size(path: Path, height: int, width: int, values: int, max_pixels: int) -> None:
    """Raise UserError where an image is empty or has more pixels than are decoded."""
    if height == 0 or width == 0:
        raise UserError(f"{path} is empty ({height} x {width} pixels): export it again.")
    pixels = max(height * width, values // 4)
    if pixels > max_pixels:
        raise ImageTooLargeError(
            f"{path} declares {height} x {width} pixels, and {pixels} are more than the limit of "
            f"{max_pixels}: crop or tile it",
            "raise the limit with max_pixels= in Python or --max-pixels on the command line",
        )


IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp",
    ".pgm", ".ppm", ".jp2", ".avif",
)  # fmt: skip
"""File name suffixes of the formats that are read, in lower case."""

MICROSCOPE_SUFFIXES = (".zarr", ".czi", ".nd2", ".lif")
"""Those of the formats that `samlet[formats]` reads; .zarr is a folder."""

IMAGE_FORMATS = "PNG, JPEG, TIFF, BMP, GIF, WebP, PGM and PPM, JPEG 2000, AVIF"
"""The formats that are read, as text for messages and help."""
