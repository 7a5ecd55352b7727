"""Stacks of slices, along z or time, as RGB, one slice at a time."""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, cast

import numpy as np

from samlet.errors import UserError
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS, DecodedImage
from samlet.images.image_file import ImageFile, open_image
from samlet.images.rgb import PERCENTILES, Limits, check_percentiles, convert_to_rgb
from samlet.images.scaling import channels_to_show, joint_limits

SliceAxis = Literal["z", "time"]
"""What the slices of a stack are."""

_AXES: dict[str, SliceAxis] = {"Z": "z", "T": "time"}


class ImageStack:
    """Slices of one size, read when they are asked for, and scaled alike.

    8-bit slices are as `samlet.images.to_rgb` gives them. Of other stacks the percentiles are taken
    over all slices, so that a slice in which there is nothing stays dark. The first slice that is
    asked for therefore takes as long as reading all of them, or 64 if there are more.

    Args:
        name: for messages.
        decode: gives a slice's values.
        count: number of slices.
        axis: what they are.
        is_axis_known: whether that was given by the user or the file, and is not a guess.
        channels: see `samlet.images.read`.
        percentiles: see there.
        limits: gives what becomes black and full intensity; None takes it from the slices.
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
        limits: Callable[[], list[Limits] | None] | None = None,
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
        self._find_limits = limits

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
        values, channels = channels_to_show(self._decode(number), self._channels, self._name)
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

    @cached_property
    def _limits(self) -> list[Limits] | None:
        """The values that become black and full intensity; None for 8 bits."""
        if self._find_limits is not None:
            return self._find_limits()
        return joint_limits(
            self._decode, self._count, self._channels, self._percentiles, self._name
        )


def open_stack(
    path: str | Path,
    *,
    axis: SliceAxis | Literal["auto"] = "auto",
    channels: Sequence[int] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> ImageStack:
    """Open a stack of slices along z or time.

    Args:
        path: a file, or an OME-Zarr folder, with one axis of slices, and channels or colours at
            most beside it; or the slices of one time point, or depth: see
            `samlet.images.slice_path`.
        axis: what the slices are; "auto" takes the file's metadata (OME, ImageJ, tifffile), and z
            if there is none.
        channels: 1 to 3 channels of each slice to show: see `samlet.images.read`.
        percentiles: of the values of all slices of the file: see there.
        max_pixels: of a slice: see there.

    Returns:
        the slices; close it, or use it in a `with` statement.

    Raises:
        UserError: missing, damaged, too large, no stack, or of a layout that is not read.

    Examples:
        >>> with samlet.images.open_stack("stack.tif") as stack:
        ...     print(len(stack), stack.axis, stack[0].shape)
    """
    is_axis_given = parse_axis(axis) != "auto"
    file = open_image(path, max_pixels=max_pixels)
    try:
        axes = file.slice_axes(channels, is_axis_given)
        if len(axes) != 1:
            raise _no_stack_error(file, axes)
    except BaseException:
        file.close()
        raise
    (along,) = axes
    numbers = file.numbers[along]
    fixed = {axis: chosen[0] for axis, chosen in file.numbers.items()}
    return ImageStack(
        str(path),
        lambda number: file.decode(fixed | {along: numbers[number]}),
        len(numbers),
        _AXES[along] if axis == "auto" else axis,
        is_axis_given or not file.has_unknown_pages,
        channels=channels,
        percentiles=percentiles,
        limits=lambda: file.limits(channels, percentiles),
        close=file.close,
    )


def _no_stack_error(file: ImageFile, axes: Sequence[str]) -> UserError:
    path = file.path.path
    if not axes:
        return UserError(f"{path} is no stack of several slices: read it as an image.")
    return UserError(
        f"{path} has slices along time and z: choose a time point or a depth, such as "
        f"{path.name}.t0."
    )


def is_stack(
    path: str | Path,
    *,
    axis: SliceAxis | Literal["auto"] = "auto",
    channels: Sequence[int] | None = None,
) -> bool:
    """Whether a file has several slices along one axis, with channels or colours at most.

    Pages of unknown meaning are slices, unless `channels` are chosen, or the last axis of the file
    seems to hold channels, as `samlet.images.read` assumes; with a given `axis` they always are.

    Args:
        path: see `open_stack`; only its metadata is read.
        axis: what the user says that the slices are.
        channels: the channels that the user has chosen.

    Raises:
        UserError: the axis is none, or the file is missing, damaged, or not read.
    """
    is_axis_given = parse_axis(axis) != "auto"
    with open_image(path, max_pixels=sys.maxsize) as file:
        return len(file.slice_axes(channels, is_axis_given)) == 1


def parse_axis(text: str) -> SliceAxis | Literal["auto"]:
    """Check an axis that the user has chosen.

    Raises:
        UserError: it is none.
    """
    if text in ("z", "time", "auto"):
        return cast(SliceAxis | Literal["auto"], text)
    raise UserError(f"The axis of a stack is z, time or auto, not {text!r}.")
