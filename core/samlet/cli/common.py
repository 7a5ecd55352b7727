"""Options that several commands have, and how their values are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samlet.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Model = Annotated[str, typer.Option(help="Model name (see `samlet models`) or checkpoint file.")]
EngineName = Annotated[
    str, typer.Option("--engine", help="auto, torch or openvino (the fastest on a CPU).")
]
PrecisionName = Annotated[
    str,
    typer.Option(
        "--precision",
        help="Of the image encoder: auto, float32, or bfloat16 (faster, on processors that compute "
        "in it).",
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Channels = Annotated[
    str | None,
    typer.Option(help="One to three channels of a multichannel image, counted from 0: 0,2."),
]
MaxPixels = Annotated[int, typer.Option(help="Refuse images with more pixels than this.")]


def parse_numbers(text: str, count: int, option: str) -> list[float]:
    """Read an option such as "120,80".

    Raises:
        UserError: it does not have so many numbers.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        form, example = ("X,Y", "120,80") if count == 2 else ("X1,Y1,X2,Y2", "120,80,180,140")
        raise UserError(
            f"{option} takes {form} in pixels, for example {option} {example}, not {text!r}."
        )
    return numbers


def parse_channels(text: str | None) -> list[int] | None:
    """Read --channels; None if it is not given.

    Raises:
        UserError: the channels are no numbers.
    """
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--channels takes numbers such as 0,2, not {text!r}.") from error


def read_image(path: Path, channels: str | None, max_pixels: int) -> "np.ndarray":
    """Read an image with the channels that were chosen: RGB uint8, H x W x 3.

    Raises:
        UserError: see `samlet.images.read`, or the channels are no numbers.
    """
    from samlet import images

    return images.read(path, channels=parse_channels(channels), max_pixels=max_pixels)
