"""The viewer's events that concern every image."""

from collections.abc import Callable
from functools import partial
from typing import Any

from napari.components import ViewerModel
from qtpy.QtCore import QTimer

from samlet_napari.viewer.source_layers import Links
from samlet_napari.viewer.view import sliders_of

VIEW_PAUSE_MS = 250
"""Time without a change before what is in view is encoded."""


class ViewerEvents:
    """Listens to a viewer until it is closed.

    Args:
        viewer: whose events.
        on_view: called when the visible part or slice has not changed for `VIEW_PAUSE_MS`.
        on_dims: called at once when another slice or other axes are shown.
        on_inserted: called with a layer that was inserted.
        on_removed: called with a layer that was removed, and is not back by then.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        on_view: Callable[[], None],
        on_dims: Callable[[], None],
        on_inserted: Callable[[Any], None],
        on_removed: Callable[[Any], None],
    ) -> None:
        self._viewer = viewer
        self._on_dims = on_dims
        self._on_inserted = on_inserted
        self._on_removed = on_removed
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(VIEW_PAUSE_MS)
        self._timer.timeout.connect(on_view)
        sliders_of(viewer)
        dims, camera = viewer.dims.events, viewer.scene.camera.events
        self._links = Links()
        self._links.connect(viewer.layers.events.inserted, self._inserted)
        self._links.connect(viewer.layers.events.removed, self._removed)
        for event in (dims.current_step, dims.ndisplay, dims.order):
            self._links.connect(event, self._dims_changed)
        for event in (camera.zoom, camera.center):
            self._links.connect(event, self._view_changed)

    @property
    def is_pending(self) -> bool:
        """Whether `on_view` is about to be called."""
        return self._timer.isActive()

    def close(self) -> None:
        """Stop listening."""
        self._links.disconnect()
        self._timer.stop()

    def _view_changed(self) -> None:
        self._timer.start()

    def _dims_changed(self) -> None:
        self._on_dims()
        self._timer.start()

    def _inserted(self, event: Any) -> None:
        self._on_inserted(event.value)

    def _removed(self, event: Any) -> None:
        # Of what a viewer removes together, the rest would be drawn half removed.
        QTimer.singleShot(0, partial(self._after_removal, event.value))

    def _after_removal(self, layer: Any) -> None:
        if layer not in self._viewer.layers:
            self._on_removed(layer)
