"""The one image of a folder that a viewer shows: its layers, and the clicks on it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image, Labels
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
        return workspace.session if workspace.image in self.loaded.channels else None

    @property
    def channel(self) -> int | None:
        """The channel that the model sees; None for all, blended."""
        segment, loaded = self.segment, self.loaded
        if segment is None or segment.sources.is_blended:
            return None
        image = segment.workspace.image
        return loaded.channels.index(image) if loaded and image in loaded.channels else 0

    def seen_of(self, channels: Sequence[Image]) -> list[Image]:
        """Of an image that is not shown yet, the channels that the model would see."""
        number = self.channel
        if number is not None:
            return [channels[min(number, len(channels) - 1)]]
        visible = _visible(self.loaded, channels)
        return [image for image, shown in zip(channels, visible, strict=True) if shown]

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
        before, channel = self.loaded, self.channel or 0
        self.loaded = loaded
        with batched_update(self._viewer):
            if loaded is not None:
                self._add(loaded, before, channel)
            if before is not None:
                before.file.close()
                for layer in (before.labels, *before.channels):
                    if layer in self._viewer.layers:
                        self._viewer.layers.remove(layer)
        if loaded is not None:
            self._viewer.reset_view()

    def attach(self) -> None:
        """Let objects be committed to the labels that are saved, also in a widget opened later."""
        segment, loaded = self.segment, self.loaded
        if segment is None or loaded is None or segment.workspace.image not in loaded.channels:
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

    def _add(self, loaded: LoadedImage, before: LoadedImage | None, channel: int) -> None:
        layers, labels = self._viewer.layers, loaded.labels
        active = layers.selection.active
        labels.events.paint.connect(self._after_stroke)
        # With the features, the classes of objects change.
        labels.events.features.connect(self._after_stroke)
        visible = _visible(before, loaded.channels)
        for image, shown in zip(loaded.channels, visible, strict=True):
            image.visible = shown
            self._viewer.add_layer(image)
        insert_above(self._viewer, loaded.channels[-1], labels)
        segment = self.segment
        if segment is not None:
            if before is not None and segment.sources.is_blended:
                # It is still there, and would be blended with this one.
                for image in before.channels:
                    image.visible = False
            segment.choose_image(loaded.channels[min(channel, len(loaded.channels) - 1)])
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
        if loaded is None or layer not in (loaded.labels, *loaded.channels):
            return
        layers = self._viewer.layers
        if loaded.labels not in layers or not any(each in layers for each in loaded.channels):
            self._on_removed(layer)


def _visible(before: LoadedImage | None, channels: Sequence[Image]) -> list[bool]:
    """Which channels are shown: of several those that are shown of the image before."""
    if before is None or len(channels) == 1 or len(channels) != len(before.channels):
        return [True] * len(channels)
    return [image.visible for image in before.channels]


def _hand_on_brush(before: LoadedImage | None, labels: Labels) -> None:
    """Go on painting the next image as the one before."""
    if before is not None:
        labels.brush_size = before.labels.brush_size
        labels.mode = before.labels.mode
