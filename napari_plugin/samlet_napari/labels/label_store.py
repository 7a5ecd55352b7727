"""Objects in a napari labels layer: their pixels, their numbers and what they were prompted with.

Layers of large images are pyramids, since napari draws all of what is none, and some graphics
cards cannot. napari's brushes do not paint on pyramids, but everything here does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels

from samlet.errors import UserError
from samlet.masks import Box, bounding_slices
from samlet_napari.inference.prompts import Placed
from samlet_napari.layers.layer_reader import Plane

PYRAMID_FROM = 4096
"""Pixels along a plane from which a new layer is a pyramid."""

KEY = "samlet"
DTYPE = np.uint16

_Edit = tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]
"""An entry of napari's own history: pixels, an array for each axis, and their values around it."""


@dataclass(frozen=True)
class Change:
    """What a write has changed, to take it back.

    Attributes:
        label: whose pixels were written.
        plane, box: where.
        before, after: the pixels, h x w, around the write and once it was done.
        objects: the entries of the label in the metadata, before it.
    """

    label: int
    plane: Plane
    box: Box
    before: np.ndarray
    after: np.ndarray
    objects: Any


def empty_labels(shape: Sequence[int]) -> np.ndarray | list[np.ndarray]:
    """Make data for a new layer, a pyramid if it is large; memory is taken as it fills."""
    if max(shape[-2:]) <= PYRAMID_FROM:
        return np.zeros(shape, DTYPE)
    levels = [np.zeros(shape, DTYPE)]
    while max(levels[-1].shape[-2:]) > PYRAMID_FROM // 4:
        levels.append(np.zeros(_shrunk(shape, len(levels)), DTYPE))
    return levels


def new_labels(viewer: ViewerModel, image: Image, shape: Sequence[int]) -> Labels:
    """Put an empty labels layer over an image of that shape; what is active stays so."""
    data = empty_labels(shape)
    labels = Labels(
        data,
        multiscale=isinstance(data, list),
        name=f"{image.name} objects",
        scale=image.scale,
        translate=image.translate,
        rotate=image.rotate,
        shear=image.shear,
        affine=image.affine,
        units=image.units,
        axis_labels=image.axis_labels,
    )
    active = viewer.layers.selection.active
    viewer.layers.insert(viewer.layers.index(image) + 1, labels)
    viewer.layers.selection.active = active
    return labels


