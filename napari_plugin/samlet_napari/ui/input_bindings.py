"""Mouse and keys on our layers, bound to user actions."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import Enum
from math import hypot
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QObject, Qt

from samlet_napari.viewer.overlays import Overlays
from samlet_napari.viewer.user_actions import UserActions
from samlet_napari.viewer.workspace import Workspace

CLICK_PIXELS = 4
"""A press that moves no further on the screen is a click, and one that does moves the image."""

STROKE_POINTS = 6
"""Point prompts along a stroke."""

LEFT, RIGHT = 1, 2


class MouseMode(Enum):
    """What dragging means."""

    CLICK = "click"
    BOX = "box"
    SCRIBBLE = "scribble"


class InputBindings(QObject):
    """Binds mouse and keys on the overlays of a workspace to user actions.

    Args:
        workspace: whose overlays.
        actions: what mouse and keys do.

    Attributes:
        mode: what dragging with the left button means.
    """

    def __init__(self, workspace: Workspace, actions: UserActions) -> None:
        super().__init__()
        self.mode = MouseMode.CLICK
        self._workspace = workspace
        self._actions = actions
        self._canvases: list[QObject] = []

    def bind(self, overlays: Overlays) -> None:
        """Listen to the layers."""
        for layer in overlays.layers:
            layer.mouse_drag_callbacks.append(self._on_drag)
            layer.mouse_move_callbacks.append(self._on_move)
            for key, action in self.keys().items():
                layer.bind_key(key, _ignore_layer(action), overwrite=True)

    def keys(self) -> dict[str, Any]:
        """Keys, as napari names them, and what they do."""
        actions = self._actions
        return {
            "C": actions.commit,
            "Z": actions.undo,
            "Control-Z": actions.undo,
            "Escape": actions.cancel,
            "X": actions.cancel,
            "E": actions.edit,
        }

    def watch(self, canvases: Sequence[QObject]) -> None:
        """Notice Tab, and that the cursor leaves, on the Qt widgets that napari draws on."""
        self.release()
        self._canvases = list(canvases)
        for canvas in self._canvases:
            canvas.installEventFilter(self)

    def release(self) -> None:
        """Stop watching the canvases."""
        for canvas in self._canvases:
            # Qt may have deleted them before us.
            with suppress(RuntimeError):
                canvas.removeEventFilter(self)
        self._canvases.clear()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Take Tab before Qt moves the focus with it, and notice that the cursor leaves."""
        if event.type() == QEvent.Type.Leave:
            self._actions.leave_canvas()
        elif (
            event.type() == QEvent.Type.KeyPress
            and event.key() == Qt.Key.Key_Tab  # type: ignore[attr-defined]
            and self._workspace.is_active
        ):
            self._actions.next_candidate()
            return True
        return False

    def _on_move(self, layer: Any, event: Any) -> None:
        self._actions.hover(event.position)

    def _on_drag(self, layer: Any, event: Any) -> Iterator[None]:
        if event.button not in (LEFT, RIGHT):
            return
        positive = event.button == LEFT and "Control" not in _modifiers(event)
        start, path = event.pos, [event.position]
        is_click_mode = self.mode is MouseMode.CLICK or event.button == RIGHT
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
                if self.mode is MouseMode.BOX:
                    self._actions.drag_box(path[0], path[-1])
            yield
        if furthest <= CLICK_PIXELS:
            self._actions.click(path[0], positive)
        elif is_click_mode:
            return
        elif self.mode is MouseMode.BOX:
            self._actions.draw_box(path[0], path[-1])
        else:
            self._actions.scribble(_sample_path(path, STROKE_POINTS), positive)


def _ignore_layer(action: Any) -> Any:
    def act(layer: Any) -> None:
        action()

    return act


def _modifiers(event: Any) -> set[str]:
    return {getattr(modifier, "name", str(modifier)) for modifier in event.modifiers}


def _sample_path(path: Sequence[Sequence[float]], count: int) -> list[list[float]]:
    """Evenly spaced points along a path."""
    points = np.asarray(path, float)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    lengths = np.concatenate([[0.0], np.cumsum(steps)])
    distances = np.linspace(0, lengths[-1], count)
    return [
        [float(np.interp(at, lengths, points[:, axis])) for axis in range(points.shape[1])]
        for at in distances
    ]
