"""Mouse and keys on our layers, as what the controller understands."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import Enum
from math import hypot
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QObject, Qt

from samlet_napari.ui.controller import Controller
from samlet_napari.viewer.overlays import Overlays

CLICK_PIXELS = 4
"""A press that moves no further on the screen is a click, and one that does moves the image."""

STROKE_POINTS = 6
"""Points that stand for a stroke."""

LEFT, RIGHT = 1, 2


class Mode(Enum):
    """What dragging means."""

    CLICK = "click"
    BOX = "box"
    SCRIBBLE = "scribble"


class Hands(QObject):
    """Binds mouse and keys to the overlays of a controller.

    Args:
        controller: what is told.

    Attributes:
        mode: what dragging with the left button means.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self.mode = Mode.CLICK
        self._controller = controller
        self._gestures = controller.gestures
        self._canvases: list[QObject] = []

    def bind(self, overlays: Overlays) -> None:
        """Listen to the layers."""
        for layer in overlays.layers:
            layer.mouse_drag_callbacks.append(self._on_drag)
            layer.mouse_move_callbacks.append(self._on_move)
            for key, action in self.keys().items():
                layer.bind_key(key, _without_layer(action), overwrite=True)

    def keys(self) -> dict[str, Any]:
        """Keys, as napari names them, and what they do."""
        gestures = self._gestures
        return {
            "C": gestures.commit,
            "Z": gestures.undo,
            "Control-Z": gestures.undo,
            "Escape": gestures.cancel,
            "X": gestures.cancel,
            "E": gestures.edit,
        }

    def watch(self, canvases: Sequence[QObject]) -> None:
        """Notice Tab, and that the cursor leaves, on the Qt widgets that napari draws on."""
        self.release()
        self._canvases = list(canvases)
        for canvas in self._canvases:
            canvas.installEventFilter(self)

    def release(self) -> None:
        """Leave the canvases alone."""
        for canvas in self._canvases:
            # They may have gone before us.
            with suppress(RuntimeError):
                canvas.removeEventFilter(self)
        self._canvases.clear()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Take Tab before Qt moves the focus with it, and notice that the cursor leaves."""
        if event.type() == QEvent.Type.Leave:
            self._gestures.leave()
        elif (
            event.type() == QEvent.Type.KeyPress
            and event.key() == Qt.Key.Key_Tab  # type: ignore[attr-defined]
            and self._controller.is_active
        ):
            self._gestures.next_candidate()
            return True
        return False

    def _on_move(self, layer: Any, event: Any) -> None:
        self._gestures.hover(event.position)

    def _on_drag(self, layer: Any, event: Any) -> Iterator[None]:
        if event.button not in (LEFT, RIGHT):
            return
        positive = event.button == LEFT and "Control" not in _modifiers(event)
        start, path = event.pos, [event.position]
        is_click_mode = self.mode is Mode.CLICK or event.button == RIGHT
        if not is_click_mode:
            # Otherwise the image would move along.
            event.handled = True
        yield
        furthest = 0.0
        while event.type == "mouse_move":
            furthest = max(furthest, hypot(*(np.asarray(event.pos) - start)))
            path.append(event.position)
            if not is_click_mode:
                event.handled = True
                if self.mode is Mode.BOX:
                    self._gestures.drag_box(path[0], path[-1])
            yield
        if furthest <= CLICK_PIXELS:
            self._gestures.click(path[0], positive)
        elif is_click_mode:
            return
        elif self.mode is Mode.BOX:
            self._gestures.draw_box(path[0], path[-1])
        else:
            self._gestures.scribble(_along(path, STROKE_POINTS), positive)


def _without_layer(action: Any) -> Any:
    def act(layer: Any) -> None:
        action()

    return act


def _modifiers(event: Any) -> set[str]:
    return {getattr(modifier, "name", str(modifier)) for modifier in event.modifiers}


def _along(path: Sequence[Sequence[float]], count: int) -> list[list[float]]:
    """Points evenly spaced along a path."""
    places = np.asarray(path, float)
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    lengths = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0, lengths[-1], count)
    return [
        [float(np.interp(at, lengths, places[:, axis])) for axis in range(places.shape[1])]
        for at in wanted
    ]
