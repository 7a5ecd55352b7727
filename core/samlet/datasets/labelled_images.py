"""Image files with labels, which are read when they are needed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

import numpy as np

from samlet import images
from samlet.datasets.pairing import pair_by_name
from samlet.errors import UserError
from samlet.images.decoding import decode
from samlet.outputs.records import DEFAULT_CATEGORY


class ObjectClass(NamedTuple):
    """The class of an object.

    Attributes:
        name: of the class.
        probability: that it is right, above 0 to 1, where a classifier has given it; None where a
            person has.
    """

    name: str
    probability: float | None = None


class ReadLayers(Protocol):
    """Reads the labels of one image from their file.

    Returns int32, L x H x W with L >= 1, where 0 is background. Objects of one layer do not
    overlap, and every object has its own number.

    With a list for `left_out`, a faulty object is left out and a sentence about it is added to the
    list; without one, UserError is raised. UserError is raised either way if the labels of the
    image cannot be used at all.

    A dictionary for `classes` gets the class of each object that has one, by its number.
    """

    def __call__(
        self,
        left_out: list[str] | None = None,
        classes: dict[int, ObjectClass] | None = None,
    ) -> np.ndarray:
        """See the class."""


@dataclass(frozen=True)
class LabelledImage:
    """An image file and its labels.

    Attributes:
        path: the image file, or a slice of a stack.
        read_layers: see `ReadLayers`.
        channels: of the image to show, see `samlet.images.read`.
        may_be_unlabelled: whether no object means that nobody has labelled it, as in most slices of
            label stacks.
    """

    path: Path
    read_layers: ReadLayers
    channels: Sequence[int] | None = None
    may_be_unlabelled: bool = False

    def read(self, left_out: list[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Read the image and its labels.

        Args:
            left_out: see `ReadLayers`.

        Returns:
            RGB, uint8, H x W x 3; and int32, L x H x W.

        Raises:
            UserError: the image or its labels cannot be read, or their sizes differ.
        """
        image = images.read(self.path, channels=self.channels)
        layers = self.read_layers(left_out)
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


def find_by_name(
    images: Path,
    paths: Sequence[Path],
    labels: Path,
    suffixes: tuple[str, ...],
    read_layers: Callable[..., np.ndarray],
) -> LabelledImages:
    """Find the images that have a file of labels of the same name; see `pair_by_name`.

    Args:
        images: the folder of the images.
        paths: image files below it.
        labels: the folder of the files.
        suffixes: of the files, in lower case, with the dot.
        read_layers: called with an image and its file, then as `ReadLayers`.
    """
    matched = pair_by_name(images, paths, labels, suffixes)
    found = [
        LabelledImage(path, partial(read_layers, path, source)) for path, source in matched.pairs
    ]
    return LabelledImages(found, unmatched=matched.unmatched, faults=matched.faults)


class Region(NamedTuple):
    """A region in a file of labels.

    Attributes:
        where: its name, to start a sentence with.
        draw: draws it as bool, H x W.
        object_class: None without one.
    """

    where: str
    draw: Callable[[], np.ndarray]
    object_class: ObjectClass | None = None


def draw_regions(
    regions: Iterable[Region],
    left_out: list[str] | None,
    classes: dict[int, ObjectClass] | None = None,
) -> Iterator[np.ndarray]:
    """Draw regions one by one, leaving out faulty ones.

    Args:
        regions: of one image.
        left_out: see `ReadLayers`.
        classes: see there.
    """
    number = 0
    for where, draw, object_class in regions:
        try:
            mask = draw()
        except UserError as error:
            if left_out is None:
                raise
            left_out.append(str(error))
            continue
        if left_out is not None and not mask.any():
            left_out.append(f"{where} covers no pixel of its image: check its coordinates.")
        # As `samlet.datasets.layers.pack_layers` numbers them.
        number += bool(mask.any())
        if classes is not None and object_class is not None and mask.any():
            classes[number] = object_class
        yield mask


def class_named(name: Any, probability: Any = None) -> ObjectClass | None:
    """A class as it is in a file; None if there is none, or the one that stands for none."""
    if not isinstance(name, str) or name.strip() in ("", DEFAULT_CATEGORY):
        return None
    is_number = isinstance(probability, int | float) and 0 <= probability <= 1
    return ObjectClass(name.strip(), float(probability) if is_number else None)


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
