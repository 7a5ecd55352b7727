"""The command of the command palette that concerns classes: it acts on the open widget."""

from napari.viewer import Viewer

from samlet_napari.classes.controller import ClassesController
from samlet_napari.ui.open_controllers import OpenControllers

_open = OpenControllers[ClassesController]("Classes")
register = _open.register


def classify_rest(viewer: Viewer) -> None:
    """Give the rest of the objects a class."""
    _open.act(viewer, ClassesController.classify_rest)
