"""Image files with labels, which are read when they are needed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from samlet import images
from samlet.errors import UserError
from samlet.images.decoding import decode


class ReadLayers(Protocol):
    """Reads the labels of one image from their file.

    Returns int32, L x H x W with L >= 1, where 0 is background. Objects of one layer do not
    overlap, and every object has its own number.

    With a list for `left_out`, a faulty object is left out and a sentence about it is added to the
    list; without one, UserError is raised. UserError is raised either way if the labels of the
    image cannot be used at all.
    """

    def __call__(self, left_out: list[str] | None = None) -> np.ndarray:
        """See the class."""


@dataclass(frozen=True)
class LabelledImage:
    """An image file and its labels.

    Attributes:
        path: the image file.
        read_layers: see `ReadLayers`.
    """

    path: Path
    read_layers: ReadLayers

    def read(self, left_out: list[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Read the image and its labels.

        Args:
            left_out: see `ReadLayers`.

        Returns:
            RGB, uint8, H x W x 3; and int32, L x H x W.

        Raises:
            UserError: the image or its labels cannot be read, or their sizes differ.
        """
        image, layers = images.read(self.path), self.read_layers(left_out)
        size, labelled = image.shape[:2], layers.shape[1:]
        check_size((labelled[0], labelled[1]), self.path, (size[0], size[1]), "The label file")
        return image, layers


@dataclass(frozen=True)
class LabelledImages(Sequence[LabelledImage]):
    """The labelled images of a folder, and what does not match.

    Attributes:
        labelled: the images that have labels, sorted by path.
        unlabelled: the images that have no labels.
        unmatched: labels without an image, by the name that they give for it.
        faults: a sentence about each entry of the labels that cannot be used.
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
        """The same with only this many labelled images; None for all."""
        return replace(self, labelled=self.labelled[:limit])


def draw_regions(
    regions: Iterable[tuple[str, Callable[[], np.ndarray]]], left_out: list[str] | None
) -> Iterator[np.ndarray]:
    """Draw regions one by one, leaving out faulty ones.

    Args:
        regions: for each region its name, to start a sentence with, and a function that draws it
            as bool, H x W.
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
    """Height and width of an image file in pixels, as `samlet.images.read` reads it.

    The file is decoded, since its header does not always say (EXIF rotation, TIFF axes).

    Raises:
        UserError: see `samlet.images.decoding.decode`.
    """
    height, width = decode(path).values.shape[:2]
    return height, width


def check_size(
    stated: tuple[float, float], image: Path, size: tuple[int, int], source: str
) -> None:
    """Check that labels are for the size of their image.

    Args:
        stated: (height, width) that the labels are for.
        image: the image file.
        size: (height, width) of the image; see `image_size`.
        source: name of the labels, to start a sentence with.

    Raises:
        UserError: the sizes differ.
    """
    if stated == size:
        return
    remedy = "export the labels again for this image, or draw them again"
    if stated == size[::-1]:
        remedy = (
            "one of the two ignores the rotation that is stored in the image (EXIF), so save the "
            "image upright and label that file"
        )
    raise UserError(
        f"{source} is for {stated[1]:.10g} x {stated[0]:.10g} pixels but {image} is "
        f"{size[1]} x {size[0]}: {remedy}."
    )
