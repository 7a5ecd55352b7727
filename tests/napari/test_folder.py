"""A folder of images in a real window: keys from image to image, and what is on disk afterwards."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.layers import Labels
from PIL import Image as PillowImage
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox, QScrollArea

import napari
import samlet
from samlet import Predictor
from samlet.errors import UserError
from samlet.masks import deepest_point
from samlet_napari.folder.image_folder import ImageFolder, State
from samlet_napari.labels.labels_file import read_labels, write_labels
from samlet_napari.viewer.overlays import CLICKS, PREVIEW
from tests.disks import small_disk
from tests.microscope_files import WRITERS
from tests.napari.desk import Desk, wait
from tests.napari.folder_desk import FolderDesk

PART = np.s_[150:406, 200:456]
"""Of the image and its labels: a model for 256 pixels sees it as a whole."""
CELL = 27


@pytest.fixture
def images(tmp_path: Path, picture: np.ndarray) -> Path:
    """Five different images, whose order by number is not that by text."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2, 3, 9, 10):
        PillowImage.fromarray(np.roll(picture[PART], number, axis=0)).save(
            folder / f"cells {number}.png"
        )
    return folder


@pytest.fixture
def at(desk: Desk, small_model: None, images: Path) -> FolderDesk:
    return FolderDesk(desk, images)


def cell(truth: np.ndarray, number: int) -> np.ndarray:
    """A cell of the image of that number: bool, H x W."""
    return np.roll(truth[PART], number, axis=0) == CELL


def labels_of(at: FolderDesk) -> Labels:
    current = at.controller.current
    assert current is not None
    return current.labels


def paint(at: FolderDesk, value: int) -> None:
    """A brush stroke of napari's own."""
    labels = labels_of(at)
    with labels.block_history():
        labels.data_setitem((np.array([5, 6]), np.array([7, 7])), value)


def fill(ballast: Path) -> None:
    """Fill a disk with a file."""
    with pytest.raises(OSError), ballast.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def test_going_through_a_folder(at: FolderDesk, images: Path, truth: np.ndarray) -> None:
    first = [weakref.ref(layer) for layer in at.desk.viewer.layers]
    assert at.shown == "cells 1.png"
    # Two widgets below each other: the form is beside its scrollbar, not behind it.
    (form,) = at.desk.widget.findChildren(QScrollArea)
    assert form.verticalScrollBar().isVisible() and not form.horizontalScrollBar().maximum()
    at.commit(cell(truth, 1))
    committed = at.desk.labels().copy()
    x, y = deepest_point(cell(truth, 1))
    assert committed[round(y), round(x)] == 1
    saved = images / "cells 1.png.samlet.tif"
    at.desk.until(saved.exists, 5)
    at.key(Qt.Key.Key_N)
    assert at.shown == "cells 2.png"
    layers = [layer.name for layer in at.desk.viewer.layers]
    assert layers == ["cells 2.png", "cells 2.png objects", PREVIEW, CLICKS]
    np.testing.assert_array_equal(tifffile.imread(saved), committed)
    [(_, meta, _)] = read_labels(saved)
    assert list(meta["metadata"]["samlet"]["objects"]) == ["1"]
    at.key(Qt.Key.Key_D)
    gc.collect()
    assert [layer() for layer in first] == [None] * 4
    for _ in range(3):
        at.key(Qt.Key.Key_N)
    assert at.shown == "cells 10.png" and at.said[-1] == "This is the last image."
    assert at.states() == ["in progress", "done", "untouched", "untouched", "untouched"]
    assert at.widget.progress.text() == "1 of 5 done"
    # Looking at an image leaves nothing behind.
    assert len(list(images.glob("*.samlet.tif"))) == 2
    at.widget.skip_done.setChecked(True)
    for _ in range(3):
        at.key(Qt.Key.Key_N, shift=True)
    assert at.shown == "cells 1.png"
    np.testing.assert_array_equal(at.desk.labels(), committed)
    # The prompts are there, too.
    at.desk.hover(y, x)
    at.desk.key(Qt.Key.Key_E)
    session = at.desk.workspace.session
    assert session is not None and session.draft is not None and session.draft.label == 1
    # What is open is not lost by going on.
    at.key(Qt.Key.Key_N)
    assert at.shown == "cells 1.png"
    assert at.said[-1] == "Commit (C) or discard (Esc) the object first."


