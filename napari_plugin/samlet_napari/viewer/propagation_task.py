"""Following an object through the slices of a stack."""

from collections.abc import Callable, Iterator

from samlet.errors import UserError
from samlet.utils.messages import pluralize
from samlet_napari.inference.objects import FoundObject, ObjectInPlane
from samlet_napari.inference.propagate import propagate
from samlet_napari.layers.plane import Plane
from samlet_napari.viewer.workspace import Workspace


class PropagationTask:
    """Propagates the object through the slices after this one, or before it.

    A slice in which the user has clicked on the object is never overwritten: propagation ends
    before it. Slices up to there to which it was propagated before are replaced, or cleared.

    Args:
        workspace: whose object: the one being clicked, or else the last one.
        forward: whether to the slices after this one.

    Raises:
        UserError: there is no object, or no stack, or no slice to go to.
    """

    def __init__(self, workspace: Workspace, forward: bool) -> None:
        self._workspace = workspace
        self._embeddings = workspace.require_embeddings()
        self._label, self._start, self._store = workspace.committed_object()
        view = workspace.view()
        axis = view.slice_axis(self._start)
        if axis is None:
            raise UserError("This image is not a stack: there are no other slices.")
        self._axis = axis
        self._has_other_axes = len(view.slice_axes(self._start)) > 1
        # It may have been painted on since it was written.
        box = self._store.bounding_box(self._start, self._label)
        if box is None:
            raise UserError(f"Object {self._label} has no pixel in this slice: click on it first.")
        self._box = box
        self._mask = self._store.mask_of(self._start, self._label, box)
        self._visible_size = view.visible_size()
        self._done: list[Plane] = []
        self._choose_planes(forward)

    def _choose_planes(self, forward: bool) -> None:
        here, count = self._start.index[self._axis], self._embeddings.snapshot.shape[self._axis]
        indices = range(here + 1, count) if forward else range(here - 1, -1, -1)
        planes = [self._start.moved(self._axis, index) for index in indices]
        if not planes:
            where = "after" if forward else "before"
            raise UserError(f"There is no slice {where} this one: propagate the other way.")
        self._first_index = indices[0]
        known = [self._store.metadata.object_in(self._label, plane) for plane in planes]
        # What the user has clicked in a slice stays.
        end = next((i for i, each in enumerate(known) if _has_clicks(each)), None)
        self._ends_at_clicks = end is not None
        self._planes = planes[:end]
        self._stale = [plane for plane, each in zip(self._planes, known, strict=False) if each]
        if not self._planes:
            raise UserError(
                f"You have clicked on object {self._label} in slice {self._first_index}, which is "
                "never overwritten: go there, press E on it, and propagate from there."
            )

    def run(self, progress: Callable[[float], None]) -> Iterator[list[FoundObject]]:
        """Follow the object; see `Task`."""
        found = propagate(
            self._embeddings, self._start, self._box, self._mask, self._planes, self._visible_size
        )
        for count, each in enumerate(found, start=1):
            yield [each]
            progress(count / len(self._planes))

    def write(self, found: list[FoundObject]) -> None:
        """Write the object in the next slice, and show that; see `Task`."""
        session = self._workspace.session
        if session is None or session.labels.store is not self._store:
            return
        plane = found[0].plane
        is_painted = (
            self._store.metadata.object_in(self._label, plane) is None
            and self._store.bounding_box(plane, self._label) is not None
        )
        if is_painted:
            raise UserError(
                f"Object {self._label} was propagated through "
                f"{pluralize(len(self._done), 'slice')}, up to slice {plane.index[self._axis]}, "
                "where it was painted by hand, which is never overwritten: press E on it there, "
                "and propagate from there."
            )
        session.labels.write_objects(found, self._label, continues=bool(self._done))
        self._done.append(plane)
        self._workspace.view().go_to(plane)

    def finish(self) -> str:
        """Clear slices that the object does not reach any more; see `Task`."""
        self._clear_stale()
        if not self._done:
            remedy = ", or first move the slider to follow" if self._has_other_axes else ""
            return (
                f"Object {self._label} was not found in slice {self._first_index} of axis "
                f"{self._axis}: click on it there{remedy}."
            )
        is_complete = len(self._done) == len(self._planes)
        end = f"slice {self._done[-1].index[self._axis]}"
        if is_complete:
            clicked = f"{end}, before one that you have clicked in"
            end = clicked if self._ends_at_clicks else "the end of the stack"
        return (
            f"Object {self._label} was propagated through {pluralize(len(self._done), 'slice')}, "
            f"up to {end}. Correct a slice with E and clicks, and propagate again from there."
        )

    def _clear_stale(self) -> None:
        session = self._workspace.session
        gone = [plane for plane in self._stale if plane not in self._done]
        if session is not None and session.labels.store is self._store and gone:
            removals = [FoundObject(plane, (), self._box, None) for plane in gone]
            session.labels.write_objects(removals, self._label, continues=bool(self._done))


def _has_clicks(known: ObjectInPlane | None) -> bool:
    return known is not None and any(step.points for step in known.steps)
