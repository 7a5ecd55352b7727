"""How the whole suite runs: which engine, threads and cache, and which tests share a process.

Models run in PyTorch here, unless a test is about the engines: converting takes seconds each; and
in float32, so that results do not depend on the processor. With `-n` there are several processes of
one thread each, which is faster than one process of several.
"""

import atexit
import os
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

os.environ["SAMLET_ENGINE"] = "torch"
os.environ["SAMLET_PRECISION"] = "float32"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

CACHE = "SAMLET_TESTS_CACHE"
"""Names a folder that all processes of a run share, so that a model is converted once."""
if CACHE not in os.environ:
    os.environ[CACHE] = tempfile.mkdtemp(prefix="samlet-tests-")
    atexit.register(shutil.rmtree, os.environ[CACHE], ignore_errors=True)
os.environ["SAMLET_CACHE"] = os.environ[CACHE]

# How long examples take says nothing where processes compete for the processors.
settings.register_profile("samlet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("samlet")

WITH_SERVER = tuple(
    f"tests/labelstudio/test_{name}.py"
    for name in (
        "label_studio",
        "label_studio_bad_input",
        "label_studio_elsewhere",
        "label_studio_learning",
        "label_studio_order",
        "label_studio_predictions",
        "label_studio_stopped",
        "label_studio_tags",
        "label_studio_training",
        "browser",
        "browser_setup",
        "browser_tags",
        "access",
        "batches",
        "container",
        "guide",
    )
)
"""These need a Label Studio, which takes long to start."""


LONGEST = (
    *WITH_SERVER,
    "tests/core/engines/test_engines.py",
    "tests/labelstudio/test_api.py",
    "tests/parity/test_mobile_sam.py",
    "tests/core/predict/test_predictor.py",
    "tests/core/export/test_export.py",
    "tests/labelstudio/test_preannotate.py",
    "tests/core/training/test_training.py",
    "tests/core/training/test_distillation.py",
    "tests/core/cli/test_cli.py",
    "tests/parity/test_everything_parity.py",
)
"""Files that take half a minute or more, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes longest, so that no process works alone at the end."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        # Other folders have servers of their own.
        ours = item.nodeid.startswith("tests/labelstudio/")
        if ours and "server" in fixtures and not item.nodeid.startswith(WITH_SERVER):
            raise pytest.UsageError(f"{item.nodeid} needs a Label Studio: name it in WITH_SERVER.")
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


class OneServer(LoadFileScheduling):
    """Tests of a file go to one process, and all that need a Label Studio to the same one.

    xdist's own groups have no effect with pytest 9: it no longer reads the ids that they change.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "server" if nodeid.startswith(WITH_SERVER) else super()._split_scope(nodeid)

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a process; the test that ended it has failed, and is not run again."""
        units = self.assigned_work[node].values()
        crashed = next((test for unit in units for test, done in unit.items() if not done), None)
        for unit in units:
            if crashed in unit:
                unit[crashed] = True
        super().remove_node(node)
        return crashed

    def _reschedule(self, node: WorkerController) -> None:
        # One that replaces another has collected nothing at first.
        if node in self.registered_collections:
            super()._reschedule(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneServer:
    return OneServer(config, log)


@pytest.fixture
def with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with bfloat16; PyTorch emulates it on others."""
    monkeypatch.setattr("samlet.engines.precision.computes_in_bfloat16", lambda device_type: True)