def test_stacks_of_several_channels(
    desk: Desk, small_model: None, tmp_path: Path, picture: np.ndarray, truth: np.ndarray
) -> None:
    """From one to the next with the channel that was chosen, and back to labels that are there."""
    nuclei = picture[PART]
    stack = np.array([[[nuclei] * 3, [nuclei.T] * 3]], np.uint16)
    for name in ("a.czi", "a.zarr"):
        WRITERS[name](tmp_path / name, stack)
    at = FolderDesk(desk, tmp_path)
    channels = [f"a.czi channel {number}" for number in range(2)]
    assert [layer.name for layer in desk.viewer.layers][:3] == [*channels, "a.czi objects"]
    desk.open(desk.viewer.layers[channels[1]])
    desk.viewer.dims.set_current_step(0, 2)
    desk.settle()
    x, y = deepest_point(truth[PART].T == CELL)
    desk.click(2, y, x)
    desk.settle()
    desk.key(Qt.Key.Key_C)
    committed = desk.labels().copy()
    assert committed.shape == (3, *nuclei.shape) and committed[2, round(y), round(x)] == 1
    assert not committed[:2].any()
    at.key(Qt.Key.Key_N)
    image = desk.workspace.image
    assert image is not None and image.name == "a.zarr channel 1"
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.czi.samlet.tif"), committed)

    # All channels, without one that is hidden.
    desk.widget.form.channels.value = "all visible layers, blended"
    desk.viewer.layers["a.zarr channel 0"].visible = False
    desk.settle()
    at.key(Qt.Key.Key_N, shift=True)
    np.testing.assert_array_equal(desk.labels(), committed)
    assert [desk.viewer.layers[name].visible for name in channels] == [False, True]
    assert desk.controller.sources.is_blended
    desk.viewer.layers.remove(channels[0])
    wait(50)
    assert at.shown == "a.czi"
    desk.viewer.layers.remove(channels[1])
    desk.until(lambda: at.shown == "", 5)


