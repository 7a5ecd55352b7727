"""How values become intensities from 0 to 255, in an image and alike in all slices of a stack."""

from collections.abc import Callable, Sequence

import numpy as np

from samlet.images.formats.decoded_image import DecodedImage
from samlet.images.rgb import (
    Limits,
    channel_choice_error,
    drop_alpha,
    find_limits,
    scaled_parts,
    select_channels,
)

SAMPLED_SLICES = 64
"""Slices from which percentiles are taken: evenly spaced ones if there are more."""

SAMPLED_VALUES = 1 << 24
"""Values from which percentiles are taken: every n-th one if there are more."""


def channels_to_show(
    decoded: DecodedImage, channels: Sequence[int] | None, name: str
) -> tuple[np.ndarray, Sequence[int] | None]:
    """The values without opacity, and the channels that are to be scaled one by one.

    Raises:
        UserError: there are more channels than can be shown, and none was chosen.
    """
    values, kind = decoded
    if channels is None and kind == "colour+alpha":
        return drop_alpha(values), None
    if channels is None and kind == "channels":
        count = values.shape[2]
        if count > 3:
            raise channel_choice_error(name, count)
        return values, range(count)
    return values, channels


def joint_limits(
    decode: Callable[[int], DecodedImage],
    count: int,
    channels: Sequence[int] | None,
    percentiles: tuple[float, float],
    name: str,
) -> list[Limits] | None:
    """What becomes black and full intensity in all slices, so that a dark one stays dark.

    Args:
        decode: gives the values of a slice; one is in memory at a time.
        count: number of slices.
        channels: see `samlet.images.read`.
        percentiles: of the values in `SAMPLED_SLICES` of the slices.
        name: for messages.

    Returns:
        a pair for each of `samlet.images.rgb.scaled_parts`; None where slices have 8 bits, and are
        used as they are.
    """
    sampled = np.unique(np.linspace(0, count - 1, min(count, SAMPLED_SLICES)).round().astype(int))
    samples: list[list[np.ndarray]] = []
    for number in sampled.tolist():
        values, shown = channels_to_show(decode(number), channels, name)
        if values.dtype in (np.uint8, bool):
            return None
        parts = scaled_parts(select_channels(values, shown, name), shown)
        step = -(-len(sampled) * values.size // SAMPLED_VALUES)
        samples.append([part.ravel()[::step].copy() for part in parts])
    joined = (np.concatenate(part) for part in zip(*samples, strict=True))
    return [find_limits(part, percentiles) for part in joined]
