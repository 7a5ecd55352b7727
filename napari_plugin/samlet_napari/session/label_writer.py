"""Objects on their way into the labels, and back out of them."""

from collections.abc import Iterable

import numpy as np

from samlet.errors import UserError
from samlet.masks import Box
from samlet_napari.inference.objects import FoundObject
from samlet_napari.inference.prompts import Steps
from samlet_napari.labels.label_store import Change, LabelStore
from samlet_napari.layers.plane import Plane

UNDO_STEPS = 100


class LabelWriter:
    """Writes objects to a labels layer, and undoes that.

    Attributes:
        store: where objects are written; None if there is no labels layer yet.
        overwrite: whether objects take pixels of others.
        last: label and plane of the object that was written last by clicks; None if there is none.
    """

    def __init__(self) -> None:
        self.store: LabelStore | None = None
        self.overwrite = False
        self.last: tuple[int, Plane] | None = None
        self._clicked: list[tuple[int, Plane]] = []
        self._history: list[list[Change]] = []
        self._latest_batch: list[Change] = []

    def set_store(self, store: LabelStore | None) -> None:
        """Write to other labels from now on; what was written elsewhere stays there."""
        if self.store is not None:
            self.store.close()
        self.store = store
        self._history.clear()
        self._clicked.clear()
        self.last = None

    def latest_labels(self, plane: Plane) -> list[int]:
        """Labels of a plane, the latest first: of objects from clicks, or else of all objects."""
        clicked = [label for label, place in reversed(self._clicked) if place == plane]
        return list(dict.fromkeys(clicked)) or self.require_store().labels_in(plane)[::-1]

    def require_store(self) -> LabelStore:
        """Where objects are written.

        Raises:
            UserError: there is no labels layer.
        """
        if self.store is None:
            raise UserError("There are no labels to write to: choose an image.")
        return self.store

    def write(
        self, plane: Plane, box: Box, mask: np.ndarray, label: int | None, steps: Steps
    ) -> None:
        """Write an object; see `LabelStore.write`.

        Args:
            plane: of the object.
            box: of the mask, half open.
            mask: bool, h x w.
            label: None gives it a new one.
            steps: its prompts.

        Raises:
            UserError: the labels cannot be written.
        """
        store = self.require_store()
        number = store.next_label() if label is None else label
        self._add_to_history([store.write(plane, box, mask, number, steps, self.overwrite)])
        self.last = (number, plane)
        self._clicked.append(self.last)

    def write_objects(
        self,
        objects: Iterable[FoundObject],
        label: int | None = None,
        continues: bool = False,
        track_labels: dict[int, int] | None = None,
    ) -> int:
        """Write what was found in other ways than by clicks.

        Args:
            objects: to write; without a mask they are taken away.
            label: of all of them, in place of what had it there; None gives each a new one, and
                leaves out those of which less than half is free.
            continues: whether this and the objects written before are undone together.
            track_labels: the labels of tracks that have been written before, which further slices
                of them get; labels of new tracks are added.

        Returns:
            how many were written.

        Raises:
            UserError: the labels cannot be written, or only some of the objects.
        """
        store = self.require_store()
        labels = {} if track_labels is None else track_labels
        changes: list[Change] = []
        try:
            with store.batch():
                for plane, steps, box, mask, track in objects:
                    if label is None and (mask is None or not self._is_free(plane, box, mask)):
                        continue
                    number = label if track is None else labels.get(track)
                    number = store.next_label() if number is None else number
                    changes.append(store.write(plane, box, mask, number, steps, self.overwrite))
                    if track is not None:
                        labels[track] = number
        finally:
            # Meanwhile the user may have committed something, or undone the first part.
            if continues and any(batch is self._latest_batch for batch in self._history):
                self._latest_batch += changes
            else:
                self._latest_batch = changes
                self._add_to_history(changes)
        return len(changes)

    def undo(self) -> str:
        """Undo the last write, or the last batch of writes.

        Returns:
            what was undone, in a few words; "" if there was nothing.

        Raises:
            UserError: the labels cannot be written any more.
        """
        if not self._history or self.store is None:
            return ""
        with self.store.batch():
            is_left = [self.store.revert(change) for change in reversed(self._history[-1])]
        self._history.pop()
        self.last = None
        return "the last commit" + ("" if any(is_left) else ", of which no pixel was left")

    def _is_free(self, plane: Plane, box: Box, mask: np.ndarray) -> bool:
        if self.overwrite or self.store is None:
            return True
        taken = mask & ~self.store.mask_of(plane, 0, box)
        return 2 * np.count_nonzero(taken) < np.count_nonzero(mask)

    def _add_to_history(self, changes: list[Change]) -> None:
        if changes:
            self._history.append(changes)
        del self._history[:-UNDO_STEPS]
