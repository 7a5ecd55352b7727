"""Images with their objects, in memory or read when they are needed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import overload

import numpy as np
from rich.progress import track
from scipy import ndimage

from samlet import images
from samlet.datasets import label_maps
from samlet.datasets.labelled_images import LabelledImage
from samlet.errors import UserError
from samlet.images import SlicePath

CACHED_EXAMPLES = 64
"""Decoded images that a dataset keeps in memory."""


@dataclass(frozen=True)
class Example:
    """One image with its objects.

    Attributes:
        name: the file's name without its suffix.
        image: RGB, uint8, H x W x 3.
        labels: int32, L x H x W: layers of label maps, since objects may overlap, but not within a
            layer. 0 is background, and every other number is one object.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray

    @cached_property
    def boxes(self) -> np.ndarray:
        """Bounding boxes of all objects, int, N x (x0, y0, x1, y1); see `object_boxes`."""
        return object_boxes(self.labels)


class LabelledDataset(Sequence[Example]):
    """Examples that are read when they are needed; the last `CACHED_EXAMPLES` stay in memory.

    Args:
        labelled: from `samlet.datasets.checking.check_labels`; faulty objects are left out.
    """

    def __init__(self, labelled: Sequence[LabelledImage]) -> None:
        self.labelled = labelled
        self._read = lru_cache(maxsize=CACHED_EXAMPLES)(self._example)

    def __len__(self) -> int:
        return len(self.labelled)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "LabelledDataset": ...
    def __getitem__(self, index: int | slice) -> "Example | LabelledDataset":
        if isinstance(index, slice):
            return LabelledDataset(self.labelled[index])
        return self._read(range(len(self))[index])

    def _example(self, index: int) -> Example:
        item = self.labelled[index]
        # Messages about faulty objects were shown when the labels were checked.
        image, layers = item.read(left_out=[])
        return Example(SlicePath.parse(item.path).stem, image, layers)


def load_examples(
    folder: Path, only: Collection[str] | None = None, without: Collection[str] = ()
) -> list[Example]:
    """Read `folder/images/*` and the label maps of the same names in `folder/labels`.

    Args:
        folder: has `images` and `labels` in it.
        only: names of the images to read, without suffix; None for all.
        without: names of images to leave out.

    Raises:
        UserError: a folder or label map is missing, sizes differ, or no image is left.
    """
    paths = [
        path
        for path in images.find(folder / "images")
        if (only is None or path.stem in only) and path.stem not in without
    ]
    if not paths:
        raise UserError(f"None of the chosen images is in {folder / 'images'}: check the names.")
    return [_load_example(path, folder) for path in track(paths, "Reading images")]


def _load_example(path: Path, folder: Path) -> Example:
    image = images.read(path)
    return Example(
        path.stem, image, label_maps.read_layers(path, folder / "labels" / f"{path.stem}.png")
    )


def microscopy_kind(image: np.ndarray) -> str:
    """Guess from its colours how a microscopy image was taken.

    Args:
        image: RGB, uint8, H x W x 3.

    Returns:
        "stained" (coloured), "fluorescence" (grey on dark) or "brightfield" (grey on bright).
    """
    spread = (image.max(2).astype(np.int16) - image.min(2)).mean()
    if spread > 8:
        return "stained"
    return "fluorescence" if np.median(image) < 90 else "brightfield"


def object_boxes(labels: np.ndarray) -> np.ndarray:
    """Bounding boxes of all objects, int, N x (x0, y0, x1, y1), half open.

    Args:
        labels: L x H x W; see `Example`. Large numbers do not make it slower.
    """
    found: list[tuple[slice, ...]] = []
    for layer in labels:
        # find_objects loops over all numbers up to the highest, so rank them first.
        numbers, ranks = np.unique(layer, return_inverse=True)
        ranks = ranks.reshape(layer.shape) - np.searchsorted(numbers, 0, side="right") + 1
        found += [slices for slices in ndimage.find_objects(ranks.clip(min=0)) if slices]
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in found]
    return np.array(boxes, dtype=int).reshape(-1, 4)
