"""The open widgets of each viewer, on which the commands of the command palette act."""

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from napari.utils.notifications import show_info
from napari.viewer import Viewer
from psygnal import Signal

ControllerT = TypeVar("ControllerT")


class OpenControllers(Generic[ControllerT]):
    """What acts for one of our widgets, in each viewer where it is open.

    Args:
        title: of the widget in napari's menu.

    Attributes:
        changed: emitted when it is opened or closed in any viewer.
    """

    changed = Signal()

    def __init__(self, title: str) -> None:
        self._title = title
        self._by_viewer: WeakKeyDictionary[Viewer, ControllerT] = WeakKeyDictionary()

    def register(self, viewer: Viewer, controller: ControllerT | None) -> None:
        """Set the controller that commands in a viewer act on; None for none."""
        if controller is None:
            self._by_viewer.pop(viewer, None)
        else:
            self._by_viewer[viewer] = controller
        self.changed.emit()

    def of(self, viewer: Viewer) -> ControllerT | None:
        """The controller that commands in a viewer act on; None if there is none."""
        return self._by_viewer.get(viewer)

    def act(self, viewer: Viewer, action: Callable[[ControllerT], None]) -> None:
        """Do something with the controller of a viewer, or tell the user to open the widget."""
        controller = self.of(viewer)
        if controller is None:
            show_info(f"Open Plugins > samlet > {self._title} first.")
        else:
            action(controller)
