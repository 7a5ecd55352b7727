"""Linking the objects of successive slices into 3-D objects or tracks.

There is no motion model and no model of shapes: objects of neighbouring slices are the same if they
overlap enough. What that cannot do is in docs/stacks.md.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from samlet.errors import UserError
from samlet.images.stacks import SliceAxis
from samlet.stacks.overlaps import Overlap, find_overlaps, match_one_to_one

MIN_IOU = 0.1
"""Of the masks of an object in neighbouring slices; measured by `benchmarks/stacks.py`."""

MIN_SHARE_ON_PARENT = 0.5
"""Share of a piece that lies on the object that it has split from."""

MIN_DAUGHTER_RATIO = 0.5
"""Area of the smallest daughter of a division relative to the largest; smaller ones are debris."""

MIN_FREE_SHARE = 0.5
"""Share of a missing mask that is background in a slice where it is filled in."""


@dataclass
class Track:
    """An object through the slices of a stack.

    Attributes:
        label: its number in all slices, from 1.
        begin: its first slice, counted from 0.
        end: its last slice; it is in all slices from `begin` to `end`.
        parent: the label of the object that it has split from; 0 if there is none.
        pixels: number of its pixels in all slices: its area in a time-lapse summed over time, its
            volume in voxels in a z-stack.
    """

    label: int
    begin: int
    end: int
    parent: int
    pixels: int


class SliceLinker:
    """Links objects that overlap in successive slices, with three slices in memory.

    Objects of neighbouring slices are matched one to one so that the sum of their IoUs is the
    largest possible. An object that is missing in a single slice is filled in there: with the
    pixels that it has both before and after, as far as they are background. A piece is split from
    an object if at least half of it lies on that object in the slice before:

    - along "z" the piece that matches best keeps the object's label, and each other piece is an
      object of its own with the first one as its parent;
    - along "time" an object that splits into two pieces or more of similar size has divided: it
      ends, and all of them are its daughters. Other pieces are new objects without a parent.

    Labels count from 1 by the slice of their first appearance, and there by the position of the
    first pixel in reading order, so that the numbers in the given label maps do not matter.

    Args:
        axis: what the slices are.
        min_iou: of an object in neighbouring slices, above 0 to 1.

    Attributes:
        tracks: the objects of the slices that have been given so far, by label.

    Raises:
        UserError: another axis, or `min_iou` is out of its range.
    """

    def __init__(self, axis: SliceAxis = "z", min_iou: float = MIN_IOU) -> None:
        if axis not in ("z", "time"):
            raise UserError(f"The axis of a stack is z or time, not {axis!r}.")
        if not 0 < min_iou <= 1:
            raise UserError(f"min_iou is above 0 and at most 1, not {min_iou}.")
        self.tracks: list[Track] = []
        self._axis = axis
        self._min_iou = min_iou
        self._count = 0
        self._split: set[int] = set()
        self._before: np.ndarray | None = None
        self._latest: np.ndarray | None = None

    def link(self, label_maps: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Number the objects of the slices.

        Args:
            label_maps: of successive slices: H x W, integers from 0, the background.

        Yields:
            uint32, H x W: the slices with the labels of `tracks`, each as soon as the one after it
            has been given.

        Raises:
            UserError: a slice is no label map, or of another size than the one before.
        """
        for labels in label_maps:
            completed = self._add(np.asarray(labels))
            if completed is not None:
                yield completed
        if self._latest is not None:
            yield self._latest

    def _add(self, labels: np.ndarray) -> np.ndarray | None:
        """Link one more slice; return the one before it, which is complete now."""
        self._check(labels)
        objects, areas = _renumber(labels)
        names = np.zeros(len(areas), np.uint32)
        parents: dict[int, int] = {}
        if self._latest is not None:
            overlaps = find_overlaps(self._latest, objects)
            matched = match_one_to_one(overlaps, self._min_iou)
            parents = self._find_splits(overlaps, matched, areas)
            for number, label in matched.items():
                names[number] = label
        if self._before is not None and self._latest is not None:
            waiting = np.isin(objects, [n for n in np.flatnonzero(names == 0) if n not in parents])
            self._bridge(self._before, self._latest, np.where(waiting, objects, 0), names)
        for number in range(1, len(areas)):
            if names[number]:
                track = self.tracks[int(names[number]) - 1]
                track.end = self._count
                track.pixels += int(areas[number])
            else:
                names[number] = self._new_track(parents.get(number, 0), int(areas[number]))
        completed = self._latest
        self._before, self._latest = completed, names[objects]
        self._split = set(parents.values())
        self._count += 1
        return completed

    def _find_splits(
        self, overlaps: list[Overlap], matched: dict[int, int], areas: np.ndarray
    ) -> dict[int, int]:
        """The parent of each piece; daughters of a division are taken out of `matched`."""
        pieces: dict[int, list[int]] = {}
        for pair in overlaps:
            is_free = matched.get(pair.after, pair.before) == pair.before
            if is_free and pair.share >= MIN_SHARE_ON_PARENT:
                pieces.setdefault(pair.before, []).append(pair.after)
        if self._axis == "z":
            return {n: parent for parent in pieces for n in pieces[parent] if n not in matched}
        continuation = {label: number for number, label in matched.items()}
        parents = {}
        for parent, numbers in pieces.items():
            largest = max(areas[number] for number in numbers)
            daughters = [n for n in numbers if areas[n] >= MIN_DAUGHTER_RATIO * largest]
            continued = continuation.get(parent)
            # Debris beside an object is no division, and leaves the object as it is.
            if len(daughters) > 1 and (continued is None or continued in daughters):
                matched.pop(continued or 0, None)
                parents.update(dict.fromkeys(daughters, parent))
        return parents

    def _bridge(
        self, before: np.ndarray, latest: np.ndarray, objects: np.ndarray, names: np.ndarray
    ) -> None:
        """Continue objects that are missing in the latest slice only, and fill them in there."""
        ended = [
            label
            for label in np.unique(before[objects > 0]).tolist()
            if label and self.tracks[label - 1].end == self._count - 2 and label not in self._split
        ]
        overlaps = find_overlaps(np.where(np.isin(before, ended), before, 0), objects)
        boxes = ndimage.find_objects(objects)
        for number, label in match_one_to_one(overlaps, self._min_iou).items():
            box = boxes[number - 1]
            missing = (before[box] == label) & (objects[box] == number)
            free = missing & (latest[box] == 0)
            filled = np.count_nonzero(free)
            if filled >= MIN_FREE_SHARE * np.count_nonzero(missing):
                latest[box][free] = names[number] = label
                self.tracks[label - 1].pixels += filled

    def _new_track(self, parent: int, pixels: int) -> int:
        label = len(self.tracks) + 1
        self.tracks.append(Track(label, self._count, self._count, parent, pixels))
        return label

    def _check(self, labels: np.ndarray) -> None:
        if labels.ndim != 2 or labels.dtype.kind not in "bui" or labels.min(initial=0) < 0:
            raise UserError(
                f"Slice {self._count} is {labels.dtype} of shape {labels.shape}: give label maps, "
                "integers from 0 as H x W."
            )
        if self._latest is not None and labels.shape != self._latest.shape:
            raise UserError(
                f"Slice {self._count} is of shape {labels.shape}, and the one before of "
                f"{self._latest.shape}: the slices of a stack are of one size."
            )


def _renumber(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number objects from 1 in reading order of their first pixels.

    Returns:
        H x W, int32, and the areas by number; that of 0 is 0.
    """
    inside = np.flatnonzero(labels)
    _, first, places, areas = np.unique(
        labels.ravel()[inside], return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(first)
    numbers = np.empty(len(order), np.int32)
    numbers[order] = np.arange(1, len(order) + 1)
    renumbered = np.zeros(labels.size, np.int32)
    renumbered[inside] = numbers[places]
    return renumbered.reshape(labels.shape), np.append(0, areas[order])