class LabelStore:
    """Reads and writes a labels layer; belongs to the thread of the window.

    Args:
        layer: of the image's shape.
        shape: the image's, without an axis of RGB.
        is_empty: whether it is known to hold nothing yet.

    Raises:
        UserError: another shape, or data that cannot be written.
    """

    def __init__(self, layer: Labels, shape: Sequence[int], is_empty: bool = False) -> None:
        self.layer = layer
        self._shape = tuple(shape)
        self.check()
        self._highest: int | None = 0 if is_empty else None
        # Where others have painted, objects may be larger than they were when they were written.
        self._is_ours = is_empty
        self._is_gathering = False
        self._is_telling = False
        self._written: list[_Edit] = []
        self._undone = self._count_undone()
        for event in (layer.events.paint, layer.events.data, layer.events.labels_update):
            event.connect(self._on_foreign)

    @property
    def data(self) -> Any:
        """The pixels in full resolution, of whatever array the layer has by now."""
        return self._levels()[0]

    def close(self) -> None:
        """Let go of the layer."""
        for event in (
            self.layer.events.paint,
            self.layer.events.data,
            self.layer.events.labels_update,
        ):
            event.disconnect(self._on_foreign)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Draw what is written inside once, at the end; for napari's undo it is one edit."""
        self._is_gathering = True
        try:
            yield
        finally:
            self._is_gathering = False
            self._tell()

    def next_label(self) -> int:
        """The number of the next object: above all that there are.

        Raises:
            UserError: the layer's numbers are used up.
        """
        self._follow_undo()
        most = int(np.iinfo(self.data.dtype).max)
        if self._highest is None:
            known = [_number(label) for label in self._objects()]
            in_range = [label for label in known if label <= most]
            self._highest = max([int(np.max(self.data)), *in_range])
        if self._highest >= most:
            raise UserError(
                f"{self.layer.name} has no free number left above {self._highest}: convert it to "
                "a larger type (right click on the layer), or choose a new one."
            )
        return self._highest + 1

    def at(self, plane: Plane, x: float, y: float) -> int:
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

    def extent_of(self, plane: Plane, label: int) -> Box | None:
        """An object's box in a plane, half open; None if it has no pixel there."""
        height, width = plane.size(self.data.shape)
        rows, columns = bounding_slices(self._read(plane, (0, 0, width, height)) == label)
        if rows.start == rows.stop:
            return None
        return columns.start, rows.start, columns.stop, rows.stop

    def mask_of(self, plane: Plane, label: int, box: Box) -> np.ndarray:
        """An object's pixels in a window: bool, h x w."""
        return self._read(plane, box) == label

    def placed(self, label: int, plane: Plane) -> Placed | None:
        """What an object was prompted with in a plane; None if that is not known."""
        return next((found for found in self._all_placed(label) if found.plane == plane), None)

    def planes_of(self, label: int) -> list[Plane]:
        """Where an object was put."""
        return [placed.plane for placed in self._all_placed(label)]

    def write(
        self,
        plane: Plane,
        box: Box,
        mask: np.ndarray | None,
        label: int,
        steps: Any = (),
        overwrite: bool = False,
    ) -> Change:
        """Put an object into a plane, in place of what it was there before.

        Args:
            plane: where.
            box: of the mask's window, half open.
            mask: bool, h x w; None to take the object away from the plane.
            label: its number.
            steps: what it was prompted with.
            overwrite: whether it may take pixels of other objects.

        Returns:
            for `revert`.

        Raises:
            UserError: the layer's data was replaced by other data that does not fit, or that
                cannot hold the number.
        """
        self.check()
        self._check_numbers(np.array([label]))
        self._follow_undo()
        before_objects = self._objects().get(str(label))
        old = self.placed(label, plane)
        # Its place is looked for only where there may be more of it than is known.
        old_extent = old.extent if old and self._is_ours else self._unknown_extent(plane, label)
        region = box if old_extent is None else _around(box, old_extent)
        before = self._read(plane, region).copy()
        after = np.where(before == label, 0, before)
        if mask is not None:
            left, top = box[0] - region[0], box[1] - region[1]
            window = after[top : top + mask.shape[0], left : left + mask.shape[1]]
            window[mask & ((window == 0) | overwrite)] = label
        self._set(plane, region, before, after)
        rows, columns = bounding_slices(after == label)
        placed = [found.to_json() for found in self._all_placed(label) if found.plane != plane]
        if mask is not None:
            is_there = rows.start != rows.stop
            x0, y0 = region[:2]
            new_extent = (
                (x0 + columns.start, y0 + rows.start, x0 + columns.stop, y0 + rows.stop)
                if is_there
                else None
            )
            placed.append(Placed(plane, tuple(steps), new_extent).to_json())
            if self._highest is not None:
                self._highest = max(self._highest, label)
        self._keep(label, placed or None)
        return Change(label, plane, region, before, after, before_objects)

    def revert(self, change: Change) -> bool:
        """Take a write back, where nobody has painted since.

        Returns:
            whether any pixel still held what was written.

        Raises:
            UserError: as `write`.
        """
        self.check()
        self._follow_undo()
        now = self._read(change.plane, change.box).copy()
        is_left = (change.before != change.after) & (now == change.after)
        restored = change.before[is_left]
        self._check_numbers(restored)
        after = now.copy()
        after[is_left] = restored
        self._set(change.plane, change.box, now, after)
        self._keep(change.label, change.objects)
        self._highest = None
        return bool(is_left.any())

    def _unknown_extent(self, plane: Plane, label: int) -> Box | None:
        if self._highest is not None and label > self._highest:
            return None
        return self.extent_of(plane, label)

    def _read(self, plane: Plane, box: Box) -> np.ndarray:
        values = np.asarray(self.data[plane.region(box)])
        return values.T if plane.is_transposed else values

    def _set(self, plane: Plane, box: Box, before: np.ndarray, after: np.ndarray) -> None:
        changed = before != after
        rows, columns = bounding_slices(changed)
        if rows.start == rows.stop:
            return
        x0, y0 = box[:2]
        part = (x0 + columns.start, y0 + rows.start, x0 + columns.stop, y0 + rows.stop)
        values = after[rows, columns].astype(self.data.dtype)
        self.data[plane.region(part)] = values.T if plane.is_transposed else values
        if self.layer.multiscale:
            for level, array in enumerate(self._levels()[1:], start=1):
                _shrink(self.data, array, plane, part, 2**level)
        elif _is_indexed_as_numpy(self.data):
            self._written.append(_edit(plane, box, changed, before, after))
        self._tell()

    def _tell(self) -> None:
        """Let napari draw what was written, and take it back in turn with what it paints."""
        if self._is_gathering:
            return
        written, self._written = self._written, []
        self._is_telling = True
        try:
            with self.layer.block_history():
                for edit in written:
                    # The public data_setitem writes as well, by arrays of indices whatever the
                    # data, and into what is drawn, which in a hidden layer is that of other data.
                    self.layer._save_history(edit)
        finally:
            self._is_telling = False
        self._undone = self._count_undone()
        self.layer.refresh(extent=False, thumbnail=False)

    def _levels(self) -> list[Any]:
        return list(self.layer.data) if self.layer.multiscale else [self.layer.data]

    def check(self) -> None:
        """Make sure that objects can still be read and written.

        Raises:
            UserError: the layer's data was replaced by other data that does not fit.
        """
        levels, name = self._levels(), self.layer.name
        if tuple(levels[0].shape) != self._shape:
            raise UserError(
                f"{name} is {' x '.join(map(str, levels[0].shape))} and the image is "
                f"{' x '.join(map(str, self._shape))}: choose labels of the same size, or a new "
                "layer."
            )
        shapes = [_shrunk(self._shape, level) for level in range(len(levels))]
        if not all(map(_is_writable, levels)) or [tuple(a.shape) for a in levels] != shapes:
            raise UserError(f"{name} cannot be written: choose a new layer for the labels.")

    def _check_numbers(self, numbers: np.ndarray) -> None:
        dtype = np.iinfo(self.data.dtype)
        lowest, highest = (int(extreme(numbers, initial=0)) for extreme in (np.min, np.max))
        if lowest < dtype.min or highest > dtype.max:
            raise UserError(
                f"{self.layer.name} holds numbers from {dtype.min} to {dtype.max}, and not "
                f"{highest if highest > dtype.max else lowest}: convert it to a larger type "
                "(right click on the layer), or choose a new one."
            )

    def _objects(self) -> dict[str, Any]:
        kept = self.layer.metadata.get(KEY)
        objects = kept.get("objects") if isinstance(kept, dict) else None
        return objects if isinstance(objects, dict) else {}

    def _all_placed(self, label: int) -> list[Placed]:
        values = self._objects().get(str(label))
        read = map(Placed.from_json, values if isinstance(values, list) else [])
        return [placed for placed in read if placed is not None]

    def _keep(self, label: int, placed: Any) -> None:
        objects = self._objects()
        if placed is None:
            objects.pop(str(label), None)
        else:
            objects[str(label)] = placed
        kept = self.layer.metadata.get(KEY)
        others = kept if isinstance(kept, dict) else {}
        self.layer.metadata[KEY] = {**others, "objects": objects}

    def _count_undone(self) -> int:
        return len(self.layer._redo_history)

    def _follow_undo(self) -> None:
        # napari's undo and redo bring objects back, and tell nobody.
        undone = self._count_undone()
        if undone != self._undone:
            self._undone = undone
            self._on_foreign()

    def _on_foreign(self) -> None:
        if self._is_telling:
            return
        self._highest = None
        self._is_ours = False


