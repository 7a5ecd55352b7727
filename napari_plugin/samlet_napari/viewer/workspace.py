"""The image that is being annotated in a viewer, and what belongs to it."""

from napari.components import ViewerModel
from napari.layers import Image, Labels
from psygnal import Signal

from samlet.errors import UserError
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.labels.label_store import LabelStore
from samlet_napari.labels.pyramid import add_labels_layer
from samlet_napari.layers.plane import Plane
from samlet_napari.session.session import Session
from samlet_napari.viewer import display
from samlet_napari.viewer.overlays import Overlays
from samlet_napari.viewer.view import View


class Workspace:
    """State that user actions, background tasks and the controller share.

    Args:
        viewer: whose layers and dims.

    Attributes:
        status: emitted with a sentence whenever something happens.
        shown: emitted when the overlays were brought to what the session holds.
        opened: emitted when an image or a labels layer was chosen, or none.
        image: what is clicked on; None if none is chosen.
        labels: where objects are written; None for a new layer at the first commit.
        colour_axis: the axis of the data that holds colours; None for none.
        overlays: our layers over the image; None without one.
        embeddings: of the image; None until it is opened.
        session: the clicks; None while there is no image, or no model yet.
        opening_error: why the image cannot be opened, as a sentence; else "".
    """

    status = Signal(str)
    opened = Signal()
    shown = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.image: Image | None = None
        self.labels: Labels | None = None
        self.colour_axis: int | None = None
        self.overlays: Overlays | None = None
        self.embeddings: EmbeddingProvider | None = None
        self.session: Session | None = None
        self.opening_error = ""

    @property
    def is_active(self) -> bool:
        """Whether clicks and keys on the canvas come to our layers."""
        overlays = self.overlays
        return overlays is not None and self.viewer.layers.selection.active in overlays.layers

    def require_image(self) -> Image:
        """The image.

        Raises:
            UserError: there is none.
        """
        if self.image is None:
            raise UserError("There is no image yet: open one, and choose it here.")
        return self.image

    def view(self) -> View:
        """What the viewer shows of the image.

        Raises:
            UserError: there is no image.
        """
        return View(self.viewer, self.require_image(), self.colour_axis)

    def opened_session(self) -> Session | None:
        """The session; None while the image is being opened.

        Raises:
            UserError: there is no image, or it cannot be opened.
        """
        self.require_image()
        if self.embeddings is None and self.opening_error:
            raise UserError(self.opening_error)
        return self.session

    def require_embeddings(self) -> EmbeddingProvider:
        """The embeddings of the image.

        Raises:
            UserError: there is no image, or it is not opened yet, or cannot be.
        """
        self.opened_session()
        if self.embeddings is None:
            raise UserError("The image is still being opened: try again in a moment.")
        return self.embeddings

    def attach_labels(self, create: bool = False) -> None:
        """Let the session write to the labels layer.

        Args:
            create: whether a layer is made if there is none.

        Raises:
            UserError: the labels do not fit the image.
        """
        session, image = self.session, self.image
        assert session is not None and image is not None
        if self.labels is None and not create:
            session.labels.set_store(None)
            return
        store = session.labels.store
        if store is not None and store.layer is self.labels:
            store.check()
            return
        shape = self.view().shape
        is_new = self.labels is None
        if self.labels is None:
            self.labels = add_labels_layer(self.viewer, image, shape)
        session.labels.set_store(None)
        session.labels.set_store(LabelStore(self.labels, shape, is_empty=is_new))
        if is_new:
            self.opened.emit()

    def label_store(self) -> LabelStore:
        """Where objects are written, in a new layer if there is none.

        Raises:
            UserError: there is no image, or the labels do not fit it.
        """
        self.attach_labels(create=True)
        assert self.session is not None
        return self.session.labels.require_store()

    def committed_object(self) -> tuple[int, Plane, LabelStore]:
        """Label, plane and store of the object being clicked, committed now, or else the last one.

        Raises:
            UserError: there is none, or it is not complete yet.
        """
        session, store = self.session, self.label_store()
        assert session is not None
        if session.draft is not None:
            if not session.draft.is_complete:
                raise UserError(
                    "The model has not finished this object yet: try again in a moment."
                )
            session.commit()
            self.show()
        if session.labels.last is None:
            raise UserError("There is no object yet: click on one first.")
        return *session.labels.last, store

    def show(self) -> None:
        """Bring the overlays to what the session holds."""
        if self.session is not None and self.overlays is not None:
            display.show(self.session, self.overlays)
            self.shown.emit()

    def report(self) -> None:
        """Emit a sentence on the state of the session."""
        if self.session is not None and self.image is not None:
            self.status.emit(display.describe(self.session, self.image.name))
