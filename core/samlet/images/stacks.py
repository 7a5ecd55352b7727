"""Stacks of slices, along z or time, as RGB, one slice at a time."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, cast

import numpy as np

from samlet.errors import UserError
from samlet.images.decoded_image import DEFAULT_MAX_PIXELS, DecodedImage
from samlet.images.decoding import explain_read_errors, is_tiff
from samlet.images.reading import channels_to_show
from samlet.images.rgb import (
    PERCENTILES,
    Limits,
    check_percentiles,
    convert_to_rgb,
    find_limits,
    scaled_parts,
    select_channels,
)
from samlet.images.tiff_stacks import TiffStack, has_slices

SliceAxis = Literal["z", "time"]
"""What the slices of a stack are."""

SAMPLED_VALUES = 1 << 24
"""Values of a stack from which its percentiles are taken: of larger stacks every n-th value."""


class ImageStack:
    """Slices of one size, read when they are asked for, and scaled alike.

    8-bit slices are as `samlet.images.to_rgb` gives them. Of other stacks the percentiles are taken
    over all slices, so that a slice in which there is nothing stays dark. The first slice that is
    asked for therefore takes as long as reading all of them.

    Args:
        name: for messages.
        decode: gives a slice's values.
        count: number of slices.
        axis: what they are.
        is_axis_known: whether that was given by the user or the file, and is not a guess.
        channels: see `samlet.images.read`.
        percentiles: see there.
        close: releases what `decode` needs.

    Attributes:
        axis: what the slices are.
        is_axis_known: whether that is no guess.
        close: releases the file.
    """

    def __init__(
        self,
        name: str,
        decode: Callable[[int], DecodedImage],
        count: int,
        axis: SliceAxis = "z",
        is_axis_known: bool = True,
        *,
        channels: Sequence[int] | None = None,
        percentiles: tuple[float, float] = PERCENTILES,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        check_percentiles(percentiles)
        self.axis = axis
        self.is_axis_known = is_axis_known
        self.close = close
        self._name = name
        self._decode = decode
        self._count = count
        self._channels = channels
        self._percentiles = percentiles

    @classmethod
    def from_array(cls, array: np.ndarray) -> "ImageStack":
        """The slices of an array.

        Args:
            array: N x H x W, or N x H x W x C as `samlet.images.to_rgb` takes H x W x C.

        Raises:
            UserError: another number of axes, or no slice.
        """
        if array.ndim not in (3, 4) or len(array) == 0:
            raise UserError(
                f"The stack is of shape {array.shape}: give N x H x W or N x H x W x C, not empty."
            )
        return cls("The stack", lambda number: DecodedImage(array[number], "colour"), len(array))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a slice."""
        height, width = self._decode(0).values.shape[:2]
        return height, width

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> np.ndarray:
        """A slice: RGB uint8, H x W x 3.

        Raises:
            IndexError: there are fewer slices.
            UserError: see `open_stack`.
        """
        if not 0 <= number < self._count:
            raise IndexError(number)
        values, channels = self._shown(number)
        return convert_to_rgb(values, channels, self._percentiles, self._name, self._limits)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(self._count))

    def __enter__(self) -> "ImageStack":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _shown(self, number: int) -> tuple[np.ndarray, Sequence[int] | None]:
        values, kind = self._decode(number)
        return channels_to_show(values, kind, self._channels, self._name)

    @cached_property
    def _limits(self) -> list[Limits] | None:
        """The values that become black and full intensity; None for 8 bits."""
        samples: list[list[np.ndarray]] = []
        for number in range(self._count):
            values, channels = self._shown(number)
            if values.dtype in (np.uint8, bool):
                return None
            parts = scaled_parts(select_channels(values, channels, self._name), channels)
            step = -(-self._count * values.size // SAMPLED_VALUES)
            samples.append([part.ravel()[::step].copy() for part in parts])
        joined = (np.concatenate(part) for part in zip(*samples, strict=True))
        return [find_limits(part, self._percentiles) for part in joined]


def open_stack(
    path: str | Path,
    *,
    axis: SliceAxis | Literal["auto"] = "auto",
    channels: Sequence[int] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> ImageStack:
    """Open a TIFF that is a stack of slices along z or time.

    Args:
        path: a TIFF with one axis of slices, and channels or colours at most beside it.
        axis: what the slices are; "auto" takes the file's metadata (OME, ImageJ, tifffile), and z
            if there is none.
        channels: 1 to 3 channels of each slice to show: see `samlet.images.read`.
        percentiles: of the values of all slices: see there.
        max_pixels: of a slice: see there.

    Returns:
        the slices; close it, or use it in a `with` statement.

    Raises:
        UserError: missing, damaged, too large, no stack, or of a layout that is not read.

    Examples:
        >>> with samlet.images.open_stack("stack.tif") as stack:
        ...     print(len(stack), stack.axis, stack[0].shape)
    """
    path = Path(path)
    with explain_read_errors(path):
        if not is_stack(path, axis=axis, channels=channels):
            raise UserError(f"{path} is no TIFF with several slices: read it as an image.")
        tiff = TiffStack(path, max_pixels)
    named: dict[str, SliceAxis] = {"Z": "z", "T": "time"}

    def decode(number: int) -> DecodedImage:
        with explain_read_errors(path):
            return tiff.decode(number)

    return ImageStack(
        str(path),
        decode,
        len(tiff),
        named.get(tiff.axis, "z") if axis == "auto" else axis,
        axis != "auto" or tiff.axis in named,
        channels=channels,
        percentiles=percentiles,
        close=tiff.close,
    )


def is_stack(
    path: str | Path,
    *,
    axis: SliceAxis | Literal["auto"] = "auto",
    channels: Sequence[int] | None = None,
) -> bool:
    """Whether a file is a TIFF with several slices, and channels or colours at most beside them.

    Pages of unknown meaning are slices, unless `channels` are chosen, or the last axis of the file
    seems to hold channels, as `samlet.images.read` assumes; with a given `axis` they always are.

    Args:
        path: the file; only its metadata is read.
        axis: what the user says that the slices are.
        channels: the channels that the user has chosen.

    Raises:
        UserError: the axis is none, or the file is missing or damaged.
    """
    are_pages_slices = parse_axis(axis) != "auto"
    path = Path(path)
    with explain_read_errors(path), path.open("rb") as stream:
        return is_tiff(stream) and has_slices(path, stream, are_pages_slices, channels)


def parse_axis(text: str) -> SliceAxis | Literal["auto"]:
    """Check an axis that the user has chosen.

    Raises:
        UserError: it is none.
    """
    if text in ("z", "time", "auto"):
        return cast(SliceAxis | Literal["auto"], text)
    raise UserError(f"The axis of a stack is z, time or auto, not {text!r}.")