def _number(key: Any) -> int:
    """A label from the metadata; 0 if it is none."""
    return int(key) if isinstance(key, str) and key.isdecimal() and len(key) < 20 else 0


def _edit(
    plane: Plane, box: Box, changed: np.ndarray, before: np.ndarray, after: np.ndarray
) -> _Edit:
    """A change as napari's undo takes it back: of nothing but the pixels that it concerns."""
    rows, columns = np.nonzero(changed)
    places = {plane.axes[0]: rows + box[1], plane.axes[1]: columns + box[0]}
    where = (
        np.asarray(places.get(axis, np.full(len(rows), at)), np.int32)
        for axis, at in enumerate(plane.index)
    )
    return tuple(where), before[changed], after[changed]


def _is_indexed_as_numpy(array: Any) -> bool:
    """Whether arrays of indices mean single pixels, as napari's undo takes it."""
    return isinstance(array, np.ndarray) or type(array).__module__.startswith("zarr")


def _is_writable(array: Any) -> bool:
    if not hasattr(array, "__setitem__") or type(array).__module__.startswith("dask"):
        return False
    is_read_only = getattr(array, "read_only", False)
    return not is_read_only and bool(getattr(getattr(array, "flags", None), "writeable", True))


def _shrunk(shape: Sequence[int], level: int) -> tuple[int, ...]:
    """The shape of a pyramid's level."""
    step = 2**level
    return (*shape[:-2], *(-(-length // step) for length in shape[-2:]))


def _around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _shrink(full: Any, small: Any, plane: Plane, box: Box, step: int) -> None:
    """Bring a part of a pyramid's first level to another, of which a pixel is `step` wide."""
    last = len(full.shape) - 2
    source: list[int | slice] = list(plane.index)
    target: list[int | slice] = list(plane.index)
    spans = {plane.axes[0]: (box[1], box[3]), plane.axes[1]: (box[0], box[2])}
    for axis, (start, stop) in spans.items():
        if axis < last:
            source[axis] = target[axis] = slice(start, stop)
        else:
            first = -(-start // step)
            source[axis] = slice(first * step, stop, step)
            target[axis] = slice(first, -(-stop // step))
    for axis in range(last, len(full.shape)):
        if axis not in spans:
            # A plane across the rows or columns shows in the pyramid only where it is sampled.
            if plane.index[axis] % step:
                return
            target[axis] = plane.index[axis] // step
    small[tuple(target)] = full[tuple(source)]
