"""Finding all objects of a plane that are like some that were committed."""

from collections.abc import Callable, Iterator

from samlet.errors import UserError
from samlet.masks import CroppedMask
from samlet_napari.inference.everything import find_similar_objects
from samlet_napari.inference.objects import FoundObject
from samlet_napari.session.similar_objects import SimilarObjects
from samlet_napari.viewer import display
from samlet_napari.viewer.workspace import Workspace

MAX_EXAMPLES = 3
"""Objects that are taken as examples, the last ones."""


class SimilarTask:
    """Finds the objects of the plane that is shown that are like those committed last.

    What is found is shown, and is not written before the user commits it.

    Args:
        workspace: whose image and labels.
        threshold: likeness of what is shown at first.

    Raises:
        UserError: there is no image, or it is not opened, or no object in its plane.
    """

    def __init__(self, workspace: Workspace, threshold: float) -> None:
        self._workspace, self._threshold = workspace, threshold
        self._embeddings = workspace.require_embeddings()
        self._plane = workspace.view().plane()
        session, store = workspace.session, workspace.label_store()
        assert session is not None
        if session.draft is not None:
            workspace.committed_object()
        session.similar = None
        self._size = self._embeddings.snapshot.size(self._plane)
        self._examples: list[CroppedMask] = []
        self.labels: list[int] = []
        for label in session.labels.latest_labels(self._plane):
            box = store.bounding_box(self._plane, label)
            if box is not None and len(self.labels) < MAX_EXAMPLES:
                mask = store.mask_of(self._plane, label, box)
                self._examples.append(CroppedMask(mask, box[0], box[1], self._size))
                self.labels.append(label)
        if not self.labels:
            raise UserError(
                "There is no object here to find others like it: click on one to three, and commit "
                "them."
            )
        self._likeness: list[float] = []

    def run(self, progress: Callable[[float], None]) -> Iterator[list[FoundObject]]:
        """Find the objects; see `Task`."""
        found, self._likeness = find_similar_objects(
            self._embeddings, self._plane, self._examples, progress
        )
        yield found

    def write(self, found: list[FoundObject]) -> None:
        """Show what was found; see `Task`."""
        session = self._workspace.session
        if session is None or not found:
            return
        thickness = display.line_thickness(session)
        session.similar = SimilarObjects(
            self._plane, found, self._likeness, self._threshold, thickness
        )
        self._workspace.show()

    def finish(self) -> str:
        """Say how many were found; see `Task`."""
        session = self._workspace.session
        if session is None or session.similar is None:
            named = " and ".join(map(str, self.labels))
            return f"Found no other object like {named}."
        return display.describe_similar(session.similar)
