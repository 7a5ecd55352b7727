"""What is read of a file: an array with named axes, of which planes are read one by one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from samlet.errors import UserError
from samlet.images.formats.decoded_image import ChannelKind, DecodedImage
from samlet.images.formats.pixel_size import PixelSize


class Planes(Protocol):
    """One image or stack in a file that is open.

    Axes are the letters of OME and tifffile: "Y" and "X"; "T" and "Z" of slices; "C" of channels
    and "S" of samples, such as red, green and blue; "I" and "Q" of pages of unknown meaning.
    """

    @property
    def axes(self) -> str:
        """A letter for each axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """A length for each axis."""

    @property
    def series_count(self) -> int:
        """How many images or stacks the file has."""

    @property
    def pixel_size(self) -> PixelSize | None:
        """Of this one; None if the file does not say it."""

    def decode(self, index: Mapping[str, int]) -> DecodedImage:
        """The values of a plane.

        Args:
            index: of the plane along each axis of slices that is longer than 1.
        """

    def close(self) -> None:
        """Release the file."""


class ArrayPlanes:
    """Planes of an array that is read where it is indexed: of a Zarr, or mapped to memory.

    Args:
        axes: see `Planes`.
        array: the values.
        series_count: see there.
        pixel_size: see there.
    """

    def __init__(
        self, axes: str, array: Any, series_count: int, pixel_size: PixelSize | None
    ) -> None:
        self.axes = axes
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.series_count = series_count
        self.pixel_size = pixel_size
        self._array = array

    def decode(self, index: Mapping[str, int]) -> DecodedImage:
        """See `Planes`."""
        lengths = dict(zip(self.axes, self.shape, strict=True))
        chosen = [
            index.get(axis, slice(None) if n > 1 or axis in "YX" else 0)
            for axis, n in lengths.items()
        ]
        left = "".join(
            axis for axis, part in zip(self.axes, chosen, strict=True) if isinstance(part, slice)
        )
        # A view of a mapped file is copied, since the file may be closed before it is used; what is
        # read of a Zarr is a copy already.
        read = np.array if isinstance(self._array, np.ndarray) else np.asarray
        return with_channels(read(self._array[tuple(chosen)]), left)

    def close(self) -> None:
        """Nothing is held open."""


def with_channels(values: np.ndarray, axes: str) -> DecodedImage:
    """A plane in which channels and samples are the last axis.

    Args:
        values: of the plane.
        axes: "Y" and "X", and any of "C" and "S", in the order of the values.
    """
    order = "YX" + "".join(axis for axis in "CS" if axis in axes)
    values = values.transpose([axes.index(axis) for axis in order])
    if order == "YX":
        return DecodedImage(values, "colour")
    if order == "YXS":
        kinds: dict[int, ChannelKind] = {3: "colour", 4: "colour+alpha"}
        return DecodedImage(values, kinds.get(values.shape[2], "channels"))
    return DecodedImage(values.reshape(*values.shape[:2], -1), "channels")


def check_series(path: Path, series: int | None, count: int) -> int:
    """The number of the series that is read; the first one if none is named.

    Raises:
        UserError: there are fewer.
    """
    if series is not None and series >= count:
        raise UserError(f"{path} has no series {series}: it has {count}, counted from 0.")
    return series or 0


def without_single(axes: str, shape: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Axes and shape without those of length 1 other than Y and X."""
    kept = [(a, n) for a, n in zip(axes, shape, strict=True) if n != 1 or a in "YX"]
    return "".join(a for a, _ in kept), tuple(n for _, n in kept)
