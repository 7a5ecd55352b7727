"""A real napari in a real window, on a virtual screen where there is no other."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from napari._qt.qt_event_loop import get_qapp
from napari._vispy.canvas import VispyCanvas
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QApplication

import napari
import samlet
from samlet import images, samples
from samlet.checkpoints.loading import BUNDLED
from samlet.modeling.sam import Sam
from samlet.outputs import read_label_map
from tests.file_server import FileServer, running_server
from tests.models import nuclei_at, quick_nuclei
from tests.napari.desk import Desk, blocked, wait
from tests.napari.screen import screen

FULL_SIZE = dict(BUNDLED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, longest in blocked.items():
        terminalreporter.write_line(f"napari's window was blocked for {longest} by {what}")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's is read or written."""
    monkeypatch.setenv("SAMLET_NAPARI_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture(scope="session")
def _smaller_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In this process, the bundled model is one for 768 px, which takes half the time.

    Tests of how well it finds objects are elsewhere, and here those that use `full_size`.
    """
    with _bundled(nuclei_at(768), tmp_path_factory):
        yield


@pytest.fixture(scope="module")
def small_model(_smaller_model: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One for 256 px, which finds few objects, for what does not depend on them."""
    with _bundled(quick_nuclei(), tmp_path_factory):
        yield


@contextmanager
def _bundled(model: Sam, folders: pytest.TempPathFactory) -> Iterator[None]:
    """Put a model in the place of the bundled one."""
    path = folders.mktemp("models") / "model.safetensors"
    samlet.save(model, path)
    with pytest.MonkeyPatch.context() as patch:
        for name in BUNDLED:
            patch.setitem(BUNDLED, name, path)
        yield


@pytest.fixture
def full_size(_smaller_model: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled model as it is."""
    for name, path in FULL_SIZE.items():
        monkeypatch.setitem(BUNDLED, name, path)


@pytest.fixture(scope="session")
def _screen() -> Iterator[None]:
    with screen():
        yield


@pytest.fixture(scope="session")
def _own_contexts() -> Iterator[None]:
    """Each window's OpenGL commands go to its own context.

    When a layer is removed, napari 0.9.2 (since its pull request 8122) executes what vispy has
    queued in whichever context is current, and suppresses errors. With two windows it may be the
    other's, which loses textures that Qt or vispy draw later: "Could not find texture with id".
    """
    clean = VispyCanvas._clean_and_update_scenegraph

    def clean_in_own_context(canvas: VispyCanvas) -> None:
        canvas._scene_canvas.set_current()
        clean(canvas)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VispyCanvas, "_clean_and_update_scenegraph", clean_in_own_context)
        yield


@pytest.fixture(scope="session")
def qapp(_screen: None, _own_contexts: None) -> Iterator[QApplication]:
    """The application as napari makes it, with its icons.

    Widgets are in cycles. Python would collect them in whatever thread runs then (napari's issue
    1029), and Qt's objects must not be destroyed in any but the GUI thread: with a thread that
    collects all the time, Qt ends the process with a segmentation fault. See `collected`.
    """
    gc.disable()
    yield get_qapp()
    # A closed window is destroyed later. Where its screen is gone by then, X ends the process.
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.enable()


@pytest.fixture
def collected(qapp: QApplication) -> Iterator[None]:
    """What a test leaves is collected, in the GUI thread, once no event is due to it."""
    yield
    wait(10)
    gc.collect()
    # What is left stays, so that collecting is quick: napari does it, too, with each layer that is
    # removed.
    gc.freeze()


@pytest.fixture(scope="session")
def _window(qapp: QApplication, _smaller_model: None) -> Iterator[napari.Viewer]:
    """A window for all tests, since it takes seconds to open one."""
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1250, 800)
    # Imports PyTorch and much else.
    Desk(viewer)
    viewer.window.remove_dock_widget("all")
    wait(200)
    yield viewer
    viewer.close()


@pytest.fixture
def viewer(_window: napari.Viewer, collected: None, qtbot: QtBot) -> Iterator[napari.Viewer]:
    """An empty viewer without widgets."""
    yield _window
    _window.window.remove_dock_widget("all")
    _window.layers.clear()
    _window.dims.ndisplay = 2
    _window.dims.order = tuple(range(_window.dims.ndim))


@pytest.fixture
def desk(viewer: napari.Viewer) -> Desk:
    desk = Desk(viewer)
    # While the bar moves to and fro, software composes the whole window up to 60 times a second.
    desk.widget.progress.native.setUpdatesEnabled(False)
    return desk


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """Nuclei in fluorescence: grey, uint8, 520 x 696."""
    return images.read(samples.IMAGES / "fluorescence_1.png")[..., 0]


@pytest.fixture(scope="session")
def truth() -> np.ndarray:
    """Their labels."""
    return read_label_map(samples.LABELS / "fluorescence_1.png")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with running_server(monkeypatch) as server:
        yield server
