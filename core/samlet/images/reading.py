"""Read an image file as RGB."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samlet.errors import UserError
from samlet.images.decoded_image import DEFAULT_MAX_PIXELS, ChannelKind
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
    if channels is None and kind == "pages":
        raise UserError(
            f"{path} holds {values.shape[2]} pages and does not tell what they are: choose up to "
            "three with channels= (--channels) if they are channels. If they are slices, save one "
            "as a file, or give `samlet everything` the whole stack with --axis z or --axis time."
        )
    values, channels = channels_to_show(values, kind, channels, str(path))
    return convert_to_rgb(values, channels, percentiles, str(path))


def channels_to_show(
    values: np.ndarray, kind: ChannelKind, channels: Sequence[int] | None, name: str
) -> tuple[np.ndarray, Sequence[int] | None]:
    """The values without opacity, and the channels that are to be scaled one by one.

    Raises:
        UserError: there are more channels than can be shown, and none was chosen.
    """
    if channels is None and kind == "colour+alpha":
        return drop_alpha(values), None
    if channels is None and kind == "channels":
        count = values.shape[2]
        if count > 3:
            raise channel_choice_error(name, count)
        return values, range(count)
    return values, channels
