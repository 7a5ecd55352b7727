"""The labels of a form, as wide as each other."""

from magicgui.widgets import Container
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QLabel


class AlignedLabels(QObject):
    """Gives the labels of a container's rows one width whenever it is shown.

    magicgui does so, too, but measures them before napari's style gives them a larger font.

    Args:
        container: of rows with labels.
    """

    def __init__(self, container: Container) -> None:
        super().__init__(container.native)
        self._container = container
        container.native.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Act on the event that the container is shown; see Qt."""
        if event.type() == QEvent.Type.Show:
            texts = {row.label for row in self._container if row.label.strip() and row.visible}
            found = self._container.native.findChildren(QLabel)
            labels = [label for label in found if label.text() in texts]
            width = max((label.sizeHint().width() for label in labels), default=0)
            for label in labels:
                label.setMinimumWidth(width)
        return False
