"""Read an image file as RGB."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samlet.errors import UserError
from samlet.images.decoded_image import DEFAULT_MAX_PIXELS
from samlet.images.decoding import decode
from samlet.images.rgb import PERCENTILES, channel_choice_error, convert_to_rgb, drop_alpha


def read(
    path: str | Path,
    *,
    content: bytes | None = None,
    channels: Sequence[int] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> np.ndarray:
    """Read an image file as RGB.

    Opacity is dropped, and fully transparent pixels become black (their stored colour is
    arbitrary), unless all pixels are transparent. EXIF orientation is applied to all formats but
    TIFF, which is read as stored, as in ImageJ and napari. See `to_rgb` for scaling beyond 8 bit.

    TIFF axes follow the file's metadata. If a third axis is not named there, the shorter one of the
    first and last is taken for channels, and `channels` must confirm that it is not slices.

    Args:
        path: an image of one of `samlet.images.decoded_image.IMAGE_FORMATS`; of several frames the
            first.
        content: the file's bytes, if they are in memory (a member of a tar file); `path` is then
            only its name in messages.
        channels: 1 to 3 channels of the file to show, counted from 0: see `to_rgb`.
        percentiles: (low, high), each 0 to 100, of the values that become black and full intensity.
        max_pixels: the largest height x width to decode; more than 4 channels count as more pixels.

    Returns:
        uint8, H x W x 3, contiguous, 0 to 255.

    Raises:
        UserError: the file is missing, not an image, damaged, too large, a stack of slices, or has
            channels that must be chosen.
    """
    values, kind = decode(path, content=content, max_pixels=max_pixels)
    if channels is None:
        count = values.shape[2] if values.ndim == 3 else 1
        if kind == "pages":
            raise UserError(
                f"{path} holds {count} pages and does not tell what they are: choose up to three "
                "with channels= (--channels) if they are channels, or save one slice as a file."
            )
        if kind == "colour+alpha":
            values = drop_alpha(values)
        elif kind == "channels":
            if count > 3:
                raise channel_choice_error(str(path), count)
            channels = range(count)
    return convert_to_rgb(values, channels, percentiles, str(path))
