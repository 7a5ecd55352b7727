"""The list of a folder's images, with a sign for the state of each."""

from collections.abc import Callable

from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from samlet_napari.folder.image_folder import ImageFolder, State

COLOURS = {
    State.UNTOUCHED: "#8a8d91",
    State.IN_PROGRESS: "#f0a830",
    State.DONE: "#4caf50",
    State.UNREADABLE: "#e05252",
}
SIGN_SIZE = 12


class ImageList(QListWidget):
    """Shows images and their states.

    Args:
        on_chosen: called with the index of an image that a user has clicked on.
    """

    def __init__(self, on_chosen: Callable[[int], None]) -> None:
        super().__init__()
        self.setUniformItemSizes(True)
        self.setIconSize(QSize(SIGN_SIZE, SIGN_SIZE))
        # Keys go to the canvas.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._signs = {state: _draw_sign(state) for state in State}
        self.itemClicked.connect(lambda item: on_chosen(self.row(item)))

    def show_folder(self, folder: ImageFolder | None) -> None:
        """List the images of a folder, or nothing."""
        self.clear()
        if folder is None:
            return
        for index in range(len(folder)):
            self.addItem(QListWidgetItem(folder.name(index)))
            self.show_state(folder, index)

    def show_state(self, folder: ImageFolder, index: int) -> None:
        """Bring the sign of an image to its state."""
        item = self.item(index)
        if item is not None:
            state = folder.state(index)
            item.setIcon(self._signs[state])
            item.setToolTip(folder.error(index) or f"{folder.name(index)}: {state.value}")

    def select(self, index: int | None) -> None:
        """Mark the image that is shown."""
        self.setCurrentRow(-1 if index is None else index)


def _draw_sign(state: State) -> QIcon:
    """A ring, a half disc, a disc or a cross, so that states differ by more than colour."""
    scale = 4
    side = SIGN_SIZE * scale
    pixmap = QPixmap(side, side)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    colour = QColor(COLOURS[state])
    painter.setPen(QPen(colour, 1.5 * scale))
    margin = 2 * scale
    inner = side - 2 * margin
    if state is State.UNREADABLE:
        far = float(side - margin)
        painter.drawLine(QPointF(margin, margin), QPointF(far, far))
        painter.drawLine(QPointF(margin, far), QPointF(far, margin))
    else:
        if state is State.DONE:
            painter.setBrush(colour)
        painter.drawEllipse(margin, margin, inner, inner)
    if state is State.IN_PROGRESS:
        painter.setBrush(colour)
        # Angles are in sixteenths of a degree, from three o'clock counterclockwise.
        painter.drawPie(margin, margin, inner, inner, 90 * 16, 180 * 16)
    painter.end()
    # The same where it is selected, which Qt would tint.
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)
    return icon
