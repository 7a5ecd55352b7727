"""How the whole suite runs: which engine, and what shares a process.

Models run in PyTorch here, unless a test is about the engines: converting takes seconds each. With
`-n 2` there are two processes of one thread each, which is faster than one process of two.
"""

import os

import pytest

os.environ["SAMLET_ENGINE"] = "torch"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

TOGETHER = ("server", "_window")
"""Fixtures that take long to make, and are made once."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests of a file in one process, and so all those that share a server or a window.

    First of all hooks, since xdist's own reads the groups.
    """
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        shared = next((name for name in TOGETHER if name in fixtures), None)
        item.add_marker(pytest.mark.xdist_group(shared or item.path.name))
