"""Finding all objects of a plane or of all slices, or those in view."""

from collections.abc import Callable, Iterator

from samlet.utils.messages import pluralize
from samlet_napari.inference.everything import find_linked_objects, find_objects
from samlet_napari.inference.objects import FoundObject
from samlet_napari.viewer.workspace import Workspace

BATCH_SIZE = 50
"""Objects that are written at once: the GUI responds between two batches."""


class EverythingTask:
    """Finds all objects of the plane that is shown, or of what of it is in view.

    Args:
        workspace: whose image.
        only_visible: whether only objects entirely in view are wanted.
        all_slices: whether those of all slices are wanted, if the image is a stack: objects that
            overlap from slice to slice get the same label.

    Raises:
        UserError: there is no image, or it is not opened, or its labels cannot be written.
    """

    def __init__(self, workspace: Workspace, only_visible: bool, all_slices: bool = False) -> None:
        self._workspace = workspace
        self._only_visible = only_visible
        self._embeddings = workspace.require_embeddings()
        view = workspace.view()
        shown = view.plane()
        axis = view.slice_axis(shown) if all_slices else None
        self._planes = [shown]
        if axis is not None:
            self._planes = [shown.moved(axis, index) for index in range(view.shape[axis])]
        self._which_axis = f" of axis {axis}" if len(view.slice_axes(shown)) > 1 else ""
        height, width = self._embeddings.snapshot.size(shown)
        self._box = view.visible_box() if only_visible else (0, 0, width, height)
        workspace.label_store()
        self._count = 0
        self._track_labels: dict[int, int] = {}

    def run(self, progress: Callable[[float], None]) -> Iterator[list[FoundObject]]:
        """Find the objects; see `Task`."""
        if len(self._planes) == 1:
            slices = iter([find_objects(self._embeddings, self._planes[0], self._box, progress)])
        else:
            slices = find_linked_objects(self._embeddings, self._planes, self._box, progress)
        for found in slices:
            for first in range(0, len(found), BATCH_SIZE):
                yield found[first : first + BATCH_SIZE]

    def write(self, found: list[FoundObject]) -> None:
        """Write a batch; see `Task`."""
        session = self._workspace.session
        if session is not None and session.labels.store is not None:
            self._count += session.labels.write_objects(
                found, continues=self._count > 0, track_labels=self._track_labels
            )

    def finish(self) -> str:
        """Say how many were found; see `Task`."""
        where = "the view" if self._only_visible else "the image"
        if len(self._planes) > 1:
            where += f" in {len(self._planes)} slices{self._which_axis}"
        if self._count == 0:
            return f"Found no objects in {where} other than those already in the labels."
        count = len(self._track_labels) or self._count
        return f"Found {pluralize(count, 'object')} in {where}. Z undoes them together."
