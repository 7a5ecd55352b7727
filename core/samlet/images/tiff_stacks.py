"""The slices of TIFF files, page by page."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import tifffile

from samlet.errors import UserError
from samlet.images.decoded_image import DecodedImage, check_size
from samlet.images.tiff_files import (
    as_stored,
    channels_last,
    colour_error,
    first_series,
    is_plain,
    kind_of,
    without_single,
)

_UNKNOWN = "IQ"
"""tifffile's letters for pages of which the file does not tell what they are."""


class TiffStack:
    """A TIFF of which `has_slices` holds; one slice is in memory at a time.

    Args:
        path: the file, which stays open.
        max_pixels: see `samlet.images.read`.

    Attributes:
        axis: tifffile's letter for the axis of slices.

    Raises:
        UserError: a slice is empty or too large, the colours are not read, or several slices are
            in one page.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self._tiff = tifffile.TiffFile(path)
        try:
            series = self._series = first_series(self._tiff)
            self.axis = _slice_axes(without_single(series.axes, series.shape)[0])
            leading = len(series.axes) - len(series.page.shape)
            if self.axis not in series.axes[:leading]:
                raise UserError(
                    f"{path} has several slices in one page: save it with a page for each slice, "
                    "as Fiji does."
                )
            if not is_plain(series.page):
                raise colour_error(path, series.page)
            self._page_axes, self._page_shape = without_single(
                series.axes[leading:], series.shape[leading:]
            )
            sides = dict(zip(self._page_axes, self._page_shape, strict=True))
            # For each slice its pages, of which there are several if the channels are apart.
            pages = np.arange(series.page_count).reshape(series.shape[:leading])
            slices = np.moveaxis(pages, series.axes.index(self.axis), 0)
            self._pages = slices.reshape(len(slices), -1)
            values = self._pages.shape[1] * int(np.prod(self._page_shape))
            check_size(path, sides["Y"], sides["X"], values, max_pixels)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._pages)

    def decode(self, number: int) -> DecodedImage:
        """Decode a slice without scaling."""
        page, shape, axes = self._series.page, self._page_shape, self._page_axes
        planes = [
            channels_last(as_stored(self._series.load_page(i).reshape(shape), page), axes)
            for i in self._pages[number].tolist()
        ]
        if len(planes) > 1:
            return DecodedImage(np.stack(planes, axis=-1), "channels")
        return DecodedImage(planes[0], kind_of(axes, shape, page))

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()


def has_slices(
    path: Path, stream: IO[bytes], are_pages_slices: bool, channels: Sequence[int] | None
) -> bool:
    """Whether a TIFF has one axis of slices, and at most one of channels or colours.

    Args:
        path: its name.
        stream: the file.
        are_pages_slices: whether pages of unknown meaning are slices for sure.
        channels: chosen by the user, for whom such pages are channels otherwise.
    """
    stream.seek(0)
    with tifffile.TiffFile(stream, name=path.name) as tiff:
        series = first_series(tiff)
        axes, shape = without_single(series.axes, series.shape)
    slices = _slice_axes(axes)
    if len(slices) != 1 or len(axes) > 4 or not set("YX") <= set(axes):
        return False
    if slices not in _UNKNOWN or are_pages_slices:
        return slices in "ZT" + _UNKNOWN
    # As in `samlet.images.read`, the shorter of two unnamed axes holds channels.
    return channels is None and not (axes == "QYX" and shape[2] < shape[0])


def _slice_axes(axes: str) -> str:
    return "".join(axis for axis in axes if axis not in "YXCS")
