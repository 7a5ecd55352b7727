"""What napari calls to make the widgets.

PyTorch takes seconds to import, and would hold the window for as long: a thread imports it, and the
window is drawn meanwhile.
"""

import importlib
import sys
import threading
from typing import Any, ClassVar

from napari.viewer import Viewer
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

_LOOK_MS = 20


class _Opening:
    """Makes a widget in place of an object of its own.

    napari gives its viewer to classes only, by the parameters of `__init__`.

    Attributes:
        slow: modules without Qt that import what takes long.
        module, name: of the widget's class.
    """

    slow: ClassVar[tuple[str, ...]] = (
        "samlet_napari.viewer.everything_task",
        "samlet_napari.viewer.measurement",
    )
    module: ClassVar[str]
    name: ClassVar[str]

    def __new__(cls, napari_viewer: Viewer) -> Any:
        """The widget for a viewer."""
        _import(cls.slow, napari_viewer)
        return getattr(importlib.import_module(cls.module), cls.name)(napari_viewer)

    def __init__(self, napari_viewer: Viewer) -> None:
        """Not called."""


class Segment(_Opening):
    """Makes the widget "Segment"."""

    module, name = "samlet_napari.ui.widget", "SegmentWidget"


class Folder(_Opening):
    """Makes the widget "Folder"."""

    slow = (*_Opening.slow, "samlet_napari.folder.everything")
    module, name = "samlet_napari.folder.widget", "FolderWidget"


class Classes(_Opening):
    """Makes the widget "Classes"."""

    slow = (*_Opening.slow, "samlet_napari.viewer.classify_task")
    module, name = "samlet_napari.classes.widget", "ClassesWidget"


class Finetune(_Opening):
    """Makes the widget "Finetune", and opens it as a tab where other widgets are."""

    slow = (*_Opening.slow, "samlet_napari.finetune.time_estimate")
    module, name = "samlet_napari.finetune.widget", "FinetuneWidget"

    def __new__(cls, napari_viewer: Viewer) -> Any:
        """The widget for a viewer."""
        widget = super().__new__(cls, napari_viewer)
        # By then it is in its dock.
        QTimer.singleShot(0, widget.native, lambda: _to_tab(widget.native))
        return widget


def _import(modules: tuple[str, ...], viewer: Viewer) -> None:
    """Import modules in a thread, while the window is drawn; an error is raised here."""
    missing = [module for module in modules if module not in sys.modules]
    if not missing:
        return
    failed: list[BaseException] = []

    def run() -> None:
        try:
            for module in missing:
                importlib.import_module(module)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="samlet import", daemon=True)
    viewer.status = "samlet is starting ..."
    thread.start()
    loop, timer = QEventLoop(), QTimer()
    timer.timeout.connect(lambda: None if thread.is_alive() else loop.quit())
    timer.start(_LOOK_MS)
    # A second click must not open a second widget meanwhile; input waits until this one is there.
    loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
    timer.stop()
    viewer.status = ""
    if failed:
        raise failed[0]


def _to_tab(widget: QWidget) -> None:
    """Lay a widget's dock over another of the same side, so that neither has too little room."""
    dock, window = widget.parent(), widget.window()
    if not (isinstance(dock, QDockWidget) and isinstance(window, QMainWindow)):
        return
    side = window.dockWidgetArea(dock)
    beside = [
        other
        for other in window.findChildren(QDockWidget)
        if other is not dock and other.isVisible() and window.dockWidgetArea(other) == side
    ]
    if beside and not window.tabifiedDockWidgets(dock):
        window.tabifyDockWidget(beside[-1], dock)
        # Its tab is made when the docks are laid out.
        QTimer.singleShot(0, dock, dock.raise_)
