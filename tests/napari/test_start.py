"""napari as users start it, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

START = """
import napari
from qtpy.QtTest import QTest
viewer = napari.Viewer(show=True)
viewer.open_sample("samlet", "fluorescence")
QTest.qWait(100)
# As `napari -w samlet` does.
_, widget = viewer.window.add_plugin_dock_widget("samlet", tabify=True)
for _ in range(600):
    QTest.qWait(100)
    if widget.status.value.startswith("Click on an object"):
        break
print(widget.status.value)
viewer.window.add_plugin_dock_widget("samlet", "Finetune")
viewer.close()
print("closed")
"""


@pytest.mark.usefixtures("_screen")
def test_the_widgets_open_in_a_window_that_is_there_already() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Click on an object of" in done.stdout and "closed" in done.stdout


@pytest.mark.usefixtures("_screen")
def test_the_manifest_is_valid() -> None:
    command = [sys.executable, "-m", "npe2", "validate", "--imports", "samlet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "valid" in done.stdout + done.stderr, done.stdout + done.stderr


THREADS = """
import samlet
from tests.models import nuclei_at
from qtpy.QtCore import QCoreApplication, QRunnable, QThreadPool
from samlet import images, samples
image = images.read(samples.IMAGES / "fluorescence_2.png")
predictor = samlet.Predictor(nuclei_at(256), engine="openvino", zoom=False)
class Work(QRunnable):
    def run(self):
        embedding = predictor.encode(image)
        predictor.segment(embedding, [[60, 60]], [1])
        done.append(embedding)
application, done, pool = QCoreApplication([]), [], QThreadPool.globalInstance()
for _ in range(6):
    pool.start(Work())
    pool.waitForDone()
assert len(done) == 6
"""


def test_openvino_survives_the_threads_of_qt() -> None:
    # In a process of its own: what was wrong once ended it.
    done = subprocess.run(
        [sys.executable, "-c", THREADS], stderr=subprocess.PIPE, timeout=120, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:].decode()
