"""TIFF files: whole images, and the slices of stacks page by page."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import tifffile

from samlet.errors import UserError
from samlet.images.formats.decoded_image import DecodedImage
from samlet.images.formats.pixel_size import PixelSize, size_in_tiff
from samlet.images.formats.planes import check_series, without_single
from samlet.images.formats.tiff_files import (
    as_stored,
    channels_last,
    colour_error,
    is_plain,
    kind_of,
    open_series,
    read_colours,
)


class TiffPlanes:
    """A series of a TIFF; see `samlet.images.formats.planes.Planes`.

    Args:
        path: its name.
        stream: the file, which stays open.
        series: counted from 0; None for the first. Only OME tells series from thumbnails.
        palette_indices: see `samlet.images.decoding.decode`.
    """

    def __init__(
        self, path: Path, stream: IO[bytes], series: int | None, palette_indices: bool
    ) -> None:
        self._path = path
        self._stream = stream
        self._palette_indices = palette_indices
        stream.seek(0)
        self._tiff = tifffile.TiffFile(stream, name=path.name)
        self.series_count = len(self._tiff.series) if self._tiff.is_ome else 1
        self._number = check_series(path, series, self.series_count)
        self._series = open_series(path, self._tiff, self._number)
        self.axes, self.shape = without_single(self._series.axes, self._series.shape)

    @cached_property
    def pixel_size(self) -> PixelSize | None:
        """See `Planes`."""
        return size_in_tiff(self._tiff, self._number)

    def decode(self, index: Mapping[str, int]) -> DecodedImage:
        """See `Planes`."""
        return self._decode_slice(index) if index else self._decode_whole()

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()
        self._stream.close()

    def _decode_whole(self) -> DecodedImage:
        axes, shape = self.axes, self.shape
        if axes == "QYX" and shape[2] < shape[0]:
            # tifffile labels any three unnamed dimensions so, channels last included.
            axes = "YXQ"
        page = self._series.page
        if is_plain(page):
            values = channels_last(as_stored(self._series.load().reshape(shape), page), axes)
            return DecodedImage(values, kind_of(axes, shape, page))
        # Elsewhere Pillow would read one page of many, or drop the low byte of 16-bit colour.
        if len(axes) > 2 and (page.bitspersample != 8 or axes[-1] != "S"):
            raise colour_error(self._path, page)
        size = shape[axes.index("Y")], shape[axes.index("X")]
        return read_colours(self._path, self._stream, size, self._palette_indices)

    def _decode_slice(self, index: Mapping[str, int]) -> DecodedImage:
        series = self._series
        leading = len(series.axes) - len(series.page.shape)
        if not {*index} <= {*series.axes[:leading]}:
            raise UserError(
                f"{self._path} has several slices in one page: save it with a page for each slice, "
                "as Fiji does."
            )
        if not is_plain(series.page):
            raise colour_error(self._path, series.page)
        axes, shape = without_single(series.axes[leading:], series.shape[leading:])
        # The pages of the slice, of which there are several if the channels are apart.
        pages = np.arange(series.page_count).reshape(series.shape[:leading])
        own = pages[tuple(index.get(axis, slice(None)) for axis in series.axes[:leading])]
        planes = [
            channels_last(as_stored(series.load_page(i).reshape(shape), series.page), axes)
            for i in own.ravel().tolist()
        ]
        if len(planes) == 1:
            return DecodedImage(planes[0], kind_of(axes, shape, series.page))
        join = np.stack if planes[0].ndim == 2 else np.concatenate
        return DecodedImage(join(planes, axis=-1), "channels")
