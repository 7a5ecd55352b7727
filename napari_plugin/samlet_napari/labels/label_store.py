"""Objects in a napari labels layer: their pixels, their labels and their prompts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels

from samlet.datasets.labelled_images import ObjectClass
from samlet.errors import UserError
from samlet.masks import Box, bounding_slices
from samlet_napari.inference.objects import ObjectInPlane
from samlet_napari.inference.prompts import Steps
from samlet_napari.labels import napari_history, pyramid
from samlet_napari.labels.object_classes import ObjectClasses
from samlet_napari.labels.object_metadata import ObjectMetadata
from samlet_napari.layers.layer_data import format_shape
from samlet_napari.layers.plane import Plane


@dataclass(frozen=True)
class Change:
    """What a write has changed, for `LabelStore.revert`.

    Attributes:
        label: whose pixels were written.
        plane, box: where.
        before, after: the pixels, h x w, before and after the write.
        metadata: the entry of the label before it, as `ObjectMetadata.raw` gives it.
        object_class: of the label before it; None without one.
    """

    label: int
    plane: Plane
    box: Box
    before: np.ndarray
    after: np.ndarray
    metadata: Any
    object_class: ObjectClass | None


class LabelStore:
    """Reads and writes a labels layer; used in the GUI thread only.

    Args:
        layer: of the image's shape.
        shape: the image's, without an axis of RGB.
        is_empty: whether it is known to hold nothing yet.

    Attributes:
        layer: the layer.
        metadata: the prompts of its objects.
        classes: of its objects.

    Raises:
        UserError: another shape, or data that cannot be written.
    """

    def __init__(self, layer: Labels, shape: Sequence[int], is_empty: bool = False) -> None:
        self.layer = layer
        self.metadata = ObjectMetadata(layer)
        self.classes = ObjectClasses(layer)
        self._shape = tuple(shape)
        self.check()
        self._highest: int | None = 0 if is_empty else None
        # Where others have painted, objects may be larger than they were when they were written.
        self._boxes_are_known = is_empty
        self._is_batch = False
        self._is_recording = False
        self._edits: list[napari_history.Edit] = []
        self._undone = napari_history.count_undone(layer)
        for event in self._foreign_edits():
            event.connect(self._on_foreign_edit)

    @property
    def data(self) -> Any:
        """The pixels in full resolution, of the array that the layer has at present."""
        return self._levels()[0]

    def close(self) -> None:
        """Stop listening to the layer."""
        for event in self._foreign_edits():
            event.disconnect(self._on_foreign_edit)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Draw what is written inside once, at the end; for napari's undo it is one edit."""
        self._is_batch = True
        try:
            yield
        finally:
            self._is_batch = False
            self._flush()

    def next_label(self) -> int:
        """The label of the next object: above all that there are.

        Raises:
            UserError: the layer's data type has no larger number.
        """
        self._check_napari_undo()
        largest = int(np.iinfo(self.data.dtype).max)
        if self._highest is None:
            known = [*self.metadata.labels, *self.classes.known()]
            in_range = [label for label in known if label <= largest]
            self._highest = max([int(np.max(self.data)), *in_range])
        if self._highest >= largest:
            raise UserError(
                f"{self.layer.name} has no free number left above {self._highest}: convert it to "
                "a larger type (right click on the layer), or choose a new one."
            )
        return self._highest + 1

    def label_at(self, plane: Plane, x: float, y: float) -> int:
        """The label of a pixel; 0 outside the image.

        Raises:
            UserError: the layer's data was replaced by other data that does not fit.
        """
        self.check()
        column, row = round(x), round(y)
        height, width = plane.size(self.data.shape)
        if not (0 <= column < width and 0 <= row < height):
            return 0
        return int(self._read(plane, (column, row, column + 1, row + 1))[0, 0])

    def labels_in(self, plane: Plane) -> list[int]:
        """The labels of the objects in a plane, ascending."""
        height, width = plane.size(self.data.shape)
        numbers = np.unique(self._read(plane, (0, 0, width, height)))
        return [number for number in numbers.tolist() if number > 0]

    def bounding_box(self, plane: Plane, label: int) -> Box | None:
        """An object's box in a plane, half open; None if it has no pixel there."""
        height, width = plane.size(self.data.shape)
        return _box_around(self._read(plane, (0, 0, width, height)) == label, (0, 0))

    def mask_of(self, plane: Plane, label: int, box: Box) -> np.ndarray:
        """An object's pixels in a box: bool, h x w."""
        return self._read(plane, box) == label

    def write(
        self,
        plane: Plane,
        box: Box,
        mask: np.ndarray | None,
        label: int,
        steps: Steps = (),
        overwrite: bool = False,
    ) -> Change:
        """Put an object into a plane, in place of what it was there before.

        Args:
            plane: where.
            box: of the mask, half open.
            mask: bool, h x w; None removes the object from the plane.
            label: its label.
            steps: its prompts.
            overwrite: whether it may take pixels of other objects.

        Returns:
            for `revert`.

        Raises:
            UserError: the layer's data was replaced by other data that does not fit, or that
                cannot hold the label.
        """
        self.check()
        self._check_range(np.array([label]))
        self._check_napari_undo()
        metadata_before = self.metadata.raw(label)
        old = self.metadata.object_in(label, plane)
        # Its box is searched only where there may be more of it than is known.
        if self._boxes_are_known:
            old_box = old.box if old else None
        else:
            old_box = self._find_box(plane, label)
        region = box if old_box is None else _union(box, old_box)
        before = self._read(plane, region).copy()
        after = np.where(before == label, 0, before)
        if mask is not None:
            left, top = box[0] - region[0], box[1] - region[1]
            target = after[top : top + mask.shape[0], left : left + mask.shape[1]]
            target[mask & ((target == 0) | overwrite)] = label
        self._set(plane, region, before, after)
        objects = [each for each in self.metadata.objects(label) if each.plane != plane]
        if mask is not None:
            new_box = _box_around(after == label, region[:2])
            objects.append(ObjectInPlane(plane, tuple(steps), new_box))
            if self._highest is not None:
                self._highest = max(self._highest, label)
        self.metadata.set_raw(label, [each.to_json() for each in objects] or None)
        class_before = self.classes.of(label)
        if not objects:
            self.classes.forget(label)
        return Change(label, plane, region, before, after, metadata_before, class_before)

    def revert(self, change: Change) -> bool:
        """Undo a write, except where somebody has painted since.

        Returns:
            whether any pixel still held what was written.

        Raises:
            UserError: as `write`.
        """
        self.check()
        self._check_napari_undo()
        now = self._read(change.plane, change.box).copy()
        is_left = (change.before != change.after) & (now == change.after)
        restored = change.before[is_left]
        self._check_range(restored)
        after = now.copy()
        after[is_left] = restored
        self._set(change.plane, change.box, now, after)
        self.metadata.set_raw(change.label, change.metadata)
        self._revert_class(change)
        self._highest = None
        return bool(is_left.any())

    def _revert_class(self, change: Change) -> None:
        """Take the class from an object that is gone, or give back what was taken with it."""
        known = self.classes.of(change.label)
        is_gone = change.metadata is None and not (change.before == change.label).any()
        if is_gone:
            self.classes.forget(change.label)
        elif not is_gone and known is None and change.object_class is not None:
            self.classes.update({change.label: change.object_class})

    def check(self) -> None:
        """Make sure that objects can still be read and written.

        Raises:
            UserError: the layer's data was replaced by other data that does not fit.
        """
        levels, name = self._levels(), self.layer.name
        if tuple(levels[0].shape) != self._shape:
            raise UserError(
                f"{name} is {format_shape(levels[0].shape)} and the image is "
                f"{format_shape(self._shape)}: choose labels of the same size, or a new layer."
            )
        shapes = [pyramid.level_shape(self._shape, level) for level in range(len(levels))]
        if not all(map(_is_writable, levels)) or [tuple(a.shape) for a in levels] != shapes:
            raise UserError(f"{name} cannot be written: choose a new layer for the labels.")

    def _find_box(self, plane: Plane, label: int) -> Box | None:
        if self._highest is not None and label > self._highest:
            return None
        return self.bounding_box(plane, label)

    def _read(self, plane: Plane, box: Box) -> np.ndarray:
        return plane.read(self.data, box)

    def _set(self, plane: Plane, box: Box, before: np.ndarray, after: np.ndarray) -> None:
        changed = before != after
        changed_box = _box_around(changed, box[:2])
        if changed_box is None:
            return
        values = after[bounding_slices(changed)].astype(self.data.dtype)
        self.data[plane.slices(changed_box)] = values.T if plane.is_transposed else values
        if self.layer.multiscale:
            for level, array in enumerate(self._levels()[1:], start=1):
                pyramid.update_level(self.data, array, plane, changed_box, 2**level)
        elif napari_history.can_record(self.data):
            self._edits.append(napari_history.make_edit(plane, box, changed, before, after))
        self._flush()

    def _flush(self) -> None:
        """Let napari draw what was written, and undo it in turn with what is painted."""
        if self._is_batch:
            return
        edits, self._edits = self._edits, []
        self._is_recording = True
        try:
            napari_history.record(self.layer, edits)
        finally:
            self._is_recording = False
        self._undone = napari_history.count_undone(self.layer)
        self.layer.refresh(extent=False, thumbnail=False)

    def _levels(self) -> list[Any]:
        return list(self.layer.data) if self.layer.multiscale else [self.layer.data]

    def _check_range(self, labels: np.ndarray) -> None:
        dtype = np.iinfo(self.data.dtype)
        lowest, highest = (int(extreme(labels, initial=0)) for extreme in (np.min, np.max))
        if lowest < dtype.min or highest > dtype.max:
            raise UserError(
                f"{self.layer.name} holds numbers from {dtype.min} to {dtype.max}, and not "
                f"{highest if highest > dtype.max else lowest}: convert it to a larger type "
                "(right click on the layer), or choose a new one."
            )

    def _foreign_edits(self) -> tuple[Any, ...]:
        """The events by which others change the pixels."""
        events = self.layer.events
        return events.paint, events.data, events.labels_update

    def _on_foreign_edit(self) -> None:
        if not self._is_recording:
            self._highest = None
            self._boxes_are_known = False

    def _check_napari_undo(self) -> None:
        # napari's undo and redo bring objects back without an event.
        undone = napari_history.count_undone(self.layer)
        if undone != self._undone:
            self._undone = undone
            self._on_foreign_edit()


def _is_writable(array: Any) -> bool:
    if not hasattr(array, "__setitem__") or type(array).__module__.startswith("dask"):
        return False
    is_read_only = getattr(array, "read_only", False)
    return not is_read_only and bool(getattr(getattr(array, "flags", None), "writeable", True))


def _box_around(mask: np.ndarray, origin: tuple[int, int]) -> Box | None:
    """The box of a mask whose corner lies at (x, y); None if it has no pixel."""
    rows, columns = bounding_slices(mask)
    if rows.start == rows.stop:
        return None
    x, y = origin
    return x + columns.start, y + rows.start, x + columns.stop, y + rows.stop


def _union(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
