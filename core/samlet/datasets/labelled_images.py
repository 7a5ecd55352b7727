"""Image files, their labels, and whether the two are of one size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from samlet.errors import UserError
from samlet.images.decoding import decode


class ReadLayers(Protocol):
    """Reads the labels of one image from their file.

    Returns int32, L x H x W with L >= 1, 0 background. No two objects of a layer overlap, and no
    two objects share a number.

    With a list for `left_out`, an object that is faulty is left out and a sentence about it is
    added there; without, UserError is raised. So it is either way where all labels of the image are
    faulty.
    """

    def __call__(self, left_out: list[str] | None = None) -> np.ndarray:
        """See the class."""


@dataclass(frozen=True)
class LabelledImage:
    """An image that has labels.

    Attributes:
        path: the image file.
        read_layers: see `ReadLayers`.
    """

    path: Path
    read_layers: ReadLayers


@dataclass(frozen=True)
class LabelledImages(Sequence[LabelledImage]):
    """The images of a folder that have labels, and what does not fit.

    Attributes:
        labelled: the images that have labels, sorted by path.
        unlabelled: the images that have none.
        unmatched: labels without an image, by the names that they give to it.
        faults: a sentence for each entry of the labels that cannot be used.
    """

    labelled: Sequence[LabelledImage]
    unlabelled: Sequence[Path] = ()
    unmatched: Sequence[str] = ()
    faults: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labelled)

    @overload
    def __getitem__(self, index: int) -> LabelledImage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LabelledImage]: ...
    def __getitem__(self, index: int | slice) -> LabelledImage | Sequence[LabelledImage]:
        return self.labelled[index]

    def first(self, limit: int | None) -> "LabelledImages":
        """The same with so many labelled images alone; None for all."""
        return replace(self, labelled=self.labelled[:limit])


def draw_regions(
    regions: Iterable[tuple[str, Callable[[], np.ndarray]]], left_out: list[str] | None
) -> Iterator[np.ndarray]:
    """Draw regions one by one, without those that are faulty.

    Args:
        regions: for each what it is, to start a sentence, and what draws it: bool, H x W.
        left_out: see `ReadLayers`.
    """
    for where, draw in regions:
        try:
            mask = draw()
        except UserError as error:
            if left_out is None:
                raise
            left_out.append(str(error))
            continue
        if left_out is not None and not mask.any():
            left_out.append(f"{where} covers no pixel of its image: check its coordinates.")
        yield mask


def image_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels that `samlet.images.read` gives an image file.

    The file is decoded, as its header does not always tell (orientation, TIFF axes).

    Raises:
        UserError: see `samlet.images.decoding.decode`.
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
