"""What a user does to one image: objects that are being clicked, committed and undone.

There is no viewer in here: prompts come in, requests go out, responses come in, and what is to be
shown is read from the attributes. Everything happens in the caller's thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Protocol

from samlet.errors import UserError
from samlet_napari.inference.prompts import CANDIDATES, Point, Step, Steps, prompt_box
from samlet_napari.inference.requests import Kind, Request, Response, chosen_index
from samlet_napari.inference.roi import FloatBox, Roi, choose_roi
from samlet_napari.layers.plane import Plane
from samlet_napari.session.draft import Draft
from samlet_napari.session.label_writer import LabelWriter
from samlet_napari.session.similar_objects import SimilarObjects


class RequestQueue(Protocol):
    """Who takes requests; see `samlet_napari.inference.worker.InferenceWorker`."""

    def submit(self, request: Request) -> None:
        """Add a request."""

    def drop(self, number: int) -> None:
        """Drop the request for an object."""


class Session:
    """Clicks on one image.

    Args:
        requests: takes requests; their responses are to be given to `receive`.
        plane_size: gives height and width of a plane.
        input_size: side of the model's input, in pixels.

    Attributes:
        draft: the object that is being clicked; None if there is none.
        hover_response: the latest to what lies under the cursor; None if the cursor is elsewhere.
        similar: objects that were found and are not committed yet; None if there are none.
        labels: writes what is committed.
        plane_size: gives height and width of a plane.
        input_size: side of the model's input, in pixels.
        visible_size: pixels along the longer side of what the user sees.
        auto_commit: whether each click is an object.
        error: what went wrong last, as a sentence; "" if nothing did.
    """

    def __init__(
        self,
        requests: RequestQueue,
        plane_size: Callable[[Plane], tuple[int, int]],
        input_size: int,
    ) -> None:
        self._requests = requests
        self.plane_size = plane_size
        self.input_size = input_size
        self._numbers = count(1)
        self._pending: dict[int, Draft] = {}
        self._hovered: Request | None = None
        self.draft: Draft | None = None
        self.hover_response: Response | None = None
        self.similar: SimilarObjects | None = None
        self.labels = LabelWriter()
        self.visible_size = float(input_size)
        self.auto_commit = False
        self.error = ""

    def click(self, plane: Plane, x: float, y: float, positive: bool = True) -> None:
        """Add a point, or with `auto_commit` a whole object."""
        self.scribble(plane, [(x, y)], positive)

    def scribble(
        self, plane: Plane, points: Sequence[tuple[float, float]], positive: bool = True
    ) -> None:
        """Add several points at once; those outside the image are moved to its border."""
        height, width = self.plane_size(plane)
        inside: list[Point] = [
            (min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0), positive)
            for x, y in points
        ]
        self._add(plane, Step(tuple(inside)))

    def draw_box(self, plane: Plane, box: FloatBox) -> None:
        """Add a box, given by two opposite corners; it replaces one that was drawn before.

        Raises:
            UserError: it is empty, or outside the image.
        """
        height, width = self.plane_size(plane)
        x0, x1 = sorted((box[0], box[2]))
        y0, y1 = sorted((box[1], box[3]))
        clipped = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if clipped[2] - clipped[0] < 1 or clipped[3] - clipped[1] < 1:
            raise UserError("The box contains no pixel of the image: drag it over the object.")
        self._add(plane, Step(box=clipped))

    def hover(self, plane: Plane, x: float, y: float) -> None:
        """The cursor is here: request what lies under it, unless other objects are shown."""
        height, width = self.plane_size(plane)
        is_shown = self.draft is not None or self.similar is not None
        if is_shown or not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            self.clear_hover()
            return
        steps = (Step(((x, y, True),)),)
        self._hovered = self._make_request("hover", 0, plane, steps)
        self._requests.submit(self._hovered)

    def clear_hover(self) -> None:
        """The cursor is outside the image, or the preview is off."""
        self.hover_response = self._hovered = None

    def receive(self, response: Response) -> bool:
        """Take in a response, and write an object that was committed before it came.

        Returns:
            whether what is shown changes.
        """
        if response.request.kind != "object":
            # After a click, or once the cursor has left, a response on its way is outdated.
            if self._hovered is None or self.draft is not None or self.similar is not None:
                return False
            self.hover_response = response if response.prediction is not None else None
            self.error = response.error or self.error
            return True
        number = response.request.number
        draft = self._pending.get(number)
        if draft is None and self.draft is not None and self.draft.number == number:
            draft = self.draft
        if draft is None:
            return False
        self.error = response.error
        draft.response = response
        if response.prediction is None:
            self._pending.pop(draft.number, None)
            self.draft = None if draft is self.draft else self.draft
        elif draft.is_committed and draft.is_complete:
            del self._pending[draft.number]
            try:
                self._write(draft)
            except UserError as error:
                self.error = str(error)
        return True

    def commit(self) -> None:
        """Write the object to the labels, now or once it is complete; then start a new one.

        Without one, similar objects are written.

        Raises:
            UserError: there is no object, or no labels layer.
        """
        draft = self.draft
        if draft is None and self.similar is not None:
            self.labels.write_objects(self.similar.kept)
            self.similar = None
            return
        if draft is None:
            raise UserError("There is no object yet: click on one first.")
        self.labels.require_store()
        if draft.is_complete:
            self._write(draft)
        else:
            draft.is_committed = True
            self._pending[draft.number] = draft
        self.draft = None

    def undo(self) -> str:
        """Undo the last prompt of the object, or else the last commit.

        Returns:
            what was undone, in a few words; "" if there was nothing.

        Raises:
            UserError: the labels cannot be written any more.
        """
        if self.draft is not None:
            steps = self.draft.steps[:-1]
            self._requests.drop(self.draft.number)
            self.draft.rois.pop(len(self.draft.steps), None)
            if not steps:
                self.draft = None
                return "the object"
            self.draft.steps = steps
            self._submit(self.draft)
            return "the last prompt"
        if self._pending:
            number, _ = self._pending.popitem()
            self._requests.drop(number)
            return "the last object"
        if self.similar is not None:
            self.similar = None
            return "the search for similar objects"
        return self.labels.undo()

    def cancel(self) -> None:
        """Drop the object that is being clicked, or else the similar ones."""
        if self.draft is None:
            self.similar = None
        self._drop_draft()

    def next_candidate(self) -> None:
        """Show another of three masks that fit the prompts.

        Raises:
            UserError: there is no object, or it is not complete yet.
        """
        draft = self.draft
        if draft is None or not draft.is_complete:
            raise UserError("There is no mask yet: click on an object first.")
        assert draft.response is not None and draft.response.prediction is not None
        prediction, step = draft.response.prediction, draft.steps[-1]
        is_single = len(prediction.masks) == 1
        choice = 0 if is_single else (chosen_index(step, prediction) + 1) % CANDIDATES
        draft.steps = (*draft.steps[:-1], replace(step, choice=choice))
        self._submit(draft)

    def edit(self, plane: Plane, x: float, y: float) -> int:
        """Open a committed object again, with the prompts that it had.

        An object without known prompts is prompted with its box.

        Returns:
            its label.

        Raises:
            UserError: there is no object at that point.
        """
        store = self.labels.store
        label = 0 if store is None else store.label_at(plane, x, y)
        if store is None or label == 0:
            raise UserError("There is no object here: point at one in the labels.")
        known = store.metadata.object_in(label, plane)
        steps = known.steps if known is not None else ()
        if not steps:
            box = store.bounding_box(plane, label)
            assert box is not None
            steps = (Step(box=(box[0], box[1], box[2], box[3])),)
        self._drop_draft()
        self.draft = Draft(next(self._numbers), plane, steps, label)
        self.labels.last = (label, plane)
        self._submit(self.draft)
        return label

    def resubmit(self) -> None:
        """Submit the open objects again, since the image or the model is another."""
        self.clear_hover()
        for draft in [*self._pending.values(), *([self.draft] if self.draft else [])]:
            draft.response = None
            draft.rois.clear()
            self._submit(draft)

    @property
    def waiting(self) -> int:
        """How many objects wait for the model."""
        is_open = self.draft is not None and not self.draft.is_complete
        return len(self._pending) + is_open

    @property
    def is_writing(self) -> bool:
        """Whether an object is committed, but not written yet, since the model has not had it."""
        return bool(self._pending)

    def roi_for(self, plane: Plane, prompts: FloatBox) -> Roi:
        """The ROI for prompts, of which the box is given."""
        return choose_roi(
            plane, self.plane_size(plane), prompts, self.visible_size, self.input_size
        )

    def _add(self, plane: Plane, step: Step) -> None:
        self.clear_hover()
        if self.draft is None or self.draft.plane != plane:
            self._drop_draft()
            self.draft = Draft(next(self._numbers), plane, ())
        self.draft.steps = (*self.draft.steps, step)
        self._submit(self.draft)
        if self.auto_commit and self.draft.label is None:
            self.commit()

    def _drop_draft(self) -> None:
        if self.draft is not None:
            self._requests.drop(self.draft.number)
        self.draft = None

    def _submit(self, draft: Draft) -> None:
        request = self._make_request("object", draft.number, draft.plane, draft.steps)
        count, prompts = len(draft.steps), prompt_box(draft.steps)
        # Zooming must not change what the model sees of an object, unless it does not fit any more.
        before = draft.rois.get(count) or draft.rois.get(count - 1)
        if before is not None and before.contains(prompts):
            request = replace(request, roi=before)
        draft.rois[count] = request.roi
        self._requests.submit(request)

    def _make_request(self, kind: Kind, number: int, plane: Plane, steps: Steps) -> Request:
        return Request(kind, number, self.roi_for(plane, prompt_box(steps)), steps)

    def _write(self, draft: Draft) -> None:
        assert draft.response is not None and draft.response.mask is not None
        box = draft.response.request.roi.box
        self.labels.write(draft.plane, box, draft.response.mask, draft.label, draft.steps)
