"""The commands of the command palette that concern a folder: they act on the open widget."""

from napari.viewer import Viewer

from samlet_napari.folder.controller import FolderController
from samlet_napari.ui.open_controllers import OpenControllers

_open = OpenControllers[FolderController]("Folder")
register = _open.register


def next_image(viewer: Viewer) -> None:
    """Show the next image."""
    _open.act(viewer, FolderController.go_on)


def previous_image(viewer: Viewer) -> None:
    """Show the previous image."""
    _open.act(viewer, lambda controller: controller.go_on(-1))


def finish_image(viewer: Viewer) -> None:
    """Mark the image as done, and show the next one."""
    _open.act(viewer, FolderController.finish)


def search_folder(viewer: Viewer) -> None:
    """Find all objects of the images that are untouched."""
    _open.act(viewer, FolderController.start_search)
