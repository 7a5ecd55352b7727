"""napari as users start it, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from npe2 import PluginManifest

import samlet
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.sam_vit import SamViTConfig
from samlet_napari.triton import without_triton

ROOT = Path(__file__).parents[2]

START = """
import sys
import napari
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest
viewer = napari.Viewer(show=True)
viewer.open_sample("samlet", "fluorescence")
QTest.qWait(100)
ticks = []
timer = QTimer()
timer.timeout.connect(lambda: ticks.append(None))
timer.start(10)
# As `napari -w samlet` does.
_, widget = viewer.window.add_plugin_dock_widget("samlet", tabify=True)
print("the window is", "alive" if len(ticks) > 10 else "held")
timer.stop()
for _ in range(600):
    QTest.qWait(100)
    if widget.status.value.startswith("Click on an object"):
        break
print(widget.status.value)
viewer.window.add_plugin_dock_widget("samlet", "Finetune")
# timm, which this model needs, would import triton if it could.
from samlet_napari.inference import models
models.predictor(sys.argv[1])
print("triton is", "loaded" if "triton" in sys.modules else "out")
viewer.close()
print("closed")
"""


@pytest.mark.usefixtures("_screen")
def test_the_widgets_open_in_a_window_that_is_there_already(tmp_path: Path) -> None:
    sam = tmp_path / "sam.safetensors"
    # Here, too, there may be a window.
    with without_triton():
        samlet.save(Sam(SamConfig("sam_vit", 128, None, SamViTConfig(32, 2, 2, (1,)))), sam)
    command = [sys.executable, "-c", START, str(sam)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the window is alive" in done.stdout
    assert "Click on an object of" in done.stdout
    assert "triton is out\nclosed\n" in done.stdout


@pytest.mark.usefixtures("_screen")
def test_the_manifest_is_valid() -> None:
    manifest = PluginManifest.from_distribution("samlet")
    manifest.validate_imports()
    assert manifest.contributions.widgets and manifest.contributions.sample_data


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
