"""What the command palette and the menus can do: the actions of the open widget."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from napari.utils.notifications import show_info
from napari.viewer import Viewer

from samlet.errors import UserError
from samlet_napari.ui.controller import Controller

_open: "WeakKeyDictionary[Viewer, Controller]" = WeakKeyDictionary()


def register(viewer: Viewer, controller: Controller | None) -> None:
    """Say which controller acts in a viewer; None for no longer any."""
    if controller is None:
        _open.pop(viewer, None)
    else:
        _open[viewer] = controller


def commit(viewer: Viewer) -> None:
    """Commit the object."""
    _act(viewer, lambda controller: controller.gestures.commit())


def undo(viewer: Viewer) -> None:
    """Take back the last point or object."""
    _act(viewer, lambda controller: controller.gestures.undo())


def cancel(viewer: Viewer) -> None:
    """Drop the object that is being clicked."""
    _act(viewer, lambda controller: controller.gestures.cancel())


def next_candidate(viewer: Viewer) -> None:
    """Show another mask for the same clicks."""
    _act(viewer, lambda controller: controller.gestures.next_candidate())


def edit(viewer: Viewer) -> None:
    """Take up the object under the cursor again."""
    _act(viewer, lambda controller: controller.gestures.edit())


def everything(viewer: Viewer) -> None:
    """Find all objects."""
    _act(viewer, lambda controller: controller.jobs.everything())


def propagate_forward(viewer: Viewer) -> None:
    """Carry the object through the next slices."""
    _act(viewer, lambda controller: controller.jobs.propagate(True))


def propagate_backward(viewer: Viewer) -> None:
    """Carry the object through the previous slices."""
    _act(viewer, lambda controller: controller.jobs.propagate(False))


def _act(viewer: Viewer, do: Callable[[Controller], None]) -> None:
    controller = _open.get(viewer)
    if controller is None:
        show_info("Open Plugins > samlet > Segment first.")
        return
    try:
        do(controller)
    except UserError as error:
        controller.status.emit(str(error))
