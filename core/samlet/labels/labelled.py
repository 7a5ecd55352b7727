"""An image file, its labels, and whether the two are of one size."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samlet.errors import UserError
from samlet.image_files import decode


@dataclass(frozen=True)
class Labelled:
    """An image that has labels.

    Attributes:
        path: the image file.
        read_layers: reads the labels from their file: int32, L x H x W with L >= 1, 0 background.
            No two objects of a layer overlap, and no two objects share a number. Raises UserError.
    """

    path: Path
    read_layers: Callable[[], np.ndarray]


def image_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels that `samlet.images.read` gives an image file.

    The file is decoded, as its header does not always tell (orientation, TIFF axes).

    Raises:
        UserError: see `samlet.image_files.decode`.
    """
    height, width = decode(path).values.shape[:2]
    return height, width


def check_size(
    stated: tuple[float, float], image: Path, size: tuple[int, int], source: str
) -> None:
    """Compare the (height, width) that labels state with that of their image.

    Args:
        stated: what the labels are made for.
        image: the image file.
        size: its `image_size`.
        source: what states it, to start a sentence.

    Raises:
        UserError: they differ.
    """
    if stated == size:
        return
    remedy = "export or draw the labels again for this image"
    if stated == size[::-1]:
        remedy = (
            "one of the two ignores the rotation that the image stores (EXIF), so save the image "
            "upright and label that"
        )
    raise UserError(
        f"{source} is for {stated[1]:.10g} x {stated[0]:.10g} pixels but {image} is "
        f"{size[1]} x {size[0]}: {remedy}."
    )
