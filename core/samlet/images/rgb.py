"""Converting arrays of any dtype and number of channels to RGB, uint8."""

from collections.abc import Sequence

import numpy as np

from samlet.errors import UserError
from samlet.utils.messages import join_and, pluralize

PERCENTILES = (0.1, 99.9)
"""The values that become black and full intensity, so that a few outliers do not matter."""

MAX_SHOWN = 3
"""Channels that fit in RGB."""

MAX_CHANNELS_LAST = 32
"""With more than this on the last axis and at most 4 on the first, the first holds the channels."""

Limits = tuple[float, float]
"""The values that become black and full intensity."""


def to_rgb(
    array: np.ndarray,
    *,
    channels: Sequence[int] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
) -> np.ndarray:
    """Turn an array of any numeric dtype into RGB.

    uint8 is returned unchanged; False and True become 0 and 255. Everything else is scaled linearly
    from its low and high percentile to 0 and 255, and clipped: RGB jointly, to keep its colours,
    and channels one by one. Where the percentiles are equal (few bright spots), minimum and maximum
    are used instead; constant values become 0. NaN and infinities count as missing, and become 0.

    Args:
        array: H x W, or H x W x C with C = 1 grey, 2 red and green, 3 RGB, 4 RGBA (the last is
            dropped; pixels where it is 0 become black).
        channels: pick 1 (shown as grey), 2 (red and green) or 3 (RGB) of any number of channels,
            counted from 0; they are then scaled one by one.
        percentiles: (low, high), each 0 to 100.

    Returns:
        uint8, H x W x 3, contiguous.

    Raises:
        UserError: not H x W or H x W x C, empty, not numeric, more than 4 channels with none
            chosen, or a channel that does not exist.

    Examples:
        >>> to_rgb(np.array([[0, 1000], [2000, 4000]], np.uint16), percentiles=(0, 100))[..., 0]
        array([[  0,  64],
               [128, 255]], dtype=uint8)
    """
    return convert_to_rgb(np.asarray(array), channels, percentiles, "The image")


def convert_to_rgb(
    array: np.ndarray,
    channels: Sequence[int] | None,
    percentiles: tuple[float, float],
    name: str,
    limits: Sequence[Limits] | None = None,
) -> np.ndarray:
    """Convert as `to_rgb`, calling the image `name` in error messages.

    With `limits`, one pair for each of `scaled_parts`, these become black and full intensity in
    place of the percentiles.
    """
    array = select_channels(array, channels, name)
    check_percentiles(percentiles)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        parts = scaled_parts(array, channels)
        limits = limits or [find_limits(part, percentiles) for part in parts]
        scaled = [_stretch(part, *pair) for part, pair in zip(parts, limits, strict=True)]
        array = scaled[0] if scaled[0].ndim == 3 else np.stack(scaled, axis=2)

    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    elif array.shape[2] == 2:
        array = np.concatenate([array, np.zeros_like(array[:, :, :1])], axis=2)
    return np.ascontiguousarray(array)


def select_channels(array: np.ndarray, channels: Sequence[int] | None, name: str) -> np.ndarray:
    """The channels that are shown: H x W x C, C from 1 to 3, unscaled.

    Raises:
        UserError: see `to_rgb`.
    """
    if array.ndim == 0 and array.dtype.kind in "OSU":
        raise UserError(f"{name} is no array: a file is read by samlet.images.read(path).")
    if array.ndim not in (2, 3) or array.size == 0 or array.dtype.kind not in "buif":
        raise UserError(
            f"{name} is {array.dtype} of shape {array.shape}: "
            "give real numbers as H x W or H x W x C, not empty."
        )
    array = array[:, :, None] if array.ndim == 2 else array
    count = array.shape[2]
    if channels is not None:
        unknown = [c for c in channels if not 0 <= c < count]
        if unknown or not 1 <= len(channels) <= MAX_SHOWN:
            wrong = (
                f"{name} has no channel{'s' * (len(unknown) > 1)} {join_and(unknown)}"
                if unknown
                else f"Of {name}, {pluralize(len(channels), 'channel')} cannot be shown"
            )
            raise UserError(f"{wrong}: choose 1 to {MAX_SHOWN} of its {count}, counted from 0.")
        return array[:, :, list(channels)]
    if count == 4:
        return drop_alpha(array)
    if array.shape[0] <= 4 and count > MAX_CHANNELS_LAST:
        raise UserError(
            f"{name} has the shape {array.shape}, its channels first, it seems: give H x W x C, as "
            "np.moveaxis(image, 0, -1) does."
        )
    if count > 4:
        raise channel_choice_error(name, count)
    return array


def scaled_parts(array: np.ndarray, channels: Sequence[int] | None) -> list[np.ndarray]:
    """What of an H x W x C array is scaled jointly: RGB as a whole, or else each channel."""
    jointly = channels is None and array.shape[2] == 3
    return [array] if jointly else list(np.moveaxis(array, 2, 0))


def parse_channels(text: str | None) -> list[int] | None:
    """Read the option --channels; None if it is not given.

    Raises:
        UserError: the channels are no numbers from 0, or more than three.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > MAX_SHOWN or not all(part.isdecimal() for part in parts):
        raise UserError(f"--channels takes one to three numbers such as 0,2, not {text!r}.")
    return [int(part) for part in parts]


def check_percentiles(percentiles: tuple[float, float]) -> None:
    """Raise UserError unless these are two rising numbers from 0 to 100."""
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise UserError(f"The percentiles {percentiles} are not two rising numbers from 0 to 100.")


def channel_choice_error(name: str, count: int) -> UserError:
    """The error for an image whose channels are too many to show without a choice."""
    return UserError(
        f"{name} has {count} channels: choose one, or up to three as red, green and blue, "
        "with channels=(0, 1, 2) in Python or --channels 0,1,2 on the command line."
    )


def drop_alpha(array: np.ndarray) -> np.ndarray:
    """Drop the last channel, opacity; fully transparent pixels become 0 unless all of them are."""
    colour, visible = array[:, :, :-1], array[:, :, -1:] != 0
    return np.where(visible, colour, np.zeros_like(colour)) if visible.any() else colour


def find_limits(values: np.ndarray, percentiles: tuple[float, float]) -> Limits:
    """The values that become black and full intensity; equal if there is nothing to tell apart."""
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if known.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(
        # Whether `astype` copies or not, this is not the caller's array.
        known.astype(_working_dtype(values), copy=False),
        percentiles,
        overwrite_input=True,
    )
    if low == high:
        low, high = known.min(), known.max()
    return float(low), float(high)


def _working_dtype(values: np.ndarray) -> type[np.floating]:
    # float32 holds 16-bit integers exactly; wider values may differ only beyond its precision.
    return np.float32 if values.dtype.itemsize <= 2 else np.float64


def _stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    span = high - low
    if span == 0:
        return np.zeros(values.shape, np.uint8)
    scaled: np.ndarray = values.astype(_working_dtype(values))
    if values.dtype.kind == "f":
        scaled[~np.isfinite(scaled)] = low
    scaled -= low
    scaled *= 255 / span
    np.rint(scaled, out=scaled)
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)
