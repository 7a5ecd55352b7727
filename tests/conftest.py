"""How the whole suite runs: which engine, how many threads, and which tests share a process.

Models run in PyTorch here, unless a test is about the engines: converting takes seconds each. With
`-n` there are several processes of one thread each, which is faster than one process of several.
"""

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

os.environ["SAMLET_ENGINE"] = "torch"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

WITH_A_SERVER = tuple(
    f"tests/labelstudio/test_{name}"
    for name in ("label_studio", "browser", "access", "batches", "container")
)


class OneServer(LoadFileScheduling):
    """Tests of a file go to one process, and all that need a Label Studio, which takes a minute.

    xdist's own groups have no effect with pytest 9: it no longer reads the ids that they change.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "server" if nodeid.startswith(WITH_A_SERVER) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneServer:
    return OneServer(config, log)
