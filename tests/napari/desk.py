"""A viewer with the widget "Segment", and hands to use it: the mouse and keys are simulated."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from time import monotonic, thread_time
from typing import NamedTuple

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

import napari
from samlet_napari.inference.requests import Response
from samlet_napari.ui.widget import SegmentWidget

BUTTONS = {"left": Qt.MouseButton.LeftButton, "right": Qt.MouseButton.RightButton}
MOVES = 12


class Blocked(NamedTuple):
    """The longest time in milliseconds that a window did not answer.

    Attributes:
        elapsed: by the clock, which on a busy machine counts other programs as well.
        computed: by the processor time of the window's thread.
    """

    elapsed: float
    computed: float

    def __str__(self) -> str:
        return f"{self.elapsed:.0f} ms (its own work: {self.computed:.0f} ms)"


blocked: dict[str, Blocked] = {}
"""How long the window was blocked, by what was done."""


def wait(milliseconds: int) -> None:
    """Let time pass in the event loop.

    `QTest.qWait` would keep a processor busy that the model's threads need: vispy replaces
    PySide6's by a loop that never sleeps.
    """
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def downloads() -> list[threading.Thread]:
    """The threads that download."""
    return [thread for thread in threading.enumerate() if thread.name == "download"]


class Desk:
    """A viewer with the widget, and hands to use it.

    Positions are data coordinates of the image that is clicked on, in napari's order.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self.viewer = viewer
        _, widget = viewer.window.add_plugin_dock_widget("samlet", "Segment")
        assert isinstance(widget, SegmentWidget)
        self.widget = widget
        self.controller = widget.controller
        self.workspace = widget.controller.workspace
        self.canvas = viewer.window._qt_viewer.canvas.native
        self.said: list[str] = []
        self.workspace.status.connect(self.said.append)

    @property
    def status(self) -> str:
        """What the status line says."""
        return str(self.widget.status.value)

    def open(self, image: Image) -> None:
        """Choose an image, and wait until it can be clicked on."""
        self.widget.form.image.value = image
        self.until(lambda: self.workspace.session is not None)
        # The window may have become larger since the image was added.
        self.viewer.reset_view()
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is due: no request, nothing to encode, nothing to read again."""
        QApplication.processEvents()
        self.until(lambda: self.controller.is_idle)
        # What the model's threads have sent by then.
        wait(30)

    def on_responses(self, callback: Callable[[Response], object]) -> None:
        """Call back with each response of the model, as long as the image stays open."""
        session = self.workspace.session
        assert session is not None
        receive = session.receive

        def record(response: Response) -> bool:
            callback(response)
            return receive(response)

        session.receive = record  # type: ignore[method-assign]

    def until(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for something."""
        end = monotonic() + seconds
        while not holds():
            assert monotonic() < end, f"not within {seconds} s; the status is {self.status!r}"
            wait(5)

    @contextmanager
    def watched(self, what: str) -> Iterator[None]:
        """Note for the report how long the window is blocked at most by what happens inside."""
        times: list[tuple[float, float]] = []

        def note() -> None:
            times.append((monotonic(), thread_time()))

        timer = QTimer()
        timer.timeout.connect(note)
        timer.start(1)
        note()
        yield
        timer.stop()
        note()
        elapsed, computed = 1000 * np.diff(times, axis=0).max(axis=0)
        blocked[what] = Blocked(elapsed, computed)

    def at(self, *place: float) -> QPoint:
        """Where on the canvas a place of the image is; it must be in view."""
        image = self.workspace.image
        assert image is not None
        world = np.asarray(image.data_to_world(place), float)
        # Two canvas points tell the linear map from the world; the canvas is not turned.
        canvas = self.viewer.window._qt_viewer.canvas
        displayed = list(self.viewer.dims.displayed)
        box = canvas.view
        a = np.asarray(canvas._map_canvas2world((0, 0), box))[displayed]
        x = np.asarray(canvas._map_canvas2world((100, 0), box))[displayed]
        y = np.asarray(canvas._map_canvas2world((0, 100), box))[displayed]
        matrix = np.stack([(x - a) / 100, (y - a) / 100], axis=1)
        px, py = np.linalg.solve(matrix, world[displayed] - a)
        point = QPoint(round(px), round(py))
        assert self.canvas.rect().contains(point)
        return point

    def hover(self, *place: float) -> None:
        """Move the mouse over a place."""
        image = self.workspace.image
        assert image is not None
        world = np.asarray(image.data_to_world(place), float)

        def is_there() -> bool:
            near = 3 / self.viewer.scene.camera.zoom
            return bool(np.abs(np.asarray(self.viewer.cursor.position) - world).max() < near)

        # On a busy machine, the window may be laid out anew on the way.
        for _ in range(MOVES):
            # The real cursor moves, and it may be there already.
            QTest.mouseMove(self.canvas, QPoint(3, 3))
            wait(20)
            QTest.mouseMove(self.canvas, self.at(*place))
            end = monotonic() + 5
            while not is_there() and monotonic() < end:
                wait(5)
            if is_there():
                return
        raise AssertionError(f"The mouse is not at {place}; the status is {self.status!r}")

    def click(self, *place: float, button: str = "left", ctrl: bool = False) -> None:
        """Click on a place."""
        held = Qt.KeyboardModifier.ControlModifier if ctrl else Qt.KeyboardModifier.NoModifier
        QTest.mouseClick(self.canvas, BUTTONS[button], held, self.at(*place))
        QApplication.processEvents()

    def drag(self, *places: tuple[float, ...]) -> None:
        """Press at the first place, move through the others, and let go."""
        points = [self.at(*place) for place in places]
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=points[0])
        for a, b in pairwise(points):
            for share in np.linspace(0.25, 1, 4):
                QTest.mouseMove(self.canvas, a + (b - a) * share)
                wait(15)
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=points[-1])
        QApplication.processEvents()

    def key(self, key: Qt.Key, ctrl: bool = False) -> None:
        """Press a key over the canvas."""
        held = Qt.KeyboardModifier.ControlModifier if ctrl else Qt.KeyboardModifier.NoModifier
        QTest.keyClick(self.canvas, key, held)
        QApplication.processEvents()

    def press(self, text: str) -> None:
        """Press one of the widget's buttons."""
        QTest.mouseClick(self.widget.buttons[text].native, Qt.MouseButton.LeftButton)
        QApplication.processEvents()

    def labels(self) -> np.ndarray:
        """What was committed."""
        layer = self.workspace.labels
        assert layer is not None
        return np.asarray(layer.data[0] if layer.multiscale else layer.data)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole window."""
        wait(100)
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
