"""The guide's pictures, from a real window: `python -m tests.napari.pictures`."""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

import napari
from samlet import samples
from samlet.masks import deepest_point
from samlet.outputs import read_label_map
from samlet_napari import sample_data
from samlet_napari.classes.widget import ClassesWidget
from samlet_napari.folder.image_folder import ImageFolder
from samlet_napari.labels.labels_file import write_labels
from tests.napari.desk import Desk, wait
from tests.napari.folder_desk import FolderDesk
from tests.napari.screen import screen
from tests.pictures import FOLDER, make_small

SIZE = (1250, 780)
COMMITTED = (2, 12, 14, 15, 17, 22, 27, 29, 32, 35, 37, 41)
HOVERED, NEGATIVE = 36, 37
NUCLEUS = 27
EXAMPLES = (2, 12, 27)


def take(folder: Path) -> None:
    """Take all pictures; earlier ones are replaced."""
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(*SIZE)
    desk = Desk(viewer)
    truth = read_label_map(samples.LABELS / "fluorescence_1.png")

    viewer.open_sample("samlet", "fluorescence")
    desk.open(viewer.layers[0])
    desk.widget.form.auto_commit.value = True
    for label in COMMITTED:
        x, y = deepest_point(truth == label)
        desk.click(y, x)
    desk.settle()
    desk.widget.form.auto_commit.value = False
    x, y = deepest_point(truth == HOVERED)
    desk.hover(y, x)
    desk.settle()
    save(desk, folder / "napari-hover.png")
    desk.click(y, x)
    desk.settle()
    x, y = deepest_point(truth == NEGATIVE)
    desk.click(y, x, button="right")
    desk.settle()
    save(desk, folder / "napari-click.png")
    desk.key(Qt.Key.Key_Escape)

    viewer.layers.clear()
    viewer.open_sample("samlet", "stained")
    desk.open(viewer.layers[0])
    desk.press("Everything")
    desk.until(lambda: not desk.controller.tasks.is_running)
    save(desk, folder / "napari-everything.png")

    viewer.layers.clear()
    viewer.open_sample("samlet", "fluorescence")
    take_similar(desk, folder)

    viewer.layers.clear()
    viewer.open_sample("samlet", "fluorescence")
    take_classes(desk, folder)

    viewer.layers.clear()
    viewer.open_sample("samlet", "stack")
    desk.open(viewer.layers[0])
    stack = sample_data.stack_labels()
    slices = np.flatnonzero((stack == NUCLEUS).any((1, 2)))
    middle = int(slices[len(slices) // 2])
    viewer.dims.set_current_step(0, middle)
    desk.settle()
    x, y = deepest_point(stack[middle] == NUCLEUS)
    desk.click(middle, y, x)
    desk.settle()
    desk.press("Propagate on")
    desk.until(lambda: not desk.controller.tasks.is_running)
    save(desk, folder / "napari-stack.png")

    with tempfile.TemporaryDirectory() as temporary:
        take_folder(desk, Path(temporary) / "plate 3", folder)
    viewer.close()


def take_similar(desk: Desk, folder: Path) -> None:
    """Take the picture of objects that are like three nuclei."""
    desk.open(desk.viewer.layers[0])
    truth = read_label_map(samples.LABELS / "fluorescence_1.png")
    for label in EXAMPLES:
        x, y = deepest_point(truth == label)
        desk.click(y, x)
        desk.settle()
        desk.key(Qt.Key.Key_C)
    desk.press("Find similar")
    desk.until(lambda: not desk.controller.tasks.is_running, seconds=600)
    save(desk, folder / "napari-similar.png")


def take_classes(desk: Desk, folder: Path) -> None:
    """Take the picture of nuclei in two classes, of which three each were given."""
    viewer = desk.viewer
    desk.open(viewer.layers[0])
    truth = read_label_map(samples.LABELS / "fluorescence_1.png")
    desk.widget.form.labels.value = viewer.add_labels(truth.copy(), name="nuclei")
    _, widget = viewer.window.add_plugin_dock_widget("samlet", "Classes")
    assert isinstance(widget, ClassesWidget)
    by_area = np.argsort(np.bincount(truth.ravel())[1:]) + 1
    given = {"large": by_area[-3:], "small": by_area[:3]}
    for key, (name, labels) in zip((Qt.Key.Key_1, Qt.Key.Key_2), given.items(), strict=True):
        widget.controller.add(name)
        for label in labels:
            x, y = deepest_point(truth == label)
            desk.hover(y, x)
            desk.key(key)
    widget.coloured.setChecked(True)
    QTest.mouseClick(widget.buttons["Classify the rest"], Qt.MouseButton.LeftButton)
    desk.until(lambda: not desk.controller.tasks.is_running, seconds=600)
    save(desk, folder / "napari-classes.png")
    widget.close_down()
    viewer.window.remove_dock_widget(widget)


def take_folder(desk: Desk, images: Path, folder: Path) -> None:
    """Take the picture of a folder, of which some images are done."""
    desk.viewer.layers.clear()
    shutil.copytree(samples.IMAGES, images)
    truth = read_label_map(samples.LABELS / "fluorescence_1.png")
    listed = ImageFolder(images)
    for index in range(3):
        labels = read_label_map(samples.LABELS / listed.name(index))
        # The third one is shown, and half of its objects are still missing.
        write_labels(listed.labels_path(index), labels * ((labels % 2 == 0) | (index < 2)), {})
        if index < 2:
            listed.set_done(index, True)
    listed.close()
    window = desk.viewer.window
    window._qt_window.resize(SIZE[0], 880)
    at = FolderDesk(desk, images)
    x, y = deepest_point(truth == NUCLEUS)
    desk.click(y, x)
    desk.settle()
    save(desk, folder / "napari-folder.png")
    desk.key(Qt.Key.Key_Escape)
    at.widget.close_down()


def save(desk: Desk, path: Path) -> None:
    """Keep what the window shows, in few colours."""
    wait(300)
    desk.screenshot(path)
    make_small(path)


def main() -> None:
    """Open a window, and take the pictures."""
    parser = argparse.ArgumentParser(description="Takes the guide's pictures of napari.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder [docs/images]")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, screen():
        os.environ["SAMLET_CACHE"] = temporary
        # Otherwise napari shows a message about it on some processors.
        os.environ["SAMLET_PRECISION"] = "float32"
        take(arguments.out)


if __name__ == "__main__":
    main()
