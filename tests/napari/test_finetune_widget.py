"""The "Finetune" widget in a real viewer, with real trainings of few steps."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.viewer import Viewer
from PIL import Image

from samlet import samples
from samlet.checkpoints.downloads import CHUNK_BYTES
from samlet.checkpoints.loading import BUNDLED
from samlet.checkpoints.registry import MODELS
from samlet.checkpoints.remote_file import RemoteFile
from samlet.masks import deepest_point, iou
from samlet.outputs import read_label_map
from samlet.training.job import RUN
from samlet.utils.files import checksum_of
from samlet_napari.finetune.widget import FinetuneWidget
from samlet_napari.inference import models
from tests.file_server import FileServer, Reply
from tests.napari.desk import downloads

WAIT_MS = 90_000
SIGTERM = 15


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMLET_NAPARI_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("SAMLET_NAPARI_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.fixture
def viewer(collected: None, qtbot: Any) -> Iterator[Viewer]:
    viewer = Viewer(show=True)
    yield viewer
    viewer.close()


@pytest.fixture
def widget(viewer: Viewer) -> FinetuneWidget:
    widget = FinetuneWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Finetune")
    return widget


def stack() -> tuple[np.ndarray, np.ndarray]:
    """Two pieces of a sample with their labels, as planes, and one without labels between."""
    image = np.asarray(Image.open(samples.IMAGES / "fluorescence_1.png").convert("L"))
    labels = read_label_map(samples.LABELS / "fluorescence_1.png").astype(np.int32)
    crops = np.s_[0:200, 0:200], np.s_[200:400, 200:400]
    nothing = np.zeros((200, 200), int)
    return (
        np.stack([image[crops[0]], nothing, image[crops[1]]]).astype(np.uint8),
        np.stack([labels[crops[0]], nothing, labels[crops[1]]]).astype(np.int32),
    )


def has_begun(widget: FinetuneWidget) -> bool:
    """Whether the first step is being done: what stops before it leaves no state."""
    run = widget._run
    return run is not None and (run.folder / RUN / "train" / "tensorboard").is_dir()


def catches_sigterm(widget: FinetuneWidget) -> bool:
    """Whether the training is in its loop, where it ends between steps when asked to."""
    run = widget._run
    if run is None or run.job.process is None:
        return False
    status = Path(f"/proc/{run.job.process.pid}/status").read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) >> (SIGTERM - 1) & 1)


def test_a_model_is_downloaded_first(
    viewer: Viewer,
    widget: FinetuneWidget,
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
) -> None:
    content = BUNDLED["microscopy"].read_bytes()
    server.always = Reply(content=content, hold_after=len(content) // 2)
    file = "vit_t_lm.safetensors"
    checksum = checksum_of(BUNDLED["microscopy"], "xxh128")
    weights = RemoteFile("vit_t_lm", server.url, file, checksum, size=None)
    model = replace(MODELS["vit_t_lm"], weights=weights, instance_decoder=None)
    monkeypatch.setitem(MODELS, "vit_t_lm", model)
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    pixels, objects = stack()
    viewer.add_image(pixels, name="cells")
    viewer.add_labels(objects, name="answer")
    widget.model.value = "vit_t_lm"
    qtbot.waitUntil(lambda: "press Estimate to download it" in widget.time.value, timeout=WAIT_MS)
    widget.estimate.native.click()
    qtbot.waitUntil(lambda: 40 < widget.bar.value < 60, timeout=WAIT_MS)
    # The server holds back the rest.
    part, half = tmp_path / "cache" / f"{file}.part", len(content) // 2
    qtbot.waitUntil(lambda: part.stat().st_size >= half - CHUNK_BYTES, timeout=WAIT_MS)
    assert widget.status.value.startswith("Downloading vit_t_lm: ")
    widget.stop.native.click()
    assert widget.status.value == "Stopped." and widget.bar.value == 0
    assert not widget.is_busy and widget.train.enabled
    server.gate.set()
    qtbot.waitUntil(lambda: not downloads())
    kept = part.stat().st_size
    assert half - CHUNK_BYTES <= kept < len(content)
    # Training downloads the rest, and goes on by itself.
    widget.train.native.click()
    qtbot.waitUntil(lambda: widget._run is not None, timeout=WAIT_MS)
    assert (tmp_path / "cache" / file).read_bytes() == content
    assert server.requests[-1].range == f"bytes={kept}-"
    widget.stop.native.click()
    qtbot.waitUntil(lambda: not widget.is_busy, timeout=WAIT_MS)


@pytest.mark.slow
def test_from_layers_to_a_model(viewer: Viewer, widget: FinetuneWidget, qtbot: Any) -> None:
    tell, threads = widget._report, set()

    def overheard(sentence: str) -> None:
        threads.add(threading.get_ident())
        tell(sentence)

    widget._report = overheard  # type: ignore[method-assign]
    assert widget.status.value == "Choose an image layer and its labels."
    pixels, objects = stack()
    image = viewer.add_image(pixels, name="cells")
    labels = viewer.add_labels(objects, name="answer")
    assert (widget.image_layer.value, widget.labels_layer.value) == (image, labels)
    # The time is told without being asked for.
    qtbot.waitUntil(lambda: widget._time_estimate is not None, timeout=WAIT_MS)
    assert widget._time_estimate is not None and widget._time_estimate.images == 2
    before = widget.time.value
    widget.steps.value = 100_000
    assert before.startswith("About ") and before.endswith("with 2 labelled images.")
    assert " h on this computer" in widget.time.value

    widget.steps.value = 2
    widget.model_name.value = "my cells"
    qtbot.waitUntil(lambda: not widget.is_busy)
    widget.train.native.click()
    assert widget.stop.enabled and not widget.train.enabled
    qtbot.waitUntil(lambda: catches_sigterm(widget), timeout=WAIT_MS)
    qtbot.waitUntil(lambda: has_begun(widget), timeout=WAIT_MS)
    # What is trained on was written down.
    viewer.layers.clear()
    widget.stop.native.click()
    assert widget.status.value == "Stopping after this step…"
    qtbot.waitUntil(lambda: not widget.is_busy, timeout=WAIT_MS)
    assert widget.status.value.startswith("Stopped at step ")
    assert models.names()[1] != "my-cells" and widget.go_on.enabled

    drawn: list[list[tuple[int, float]]] = []
    logged: list[list[tuple[int, float]]] = []
    show = widget.curve.show

    def seen(rows: Any, steps: int) -> None:
        show(rows, steps)
        drawn.append(widget.curve.points)
        logged.append([(row.step, row.loss) for row in rows])

    widget.curve.show = seen  # type: ignore[method-assign]
    run = widget._run
    assert run is not None
    state = run.folder / RUN / "train" / "state.pt"
    assert state.exists()
    widget.go_on.native.click()
    qtbot.waitUntil(lambda: not widget.is_busy, timeout=WAIT_MS)
    assert widget.status.value.startswith("Done: my-cells is in the list of models. Mean IoU")
    assert drawn == logged and [step for step, _ in drawn[-1]] == [2]
    assert widget.bar.value == widget.bar.max == 2
    assert threads == {threading.get_ident()}
    assert not run.folder.exists()

    assert models.names()[1] == "my-cells" and "my-cells" in widget.model.choices
    predictor = models.predictor("my-cells")
    assert predictor.model.card["finetuned by"].endswith("decoder, 2 steps of 4 images")
    largest = objects[2] == np.bincount(objects[2][objects[2] > 0]).argmax()
    embedding = predictor.encode(pixels[2])
    response = predictor.segment(embedding, [deepest_point(largest)], [1])
    assert iou(response.best, largest) > 0.5


def test_mistakes_are_sentences(
    viewer: Viewer, widget: FinetuneWidget, qtbot: Any, folders: Path
) -> None:
    widget.train.native.click()
    assert widget.status.value.startswith("Choose an image layer: there is none")
    viewer.add_image(np.zeros((30, 40), np.uint8), name="cells")
    widget.train.native.click()
    assert widget.status.value.startswith("Choose a labels layer: there is none")
    viewer.add_labels(np.ones((40, 30), int), name="other")
    widget.train.native.click()
    assert widget.status.value.startswith("other is 40 x 30 and cells is 30 x 40")
    empty = viewer.add_labels(np.zeros((30, 40), int), name="empty")
    widget.labels_layer.value = empty
    widget.train.native.click()
    qtbot.waitUntil(lambda: not widget.is_busy, timeout=WAIT_MS)
    assert widget.status.value == "empty has no objects: label some in cells first."
    assert not widget.go_on.enabled and list((folders / "runs").iterdir()) == []
    # The names of layers are kept up to date.
    empty.name = "full"
    assert widget.labels_layer.native.currentText() == "full"


def test_nothing_is_downloaded_unasked(
    viewer: Viewer, widget: FinetuneWidget, qtbot: Any, folders: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(folders / "cache"))
    widget.model.value = "sam_vit_h"
    viewer.add_image(np.zeros((30, 40), np.uint8), name="cells")
    viewer.add_labels(np.ones((30, 40), int), name="answer")
    qtbot.waitUntil(lambda: "sam_vit_h must be downloaded first" in widget.time.value)
    assert not widget.is_busy and not (folders / "cache").exists()


@pytest.mark.parametrize("way", ["dock", "viewer"])
@pytest.mark.usefixtures("collected")
def test_closing_ends_the_training(qtbot: Any, way: str) -> None:
    viewer = Viewer(show=True)
    widget = FinetuneWidget(viewer)
    dock = viewer.window.add_dock_widget(widget, name="Finetune")
    pixels, objects = stack()
    viewer.add_image(pixels)
    viewer.add_labels(objects)
    widget.train.native.click()
    qtbot.waitUntil(lambda: widget._run is not None, timeout=WAIT_MS)
    run = widget._run
    assert run is not None
    process = run.job.process
    assert process is not None and process.poll() is None
    if way == "dock":
        viewer.window.remove_dock_widget(dock)
    viewer.close()
    qtbot.waitUntil(lambda: process.poll() is not None)
    qtbot.waitUntil(lambda: not run.folder.exists())
    # Nothing of it listens any more.
    models.add("cells", BUNDLED["microscopy"])