def test_the_next_image_is_encoded_ahead(
    at: FolderDesk, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.desk.until(lambda: at.controller.is_ahead)
    encoded: list[np.ndarray] = []
    encode = Predictor.encode

    def record(predictor: Predictor, image: np.ndarray) -> samlet.ImageEmbedding:
        encoded.append(image)
        return encode(predictor, image)

    monkeypatch.setattr(Predictor, "encode", record)
    at.key(Qt.Key.Key_N)
    at.desk.click(100, 100)
    at.desk.settle()
    assert at.shown == "cells 2.png"
    # The one after it may be by now.
    second = samlet.images.read(images / "cells 2.png")
    assert not any(np.array_equal(image, second) for image in encoded)


def test_strokes_and_their_undo_are_saved_until_the_widget_is_closed(
    at: FolderDesk, images: Path
) -> None:
    saved = images / "cells 1.png.samlet.tif"
    paint(at, 3)
    at.desk.until(saved.exists, 5)
    assert tifffile.imread(saved)[6, 7] == 3
    labels = labels_of(at)
    labels.undo()
    at.desk.until(lambda: not tifffile.imread(saved).any(), 5)
    assert at.states()[0] == "in progress"
    labels.data[0, 0] = 8
    at.desk.viewer.window.remove_dock_widget(at.widget)
    assert tifffile.imread(saved)[0, 0] == 8
    # Nothing that is not saved can be annotated any more.
    at.desk.until(lambda: not at.desk.viewer.layers, 5)
    ImageFolder(images).close()
    at.desk.key(Qt.Key.Key_N)
    assert not at.desk.viewer.layers


def test_closing_the_window(qtbot: QtBot, small_model: None, images: Path) -> None:
    viewer = napari.Viewer(show=True)
    at = FolderDesk(Desk(viewer), images)
    labels_of(at).data[0, 0] = 8
    with pytest.raises(UserError, match="is open in another napari"):
        ImageFolder(images)
    at.widget.buttons["Everything in the folder"].click()
    at.desk.until(at.widget.search_progress.isVisible)
    del at
    viewer.close()
    wait(50)
    assert tifffile.imread(images / "cells 1.png.samlet.tif")[0, 0] == 8
    ImageFolder(images).close()


def test_images_that_cannot_be_opened(at: FolderDesk, images: Path) -> None:
    (images / "cells 3.png").write_bytes(b"cut short")
    (images / "cells 9.png").unlink()
    other_size = images / "cells 10.png.samlet.tif"
    write_labels(other_size, np.ones((5, 5), np.uint8), {})
    before = other_size.read_bytes()
    at.key(Qt.Key.Key_N)
    at.desk.until(lambda: at.states()[2:4] == [State.UNREADABLE.value] * 2)
    at.key(Qt.Key.Key_N)
    assert at.shown == "" and not at.desk.viewer.layers
    assert "one of them was replaced" in at.said[-1]
    assert other_size.read_bytes() == before
    other_size.unlink()
    at.controller.go_to(4)
    at.settle()
    assert at.shown == "cells 10.png"
    at.controller.go_to(3)
    at.settle()
    assert at.shown == "" and "cells 9.png does not exist" in at.said[-1]
    at.key(Qt.Key.Key_N, shift=True)
    assert at.shown == "cells 2.png" and "cells 3.png is not an image" in at.said[-1]

    # Neither is one half of whose layers is gone.
    labels = labels_of(at)
    labels.data[0, 0] = 8
    at.desk.viewer.layers.remove(labels)
    at.desk.until(lambda: not at.desk.viewer.layers, 5)
    assert tifffile.imread(images / "cells 2.png.samlet.tif")[0, 0] == 8


def test_a_full_disk(
    desk: Desk, small_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(parent: object, title: str, text: str, buttons: object) -> QMessageBox.StandardButton:
        asked.append(text)
        ballast.unlink()
        return QMessageBox.StandardButton.Retry

    monkeypatch.setattr(QMessageBox, "critical", ask)
    with small_disk(tmp_path / "disk") as root:
        for number in (1, 2):
            PillowImage.new("L", (64, 64)).save(root / f"{number}.png")
        at = FolderDesk(desk, root)
        ballast = root / "ballast"
        fill(ballast)
        paint(at, 3)
        desk.until(lambda: "No space left on device" in at.said[-1], 5)
        at.key(Qt.Key.Key_N)
        assert at.shown == "1.png" and "No space left on device" in at.said[-1]
        ballast.unlink()
        at.key(Qt.Key.Key_N)
        assert at.shown == "2.png"
        assert tifffile.imread(root / "1.png.samlet.tif")[6, 7] == 3
        # Whoever closes the widget is asked.
        fill(ballast)
        labels_of(at).data[6, 7] = 4
        at.widget.close_down()
        [text] = asked
        assert text.startswith("The latest labels are not saved.") and "No space left" in text
        assert tifffile.imread(root / "2.png.samlet.tif")[6, 7] == 4


def test_everything_in_the_folder(at: FolderDesk, images: Path) -> None:
    theirs = images / "cells 2.png.samlet.tif"
    write_labels(theirs, np.full((256, 256), 9), {})
    search, buttons = at.controller.search, at.widget.buttons
    buttons["Everything in the folder"].click()
    at.desk.until(lambda: "in progress" in at.states())
    buttons["Stop"].click()
    assert not search.is_running and "untouched" in at.states()
    assert at.widget.search_status.text().startswith("Stopped.")

    buttons["Everything in the folder"].click()
    at.desk.until(lambda: not search.is_running)
    assert at.widget.search_status.text().startswith("Found ")
    assert at.states() == ["in progress"] * 5
    # The one that is open gets its objects in the window.
    assert at.desk.labels().any()
    assert (tifffile.imread(theirs) == 9).all()
    assert tifffile.imread(images / "cells 10.png.samlet.tif").any()
