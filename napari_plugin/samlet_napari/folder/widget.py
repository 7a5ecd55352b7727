"""The widget "Folder": a list of images, their states, and buttons to go through them."""

from collections.abc import Callable
from functools import partial
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from samlet.errors import UserError
from samlet_napari.drawing import drawn_later
from samlet_napari.folder import commands
from samlet_napari.folder.controller import FolderController
from samlet_napari.folder.image_folder import State
from samlet_napari.folder.image_list import ImageList
from samlet_napari.ui import commands as segment_commands

NEXT, PREVIOUS, DONE = "N", "Shift-N", "D"


class FolderWidget(QWidget):
    """Goes through the images of a folder.

    Args:
        napari_viewer: given by napari.

    Attributes:
        controller: what the buttons act on.
        images: the list.
        buttons: by their text.
        status: what happened last.
        progress: how many images are done.
        search_progress: how far everything mode is.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.controller = FolderController(napari_viewer)
        self.buttons: dict[str, QPushButton] = {}
        self._is_closed = False
        self._window: QWidget | None = None
        self._make_controls()
        self._lay_out()
        self._connect()
        commands.register(napari_viewer, self.controller)
        self._on_moved()

    def event(self, event: QEvent) -> bool:
        """Save and release keys when the widget is closed; see Qt."""
        is_removed = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if is_removed or event.type() in (QEvent.Type.Close, QEvent.Type.DeferredDelete):
            self.close_down()
        elif event.type() == QEvent.Type.Show and self._window is None:
            self._window = self.window()
            self._window.installEventFilter(self)
        return bool(super().event(event))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Save before the window closes, and keep it open if that fails and a user wants so."""
        is_closing = event.type() == QEvent.Type.Close and watched is self._window
        # Only saved, as napari may still keep the window open.
        if is_closing and not self._is_closed and not self._save_or_ask(may_stay=True):
            event.ignore()
            return True
        return False

    def close_down(self) -> None:
        """Save, and release keys and the folder; further calls do nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self._save_or_ask(may_stay=False)
        is_window_there = self._window is not None and self._window.isVisible()
        if self._window is not None:
            self._window.removeEventFilter(self)
        _let_go(self.viewer, self.controller, is_window_there)

    # Its parts.

    def _make_controls(self) -> None:
        controller = self.controller
        self.path = QLabel("")
        self.path.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.images = ImageList(controller.go_to)
        self.done = QCheckBox("done")
        self.done.setToolTip("Whether this image is done.")
        self.skip_done = QCheckBox("skip done")
        self.skip_done.setToolTip("Next and Previous leave out images that are done.")
        self.progress = QProgressBar()
        self.search_progress = QProgressBar()
        self.search_progress.setVisible(False)
        self.search_status = _wrapped_label()
        self.search_status.setVisible(False)
        self.status = _wrapped_label()
        self.status.setText("Open a folder of images.")
        for text, tooltip, action in (
            ("Open folder…", "Go through the images of a folder.", self._choose_folder),
            (f"Previous ({PREVIOUS})", "Show the previous image.", lambda: controller.go_on(-1)),
            (f"Next ({NEXT})", "Show the next image.", controller.go_on),
            (f"Done, next ({DONE})", "Mark this image as done.", controller.finish),
            (
                "Everything in the folder",
                "Find all objects of the untouched images, in the background.",
                controller.start_search,
            ),
            ("Stop", "Stop Everything; what was found is kept.", controller.search.stop),
        ):
            button = self.buttons[text] = QPushButton(text)
            button.setToolTip(tooltip)
            button.clicked.connect(_ignore_arguments(action))
        for control in (*self.buttons.values(), self.done, self.skip_done):
            # Keys go to the canvas.
            control.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def _lay_out(self) -> None:
        open_, previous, next_, done, search, stop = self.buttons.values()
        layout = QVBoxLayout(self)
        for row in (
            (open_, self.path),
            (self.images,),
            (self.progress,),
            (previous, next_),
            (done, self.done, self.skip_done),
            (search, stop),
            (self.search_progress,),
            (self.search_status,),
            (self.status,),
        ):
            line = QHBoxLayout()
            for part in row:
                line.addWidget(part)
            layout.addLayout(line, 1 if row == (self.images,) else 0)

    def _connect(self) -> None:
        controller = self.controller
        controller.status.connect(self.status.setText)
        controller.opened.connect(self._on_opened)
        controller.moved.connect(self._on_moved)
        controller.changed.connect(self._on_changed)
        controller.search.status.connect(self._on_search_status)
        controller.search.progress.connect(self._on_search_progress)
        self.skip_done.toggled.connect(self._on_skip_done)
        self.done.clicked.connect(self._on_done)
        # With its window, a widget is destroyed without further notice.
        self.destroyed.connect(partial(_let_go, self.viewer, controller, False))
        for key, action in (
            (NEXT, controller.go_on),
            (PREVIOUS, lambda: controller.go_on(-1)),
            (DONE, controller.finish),
        ):
            self.viewer.bind_key(key, _ignore_arguments(action), overwrite=True)

    # What a user does.

    def _choose_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "A folder of images")
        if path:
            self.open(path)

    def open(self, path: str) -> None:
        """Open a folder, and the widget Segment beside this one."""
        if segment_commands.controller_of(self.viewer) is None:
            self.viewer.window.add_plugin_dock_widget("samlet", "Segment")
        self.controller.open(path)

    def _on_skip_done(self, skip: bool) -> None:
        self.controller.skip_done = skip

    def _on_done(self, is_done: bool) -> None:
        if not self.controller.set_done(is_done):
            self.done.setChecked(not is_done)

    # What is shown.

    def _on_opened(self) -> None:
        folder = self.controller.folder
        self.path.setText("" if folder is None else folder.path.name)
        self.path.setToolTip("" if folder is None else str(folder.path))
        self.images.show_folder(folder)
        self._show_progress()

    def _on_moved(self) -> None:
        self.images.select(self.controller.index)
        self._show_done()
        is_open = self.controller.folder is not None
        for text, button in self.buttons.items():
            if not text.startswith("Open") and text != "Stop":
                button.setEnabled(is_open)
        self.buttons["Stop"].setEnabled(self.controller.search.is_running)

    def _on_changed(self, index: int) -> None:
        folder = self.controller.folder
        if folder is not None:
            self.images.show_state(folder, index)
            self._show_progress()
            self._show_done()

    def _show_progress(self) -> None:
        folder = self.controller.folder
        self.progress.setRange(0, 1 if folder is None else len(folder))
        self.progress.setValue(0 if folder is None else folder.count(State.DONE))
        self.progress.setFormat("" if folder is None else "%v of %m done")

    def _show_done(self) -> None:
        folder, current = self.controller.folder, self.controller.current
        is_shown = folder is not None and current is not None
        self.done.setEnabled(is_shown)
        self.done.setChecked(
            folder is not None and current is not None and folder.state(current.index) is State.DONE
        )

    def _on_search_status(self, text: str) -> None:
        self.search_status.setText(text)
        self.search_status.setVisible(bool(text))

    def _on_search_progress(self, fraction: float) -> None:
        self.search_progress.setVisible(fraction >= 0)
        with drawn_later(self.search_progress):
            self.search_progress.setValue(max(0, round(100 * fraction)))
        self.buttons["Stop"].setEnabled(fraction >= 0)

    def _save_or_ask(self, may_stay: bool) -> bool:
        """Save; if that fails, ask until it does not, or the user gives up.

        Args:
            may_stay: whether a user can choose to leave everything open.

        Returns:
            False if a user has chosen that.
        """
        while True:
            try:
                self.controller.wait_for_commits()
                self.controller.save()
                return True
            except UserError as error:
                buttons = QMessageBox.StandardButton.Retry | QMessageBox.StandardButton.Discard
                if may_stay:
                    buttons |= QMessageBox.StandardButton.Cancel
                text = f"The latest labels are not saved. {error}"
                answer = QMessageBox.critical(self, "samlet", text, buttons)
            if answer == QMessageBox.StandardButton.Cancel:
                return False
            if answer == QMessageBox.StandardButton.Discard:
                return True


def _let_go(viewer: Viewer, controller: FolderController, is_window_there: bool) -> None:
    """Release keys and the folder, without touching a Qt object of ours."""
    if controller.is_closed:
        return
    commands.register(viewer, None)
    for key in (NEXT, PREVIOUS, DONE):
        viewer.bind_key(key, None)
    controller.close(remove_layers=is_window_there)


def _wrapped_label() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


def _ignore_arguments(action: Callable[[], Any]) -> Callable[..., None]:
    def act(*_: Any) -> None:
        action()

    return act
