"""The commands of the command palette and the menus: they act on the open widget."""

from collections.abc import Callable

from napari.viewer import Viewer

from samlet.errors import UserError
from samlet_napari.ui.controller import Controller
from samlet_napari.ui.open_controllers import OpenControllers

registry = OpenControllers[Controller]("Segment")
register, controller_of = registry.register, registry.of


def commit(viewer: Viewer) -> None:
    """Commit the object."""
    _act(viewer, lambda controller: controller.actions.commit())


def undo(viewer: Viewer) -> None:
    """Undo the last point or object."""
    _act(viewer, lambda controller: controller.actions.undo())


def cancel(viewer: Viewer) -> None:
    """Drop the object that is being clicked."""
    _act(viewer, lambda controller: controller.actions.cancel())


def next_candidate(viewer: Viewer) -> None:
    """Show another mask for the same clicks."""
    _act(viewer, lambda controller: controller.actions.next_candidate())


def edit(viewer: Viewer) -> None:
    """Open the object under the cursor again."""
    _act(viewer, lambda controller: controller.actions.edit())


def everything(viewer: Viewer) -> None:
    """Find all objects."""
    _act(viewer, lambda controller: controller.segment_everything())


def find_similar(viewer: Viewer) -> None:
    """Find objects like those committed last."""
    _act(viewer, lambda controller: controller.find_similar())


def measure(viewer: Viewer) -> None:
    """Measure the objects."""
    _act(viewer, lambda controller: controller.measure())


def propagate_forward(viewer: Viewer) -> None:
    """Propagate the object through the next slices."""
    _act(viewer, lambda controller: controller.propagate(True))


def propagate_backward(viewer: Viewer) -> None:
    """Propagate the object through the previous slices."""
    _act(viewer, lambda controller: controller.propagate(False))


def _act(viewer: Viewer, action: Callable[[Controller], None]) -> None:
    def reporting(controller: Controller) -> None:
        try:
            action(controller)
        except UserError as error:
            controller.workspace.status.emit(str(error))

    registry.act(viewer, reporting)
