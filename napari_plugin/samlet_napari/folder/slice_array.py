"""The slices of a file as one array, of which those that are looked at are read."""

import threading
import weakref
from collections.abc import Sequence
from typing import Any

import dask.array
import numpy as np

from samlet.images import ImageFile
from samlet.images.formats.decoded_image import ChannelKind, DecodedImage


def read_slices(file: ImageFile) -> tuple[Any, ChannelKind, list[str]]:
    """Make an array of the slices of a file, which stays open as long as the array is used.

    Args:
        file: of which several slices are meant.

    Returns:
        T x Z x H x W, or T x Z x H x W x C, without the axis that the file does not have; what its
        channels are, see `DecodedImage`; and "T" and "Z", as far as it has them. Any thread may
        read it.

    Raises:
        UserError: the first slice cannot be read. Others raise it where they are read.
    """
    axes = file.slice_axes(None, are_pages_slices=True)
    counts = [len(file.numbers[axis]) for axis in axes]
    slices = _Slices(file, axes)
    values, kind = slices.read((0,) * len(axes))

    def read_block(block_id: tuple[int, ...]) -> np.ndarray:
        values = slices.read(block_id[: len(axes)]).values
        return values[(np.newaxis,) * len(axes)]

    array = dask.array.map_blocks(
        read_block,
        chunks=(*((1,) * count for count in counts), *((length,) for length in values.shape)),
        dtype=values.dtype,
        meta=np.empty((0,) * (len(axes) + values.ndim), values.dtype),
    )
    return array, kind, axes


class _Slices:
    """Reads slices for any thread, and closes the file once nobody can ask for more."""

    def __init__(self, file: ImageFile, axes: Sequence[str]) -> None:
        self._file = file
        self._axes = axes
        self._lock = threading.Lock()
        self._latest: tuple[tuple[int, ...], DecodedImage] | None = None
        weakref.finalize(self, file.close)

    def read(self, place: tuple[int, ...]) -> DecodedImage:
        """A slice, by its number along each axis."""
        with self._lock:
            # Its channels are asked for one by one.
            if self._latest is None or self._latest[0] != place:
                index = dict(zip(self._axes, place, strict=True))
                self._latest = place, self._file.decode(index)
            return self._latest[1]
