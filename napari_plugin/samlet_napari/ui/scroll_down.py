"""A scroll area whose contents are never behind its vertical scrollbar."""

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QScrollArea


class ScrollDown(QScrollArea):
    """Scrolls vertically, and is always wide enough for its widget and the scrollbar beside it.

    Qt asks a scroll area for its width when it is laid out, and not again when the widget inside
    becomes wider, as it does with napari's style.
    """

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Act on the event that the widget inside is laid out; see Qt."""
        inside = self.widget()
        if event.type() == QEvent.Type.LayoutRequest and inside is not None and watched is inside:
            bar = self.verticalScrollBar().sizeHint().width()
            self.setMinimumWidth(inside.minimumSizeHint().width() + bar + 2 * self.frameWidth())
        return bool(super().eventFilter(watched, event))
