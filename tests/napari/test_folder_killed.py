"""A napari that goes through 200 images by keys, is killed in the middle, and is opened again."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from samlet_napari.folder.image_folder import ImageFolder, State
from samlet_napari.labels.labels_file import read_labels

ROOT = Path(__file__).parents[2]
COUNT = 200
KILLED_AT = 120

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
import napari
from qtpy.QtCore import Qt
import samlet
from samlet.checkpoints.loading import BUNDLED
from tests.models import quick_nuclei
from tests.napari.desk import Desk, wait
from tests.napari.folder_desk import FolderDesk

folder, last, model, killed = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
if not model.exists():
    samlet.save(quick_nuclei(), model)
for name in BUNDLED:
    BUNDLED[name] = model
viewer = napari.Viewer(show=True)
viewer.window._qt_window.resize(1000, 700)
desk = Desk(viewer)
at = FolderDesk(desk, folder)
print("first", at.shown, flush=True)
at.widget.skip_done.setChecked(True)
while True:
    index = at.controller.index
    desk.click(32, 32)
    desk.settle()
    desk.key(Qt.Key.Key_C)
    print("committed", index, int(np.count_nonzero(desk.labels())), flush=True)
    if index == last:
        break
    # One in three stays to be finished.
    at.key(Qt.Key.Key_N if index % 3 == 0 else Qt.Key.Key_D)
    if at.said[-1].startswith("This is the last image"):
        break
if killed == "killed":
    # The second that the documentation gives it, and an object that is being drawn.
    wait(1000)
    desk.click(10, 10)
    desk.settle()
    print("drawing", flush=True)
    wait(600_000)
viewer.close()
print("closed", flush=True)
"""


@pytest.mark.slow
def test_nothing_is_lost(tmp_path: Path, _screen: None) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    rows, columns = np.mgrid[:64, :64]
    for number in range(COUNT):
        radius = 8 + number % 13
        pixels = np.where(np.hypot(rows - 32, columns - 32) < radius, 200, 20).astype(np.uint8)
        PillowImage.fromarray(pixels).save(folder / f"{number}.png")

    log = tmp_path / "napari.log"

    def start(last: int, how: str) -> "subprocess.Popen[str]":
        arguments = [str(folder), str(last), str(tmp_path / "model.safetensors"), how]
        command = [sys.executable, "-c", SCRIPT, *arguments]
        with log.open("w") as file:
            return subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=file, text=True, cwd=ROOT
            )

    def follow(napari: "subprocess.Popen[str]", until: str) -> dict[int, int]:
        """The images in which an object was committed, and its pixels."""
        committed: dict[int, int] = {}
        assert napari.stdout is not None
        for line in napari.stdout:
            what, *values = line.split()
            if what == "first":
                first.append(values[0])
            elif what == "committed":
                committed[int(values[0])] = int(values[1])
            elif what == until:
                return committed
        raise AssertionError(f"napari has ended after {committed}: {log.read_text()[-2000:]}")

    first: list[str] = []
    napari = start(KILLED_AT, "killed")
    committed = follow(napari, "drawing")
    napari.kill()
    napari.wait()
    assert first == ["0.png"] and list(committed) == list(range(KILLED_AT + 1))
    images = ImageFolder(folder)
    for index, count in committed.items():
        [(labels, meta, _)] = read_labels(images.labels_path(index))
        assert np.count_nonzero(labels) == count > 0
        assert len(meta["metadata"]["samlet"]["objects"]) == 1
    done = [index for index in range(KILLED_AT) if index % 3]
    assert [i for i in range(COUNT) if images.state(i) is State.DONE] == done
    assert images.count(State.IN_PROGRESS) == KILLED_AT + 1 - len(done)
    before = {index: images.labels_path(index).read_bytes() for index in done}
    images.close()

    # Opened again, the rest is gone through, and what is done is left alone.
    napari = start(COUNT, "closed")
    again = follow(napari, "closed")
    assert napari.wait() == 0
    assert first == ["0.png", "0.png"]
    assert list(again) == [index for index in range(COUNT) if index not in done]
    assert all(images.labels_path(index).read_bytes() == before[index] for index in done)
    for index, count in again.items():
        assert np.count_nonzero(tifffile.imread(images.labels_path(index))) == count
