"""The widget "Classes": a list of classes with colours and keys, and a button to learn them."""

from collections.abc import Callable
from functools import partial
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from samlet.errors import UserError
from samlet_napari.classes import commands
from samlet_napari.classes.controller import KEYS, ClassesController
from samlet_napari.ui import commands as segment_commands

KEY, NAME, GIVEN, PREDICTED = range(4)
"""Columns of the list."""
SIGN_SIZE = 12
MAX_HEIGHT = 360
"""Pixels; the rest is for the widget Segment above."""


class ClassesWidget(QWidget):
    """Lists classes, and gives them to objects.

    Args:
        napari_viewer: given by napari.

    Attributes:
        controller: what list and buttons act on.
        list: a row for each class.
        name: the name of a class to add.
        buttons: by their text.
        coloured: whether objects have the colours of their classes.
        status: what happened last.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.controller = ClassesController(napari_viewer)
        self.buttons: dict[str, QPushButton] = {}
        self._is_closed = False
        self._make_controls()
        self._lay_out()
        self._connect()
        commands.register(napari_viewer, self.controller)
        self._show()

    def event(self, event: QEvent) -> bool:
        """Release keys and layers when the widget is closed; see Qt."""
        is_removed = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if is_removed or event.type() in (QEvent.Type.Close, QEvent.Type.DeferredDelete):
            self.close_down()
        elif event.type() == QEvent.Type.Show and not self._is_closed:
            # Not while Qt is busy with showing this one.
            QTimer.singleShot(0, self._open_segment)
        return bool(super().event(event))

    def close_down(self) -> None:
        """Release keys and layers; further calls do nothing."""
        if not self._is_closed:
            self._is_closed = True
            self.controller.changed.disconnect(self._show)
            self.controller.status.disconnect(self.status.setText)
            _let_go(self.viewer, self.controller)

    # Its parts.

    def _make_controls(self) -> None:
        self.list = QTreeWidget()
        self.list.setHeaderLabels(["key", "class", "given", "predicted"])
        self.list.setRootIsDecorated(False)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.list.setToolTip("Double click on a name to change it.")
        header = self.list.header()
        header.setStretchLastSection(False)
        for column in (KEY, GIVEN, PREDICTED):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        self.name = QLineEdit()
        self.name.setPlaceholderText("name of a class")
        self.coloured = QCheckBox("colour objects by class")
        self.coloured.setToolTip("Draw objects in the colours of the list; those without, grey.")
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.status.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.status.setText(
            "Add classes. Keys 1 to 9 give them to the object under the cursor, or else to the one "
            "that you have committed last; 0 takes the class away."
        )
        for text, tooltip, action in (
            ("Add", "Add a class of this name.", self._add),
            ("Colour…", "Choose another colour for the class.", self._choose_colour),
            ("Remove", "Remove the class, also from its objects.", self._remove),
            (
                "Classify the rest",
                "Learn from the objects to which you have given a class, and give the others one.",
                self._classify,
            ),
        ):
            button = self.buttons[text] = QPushButton(text)
            button.setToolTip(tooltip)
            button.clicked.connect(self._reporting(action))
        for control in (*self.buttons.values(), self.coloured):
            # Keys go to the canvas.
            control.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def _lay_out(self) -> None:
        add, colour, remove, classify = self.buttons.values()
        layout = QVBoxLayout(self)
        layout.addWidget(self.list, 1)
        self.setMaximumHeight(MAX_HEIGHT)
        rows: tuple[tuple[QWidget, ...], ...] = (
            (self.name, add),
            (colour, remove),
            (self.coloured,),
            (classify,),
            (self.status,),
        )
        for row in rows:
            line = QHBoxLayout()
            for part in row:
                line.addWidget(part)
            layout.addLayout(line)

    def _connect(self) -> None:
        self.controller.changed.connect(self._show)
        self.controller.status.connect(self.status.setText)
        self.name.returnPressed.connect(self._reporting(self._add))
        self.coloured.toggled.connect(self.controller.set_coloured)
        self.list.itemDoubleClicked.connect(lambda item, _: self.list.editItem(item, NAME))
        self.list.itemChanged.connect(self._on_item_changed)
        # With its window, a widget is destroyed without further notice.
        self.destroyed.connect(partial(_let_go, self.viewer, self.controller))

    def _open_segment(self) -> None:
        """Open the widget Segment beside this one, without which there are no objects."""
        if not self._is_closed and segment_commands.controller_of(self.viewer) is None:
            self.viewer.window.add_plugin_dock_widget("samlet", "Segment")

    # What a user does.

    def _add(self) -> None:
        self.controller.add(self.name.text())
        self.name.clear()
        self.name.clearFocus()

    def _choose_colour(self) -> None:
        name = self._chosen()
        colours = {one.name: one.colour for one in self.controller.classes}
        colour = QColorDialog.getColor(QColor(colours[name]), self, f"Colour of {name}")
        if colour.isValid():
            self.controller.recolour(name, colour.name())

    def _remove(self) -> None:
        self.controller.remove(self._chosen())

    def _classify(self) -> None:
        self.controller.classify_rest()

    def _on_item_changed(self, item: QTreeWidgetItem) -> None:
        old, new = item.data(NAME, Qt.ItemDataRole.UserRole), item.text(NAME)
        # Afterwards, as the list is made anew, and Qt is still busy with this item.
        QTimer.singleShot(0, partial(self._rename, old, new))

    def _rename(self, old: str, new: str) -> None:
        self._reporting(lambda: self.controller.rename(old, new))()
        if not self._is_closed:
            self._show()

    def _chosen(self) -> str:
        items = self.list.selectedItems()
        if not items:
            raise UserError("Choose a class of the list first.")
        return items[0].text(NAME)

    def _reporting(self, action: Callable[[], None]) -> Callable[..., None]:
        """Wrap an action: errors go to the status, and afterwards Segment's layers are active."""

        def act(*_: Any) -> None:
            try:
                action()
            except UserError as error:
                self.status.setText(str(error))
            segment = segment_commands.controller_of(self.viewer)
            if segment is not None and segment.workspace.overlays is not None:
                segment.workspace.overlays.activate()

        return act

    # What is shown.

    def _show(self) -> None:
        """Bring the list to the classes, and to how many objects have them."""
        chosen = [item.text(NAME) for item in self.list.selectedItems()]
        given, predicted = (self.controller.count(is_given) for is_given in (True, False))
        self.list.blockSignals(True)
        self.list.clear()
        for number, one in enumerate(self.controller.classes):
            texts = [KEYS[number : number + 1], one.name]
            counts = [str(count[one.name] or "") for count in (given, predicted)]
            item = QTreeWidgetItem([*texts, *counts])
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            item.setIcon(NAME, _sign(one.colour))
            item.setData(NAME, Qt.ItemDataRole.UserRole, one.name)
            self.list.addTopLevelItem(item)
            item.setSelected(one.name in chosen)
        self.list.blockSignals(False)


def _let_go(viewer: Viewer, controller: ClassesController) -> None:
    """Release keys and layers, without touching a Qt object of ours."""
    if not controller.is_closed:
        commands.register(viewer, None)
        controller.close()


def _sign(colour: str) -> QIcon:
    pixmap = QPixmap(SIGN_SIZE, SIGN_SIZE)
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)
