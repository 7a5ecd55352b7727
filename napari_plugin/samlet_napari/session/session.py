"""What a user does to one image: objects that are being clicked, committed and taken back.

There is no window in here: prompts come in, questions go out, answers come in, and what is to be
seen is read from the attributes. Everything happens in the caller's thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

import numpy as np

from samlet.errors import UserError
from samlet.masks import Box
from samlet_napari.inference.prompts import CANDIDATES, Placed, Point, Step, Steps, extent_of
from samlet_napari.inference.roi import Extent, Window, window_for
from samlet_napari.inference.worker import Answer, Ask, Kind, shown
from samlet_napari.labels.label_store import Change, LabelStore
from samlet_napari.layers.layer_reader import Plane

UNDO_STEPS = 100
NO_LABELS = "There are no labels to write to: choose an image."


class Asked(Protocol):
    """Who answers questions; see `samlet_napari.inference.worker.Answerer`."""

    def ask(self, ask: Ask) -> None:
        """Ask."""

    def forget(self, number: int) -> None:
        """Drop a question."""


@dataclass
class Draft:
    """An object that is not committed yet.

    Attributes:
        number: tells it from others.
        plane: where it is.
        steps: its prompts.
        label: the number that it had, if it was committed before.
        answer: to `steps`; that to fewer of them while the model is busy.
        is_done: whether it is to be committed as soon as it is answered.
        windows: where the model was asked to look, by the number of steps.
    """

    number: int
    plane: Plane
    steps: Steps
    label: int | None = None
    answer: Answer | None = None
    is_done: bool = False
    windows: dict[int, Window] = field(default_factory=dict)

    @property
    def is_answered(self) -> bool:
        """Whether the answer is to all of the prompts."""
        return self.answer is not None and self.answer.ask.steps == self.steps


class Session:
    """Clicks on one image.

    Args:
        asked: answers questions; the answers are to be handed to `take`.
        size_of: gives height and width of a plane.
        side: of the model's input.

    Attributes:
        draft: the object that is being clicked; None if there is none.
        hover: the latest answer to what lies under the cursor; None if the cursor is elsewhere.
        store: where objects are committed to; None if there is no labels layer yet.
        size_of: gives height and width of a plane.
        side: of the model's input.
        visible: pixels along the longer side of what the user sees.
        auto_commit: whether each click is an object.
        overwrite: whether objects take pixels of others.
        error: what went wrong last, as a sentence; "" if nothing did.
        last: label and plane of the object that was committed last.
    """

    def __init__(
        self, asked: Asked, size_of: Callable[[Plane], tuple[int, int]], side: int
    ) -> None:
        self._asked = asked
        self.size_of = size_of
        self.side = side
        self._numbers = count(1)
        self._pending: dict[int, Draft] = {}
        self._history: list[list[Change]] = []
        self._latest_put: list[Change] = []
        self._hovered: Ask | None = None
        self.draft: Draft | None = None
        self.hover: Answer | None = None
        self.store: LabelStore | None = None
        self.visible = float(side)
        self.auto_commit = False
        self.overwrite = False
        self.error = ""
        self.last: tuple[int, Plane] | None = None

    def write_to(self, store: LabelStore | None) -> None:
        """Commit to other labels from now on; what was committed elsewhere stays there."""
        if self.store is not None:
            self.store.close()
        self.store = store
        self._history.clear()
        self.last = None

    def click(self, plane: Plane, x: float, y: float, positive: bool = True) -> None:
        """Add a point, or with `auto_commit` a whole object."""
        self.scribble(plane, [(x, y)], positive)

    def scribble(
        self, plane: Plane, points: Sequence[tuple[float, float]], positive: bool = True
    ) -> None:
        """Add several points at once; those outside the image count as on its border."""
        height, width = self.size_of(plane)
        inside: list[Point] = [
            (min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0), positive)
            for x, y in points
        ]
        self._add(plane, Step(tuple(inside)))

    def draw_box(self, plane: Plane, box: Extent) -> None:
        """Add a box, given by two opposite corners; it replaces one that was drawn before.

        Raises:
            UserError: it is empty, or outside the image.
        """
        height, width = self.size_of(plane)
        x0, x1 = sorted((box[0], box[2]))
        y0, y1 = sorted((box[1], box[3]))
        clipped = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if clipped[2] - clipped[0] < 1 or clipped[3] - clipped[1] < 1:
            raise UserError("The box holds no pixel of the image: drag it over the object.")
        self._add(plane, Step(box=clipped))

    def point_at(self, plane: Plane, x: float, y: float) -> None:
        """The cursor is here: ask what it lies on, unless an object is being clicked."""
        height, width = self.size_of(plane)
        if self.draft is not None or not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            self.point_nowhere()
            return
        steps = (Step(((x, y, True),)),)
        self._hovered = self._question("hover", 0, plane, steps)
        self._asked.ask(self._hovered)

    def point_nowhere(self) -> None:
        """The cursor is outside the image, or the preview is off."""
        self.hover = self._hovered = None

    def take(self, answer: Answer) -> bool:
        """Take in an answer, and commit what waited for it.

        Returns:
            whether something is to be seen that was not before.
        """
        if answer.ask.kind != "object":
            # After a click, or once the cursor has left, an answer on its way is old.
            if self._hovered is None or self.draft is not None:
                return False
            self.hover = answer if answer.masks is not None else None
            self.error = answer.error or self.error
            return True
        draft = self._pending.get(answer.ask.number)
        if draft is None and self.draft is not None and self.draft.number == answer.ask.number:
            draft = self.draft
        if draft is None:
            return False
        self.error = answer.error
        draft.answer = answer
        if answer.masks is None:
            self._pending.pop(draft.number, None)
            self.draft = None if draft is self.draft else self.draft
        elif draft.is_done and draft.is_answered:
            del self._pending[draft.number]
            try:
                self._write(draft)
            except UserError as error:
                self.error = str(error)
        return True

    def commit(self) -> None:
        """Put the object into the labels, now or once it is answered; then begin a new one.

        Raises:
            UserError: there is no object, or no labels layer.
        """
        draft = self.draft
        if draft is None:
            raise UserError("There is no object yet: click on one first.")
        if self.store is None:
            raise UserError(NO_LABELS)
        if draft.is_answered:
            self._write(draft)
        else:
            draft.is_done = True
            self._pending[draft.number] = draft
        self.draft = None

    def undo(self) -> str:
        """Take back the last prompt of the object, or else the last commit.

        Returns:
            what was taken back, in a few words; "" if there was nothing.

        Raises:
            UserError: the labels cannot be written any more.
        """
        if self.draft is not None:
            steps = self.draft.steps[:-1]
            self._asked.forget(self.draft.number)
            self.draft.windows.pop(len(self.draft.steps), None)
            if not steps:
                self.draft = None
                return "the object"
            self.draft.steps = steps
            self._ask(self.draft)
            return "the last prompt"
        if self._pending:
            number, _ = self._pending.popitem()
            self._asked.forget(number)
            return "the last object"
        if self._history and self.store is not None:
            with self.store.gathered():
                is_left = [self.store.revert(change) for change in reversed(self._history[-1])]
            self._history.pop()
            self.last = None
            return "the last commit" + ("" if any(is_left) else ", of which no pixel was left")
        return ""

    def cancel(self) -> None:
        """Drop the object that is being clicked."""
        if self.draft is not None:
            self._asked.forget(self.draft.number)
        self.draft = None

    def next_candidate(self) -> None:
        """Show another of three masks that fit the prompts.

        Raises:
            UserError: there is no object, or it is not answered yet.
        """
        draft = self.draft
        if draft is None or not draft.is_answered:
            raise UserError("There is no mask yet: click on an object first.")
        assert draft.answer is not None and draft.answer.masks is not None
        masks, step = draft.answer.masks, draft.steps[-1]
        is_one = len(masks.masks) == 1
        choice = 0 if is_one else (shown(step, masks) + 1) % CANDIDATES
        draft.steps = (*draft.steps[:-1], replace(step, choice=choice))
        self._ask(draft)

    def edit(self, plane: Plane, x: float, y: float) -> int:
        """Take up a committed object again, with the prompts that it had.

        Of an object that nobody has prompted, its box is the prompt.

        Returns:
            its label.

        Raises:
            UserError: there is no object at that point.
        """
        label = 0 if self.store is None else self.store.at(plane, x, y)
        if self.store is None or label == 0:
            raise UserError("There is no object here: point at one in the labels.")
        placed = self.store.placed(label, plane)
        steps = placed.steps if placed is not None else ()
        if not steps:
            extent = self.store.extent_of(plane, label)
            assert extent is not None
            steps = (Step(box=(extent[0], extent[1], extent[2], extent[3])),)
        self.cancel()
        self.draft = Draft(next(self._numbers), plane, steps, label)
        self.last = (label, plane)
        self._ask(self.draft)
        return label

    def put(
        self,
        objects: Sequence[tuple[Placed, Box, np.ndarray | None]],
        label: int | None = None,
        goes_on: bool = False,
    ) -> int:
        """Write what was found in other ways than by clicks.

        Args:
            objects: where each is and what it was prompted with, the window of its mask, and the
                mask; None takes it away.
            label: of all of them, in place of what had it there; None gives each a new one, and
                leaves out those of which less than half is free.
            goes_on: whether this and what was put before are taken back together.

        Returns:
            how many were written.

        Raises:
            UserError: the labels cannot be written, or only some of the objects.
        """
        store = self.store
        assert store is not None
        changes: list[Change] = []
        try:
            with store.gathered():
                for placed, box, mask in objects:
                    plane = placed.plane
                    if label is None and (mask is None or not self._is_free(plane, box, mask)):
                        continue
                    number = store.next_label() if label is None else label
                    changes.append(
                        store.write(plane, box, mask, number, placed.steps, self.overwrite)
                    )
        finally:
            # Meanwhile the user may have committed something, or taken the first part back.
            if goes_on and any(kept is self._latest_put for kept in self._history):
                self._latest_put += changes
            else:
                self._latest_put = changes
                self._keep(changes)
        return len(changes)

    def _is_free(self, plane: Plane, box: Box, mask: np.ndarray) -> bool:
        if self.overwrite or self.store is None:
            return True
        taken = mask & ~self.store.mask_of(plane, 0, box)
        return 2 * np.count_nonzero(taken) < np.count_nonzero(mask)

    def ask_again(self) -> None:
        """Ask about the open objects again, since the image or the model is another."""
        self.point_nowhere()
        for draft in [*self._pending.values(), *([self.draft] if self.draft else [])]:
            draft.answer = None
            draft.windows.clear()
            self._ask(draft)

    @property
    def waiting(self) -> int:
        """Objects that wait for the model."""
        is_open = self.draft is not None and not self.draft.is_answered
        return len(self._pending) + is_open

    def _add(self, plane: Plane, step: Step) -> None:
        self.point_nowhere()
        if self.draft is None or self.draft.plane != plane:
            self.cancel()
            self.draft = Draft(next(self._numbers), plane, ())
        self.draft.steps = (*self.draft.steps, step)
        self._ask(self.draft)
        if self.auto_commit and self.draft.label is None:
            self.commit()

    def _ask(self, draft: Draft) -> None:
        ask = self._question("object", draft.number, draft.plane, draft.steps)
        count, extent = len(draft.steps), extent_of(draft.steps)
        # Zooming must not change what the model sees of an object, unless it does not fit any more.
        before = draft.windows.get(count) or draft.windows.get(count - 1)
        if before is not None and before.holds(extent):
            ask = replace(ask, window=before)
        draft.windows[count] = ask.window
        self._asked.ask(ask)

    def _question(self, kind: Kind, number: int, plane: Plane, steps: Steps) -> Ask:
        return Ask(kind, number, self.window(plane, extent_of(steps)), steps)

    def window(self, plane: Plane, extent: Extent) -> Window:
        """What the model would look at to answer prompts."""
        return window_for(plane, self.size_of(plane), extent, self.visible, self.side)

    def _write(self, draft: Draft) -> None:
        if self.store is None:
            raise UserError(NO_LABELS)
        assert draft.answer is not None and draft.answer.mask is not None
        mask = draft.answer.mask
        label = self.store.next_label() if draft.label is None else draft.label
        window = draft.answer.ask.window
        self._keep(
            [self.store.write(draft.plane, window.box, mask, label, draft.steps, self.overwrite)]
        )
        self.last = (label, draft.plane)

    def _keep(self, changes: list[Change]) -> None:
        if changes:
            self._history.append(changes)
        del self._history[:-UNDO_STEPS]
