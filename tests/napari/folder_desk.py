"""A viewer with the widgets "Segment" and "Folder", and hands to use them."""

from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from samlet.masks import deepest_point
from samlet_napari.folder.widget import FolderWidget
from tests.napari.desk import Desk


class FolderDesk:
    """A viewer with the widget, and hands to use it.

    Args:
        desk: the viewer with the widget "Segment".
        folder: is opened.

    Attributes:
        said: what the status line has said.
    """

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        _, widget = desk.viewer.window.add_plugin_dock_widget("samlet", "Folder")
        assert isinstance(widget, FolderWidget)
        self.widget = widget
        self.controller = widget.controller
        self.said: list[str] = []
        self.controller.status.connect(self.said.append)
        widget.open(str(folder))
        self.settle()

    @property
    def shown(self) -> str:
        """The image that is shown; "" if there is none."""
        current = self.controller.current
        return "" if current is None else current.name

    def states(self) -> list[str]:
        """How far each image is."""
        folder = self.controller.folder
        assert folder is not None
        return [folder.state(i).value for i in range(len(folder))]

    def settle(self) -> None:
        """Wait until an image is shown, and can be clicked on."""
        controller = self.controller
        self.desk.until(lambda: controller.index is not None and not controller.is_opening)
        if self.controller.current is not None:
            self.desk.until(lambda: self.desk.workspace.session is not None)
        self.desk.settle()

    def key(self, key: Qt.Key, shift: bool = False) -> None:
        """Press a key over the canvas, and wait for the image that it shows."""
        held = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
        QTest.keyClick(self.desk.canvas, key, held)
        QApplication.processEvents()
        self.settle()

    def commit(self, mask: np.ndarray) -> None:
        """Click on an object, bool, H x W, and commit it."""
        x, y = deepest_point(mask)
        self.desk.click(y, x)
        self.desk.settle()
        self.desk.key(Qt.Key.Key_C)
