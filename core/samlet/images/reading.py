"""Read an image file, or a slice of a stack, as RGB."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samlet.errors import UserError
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS
from samlet.images.image_file import open_image
from samlet.images.rgb import PERCENTILES, convert_to_rgb
from samlet.images.scaling import channels_to_show
from samlet.images.slice_paths import slice_path


def read(
    path: str | Path,
    *,
    content: bytes | None = None,
    channels: Sequence[int] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> np.ndarray:
    """Read an image file, or a slice of a stack, as RGB.

    Opacity is dropped, and fully transparent pixels become black (their stored colour is
    arbitrary), unless all pixels are transparent. EXIF orientation is applied to all formats but
    TIFF, which is read as stored, as in ImageJ and napari. See `to_rgb` for scaling beyond 8 bit;
    all slices of a file are scaled alike, by the percentiles of all of them (64 if there are more).

    Axes follow the file's metadata. If a third axis of a TIFF is not named there, the shorter one
    of the first and last is taken for channels, and `channels` must confirm that it is not slices.

    Args:
        path: an image of a format that samlet reads; of several frames the first. Of a stack, the
            path of a slice: see `slice_path`.
        content: the file's bytes, if they are in memory (a member of a tar file); `path` is then
            only its name in messages.
        channels: 1 to 3 channels of the file to show, counted from 0: see `to_rgb`.
        percentiles: (low, high), each 0 to 100, of the values that become black and full intensity.
        max_pixels: the largest height x width to decode; more than 4 channels count as more pixels.

    Returns:
        uint8, H x W x 3, contiguous, 0 to 255.

    Raises:
        UserError: the file is missing, not an image, damaged, too large, a stack of which no slice
            is named, or has channels that must be chosen.
    """
    with open_image(path, content=content, max_pixels=max_pixels) as file:
        if channels is None and file.holds_channels:
            raise UserError(
                f"{path} holds {file.lengths['Z']} pages and does not tell what they are: choose "
                "up to three with channels= (--channels) if they are channels, or one with --slice "
                f"or as {slice_path(Path(path).name, z=0)} if they are slices."
            )
        values, shown = channels_to_show(file.decode(), channels, str(path))
        is_slice = bool(file.lengths) and not file.holds_channels
        limits = file.limits(channels, percentiles) if is_slice else None
    return convert_to_rgb(values, shown, percentiles, str(path), limits)
