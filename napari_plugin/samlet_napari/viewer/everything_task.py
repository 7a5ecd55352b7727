"""Finding all objects of a plane, or those in view."""

from collections.abc import Callable, Iterator

from samlet.utils.messages import pluralize
from samlet_napari.inference.everything import find_objects
from samlet_napari.inference.objects import FoundObject
from samlet_napari.viewer.workspace import Workspace

BATCH_SIZE = 50
"""Objects that are written at once: the GUI responds between two batches."""


class EverythingTask:
    """Finds all objects of the plane that is shown, or of what of it is in view.

    Args:
        workspace: whose image.
        only_visible: whether only objects entirely in view are wanted.

    Raises:
        UserError: there is no image, or it is not opened, or its labels cannot be written.
    """

    def __init__(self, workspace: Workspace, only_visible: bool) -> None:
        self._workspace = workspace
        self._only_visible = only_visible
        self._embeddings = workspace.require_embeddings()
        view = workspace.view()
        self._plane = view.plane()
        height, width = self._embeddings.snapshot.size(self._plane)
        self._box = view.visible_box() if only_visible else (0, 0, width, height)
        workspace.label_store()
        self._count = 0

    def run(self, progress: Callable[[float], None]) -> Iterator[list[FoundObject]]:
        """Find the objects; see `Task`."""
        found = find_objects(self._embeddings, self._plane, self._box, progress)
        for first in range(0, len(found), BATCH_SIZE):
            yield found[first : first + BATCH_SIZE]

    def write(self, found: list[FoundObject]) -> None:
        """Write a batch; see `Task`."""
        session = self._workspace.session
        if session is not None and session.labels.store is not None:
            self._count += session.labels.write_objects(found, continues=self._count > 0)

    def finish(self) -> str:
        """Say how many were found; see `Task`."""
        where = "the view" if self._only_visible else "the image"
        if self._count == 0:
            return f"Found no objects in {where} other than those already in the labels."
        return f"Found {pluralize(self._count, 'object')} in {where}. Z undoes them together."
