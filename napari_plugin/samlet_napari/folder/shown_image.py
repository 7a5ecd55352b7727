"""The one image of a folder that a viewer shows: its two layers, and the clicks on it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import QTimer

from samlet_napari.folder.loader import LoadedImage
from samlet_napari.labels.pyramid import insert_above
from samlet_napari.session.session import Session
from samlet_napari.ui import commands
from samlet_napari.ui.controller import Controller
from samlet_napari.viewer.batches import batched_update


class ShownImage:
    """Puts images and their labels into a viewer, one after another.

    Args:
        viewer: gets the layers.
        on_paint: called when a stroke has ended, or an object was committed.
        on_removed: called with a layer that somebody else has removed from the viewer.

    Attributes:
        loaded: the image; None if there is none.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        on_paint: Callable[[], object],
        on_removed: Callable[[Any], object],
    ) -> None:
        self.loaded: LoadedImage | None = None
        self._viewer = viewer
        self._on_paint = on_paint
        self._on_removed = on_removed
        viewer.layers.events.removed.connect(self._after_removal)

    @property
    def segment(self) -> Controller | None:
        """The controller of the viewer's widget "Segment"; None if that is closed."""
        return commands.controller_of(self._viewer)

    @property
    def session(self) -> Session | None:
        """The clicks on the image; None if there are none."""
        segment = self.segment
        if segment is None or self.loaded is None:
            return None
        workspace = segment.workspace
        return workspace.session if workspace.image is self.loaded.image else None

    @property
    def reason_to_stay(self) -> str:
        """What would be lost with the image, as a sentence; "" if nothing would."""
        segment, session = self.segment, self.session
        if segment is None or session is None:
            return ""
        if session.draft is not None or session.similar is not None:
            return "Commit (C) or discard (Esc) the object first."
        if segment.tasks.is_running:
            return "A task is still running on this image: wait for it, or press Stop."
        return ""

    def show(self, loaded: LoadedImage | None) -> None:
        """Show another image in place of this one, or none."""
        before, self.loaded = self.loaded, loaded
        with batched_update(self._viewer):
            if loaded is not None:
                self._add(loaded, before)
            if before is not None:
                before.file.close()
                for layer in (before.labels, before.image):
                    if layer in self._viewer.layers:
                        self._viewer.layers.remove(layer)
        if loaded is not None:
            self._viewer.reset_view()

    def attach(self) -> None:
        """Let objects be committed to the labels that are saved, also in a widget opened later."""
        segment, loaded = self.segment, self.loaded
        if segment is None or loaded is None or segment.workspace.image is not loaded.image:
            return
        if segment.workspace.labels is None:
            segment.choose_labels(loaded.labels)
            segment.workspace.opened.emit()

    def close(self, remove_layers: bool) -> None:
        """Show nothing any more, or leave in the viewer what is there."""
        self._viewer.layers.events.removed.disconnect(self._after_removal)
        if remove_layers:
            self.show(None)
        elif self.loaded is not None:
            self.loaded.file.close()
            self.loaded = None

    def _add(self, loaded: LoadedImage, before: LoadedImage | None) -> None:
        layers, image, labels = self._viewer.layers, loaded.image, loaded.labels
        active = layers.selection.active
        labels.events.paint.connect(self._after_stroke)
        # With the features, the classes of objects change.
        labels.events.features.connect(self._after_stroke)
        self._viewer.add_layer(image)
        insert_above(self._viewer, image, labels)
        segment = self.segment
        if segment is not None:
            segment.choose_image(image)
            segment.choose_labels(labels)
            segment.workspace.opened.emit()
        if segment is None or (before is not None and active is before.labels):
            layers.selection.active = labels
            _hand_on_brush(before, labels)

    def _after_stroke(self) -> None:
        # The prompts of an object follow its pixels.
        QTimer.singleShot(0, self._on_paint)

    def _after_removal(self, event: Any) -> None:
        # napari also removes a layer to put it elsewhere.
        QTimer.singleShot(0, partial(self._report_removal, event.value))

    def _report_removal(self, layer: Any) -> None:
        loaded = self.loaded
        if loaded is None or layer not in (loaded.image, loaded.labels):
            return
        if layer not in self._viewer.layers:
            self._on_removed(layer)


def _hand_on_brush(before: LoadedImage | None, labels: Labels) -> None:
    """Go on painting the next image as the one before."""
    if before is not None:
        labels.brush_size = before.labels.brush_size
        labels.mode = before.labels.mode
