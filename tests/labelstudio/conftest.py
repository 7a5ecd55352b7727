"""One Label Studio and one backend for all tests of a run, and a browser for each."""

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.labelstudio import backend as backends
from tests.labelstudio import browser as browsers
from tests.labelstudio import label_studio
from tests.labelstudio.backend import Backend
from tests.labelstudio.browser import Browser
from tests.labelstudio.label_studio import LabelStudio


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="package", autouse=True)
def _engine_of_users(_cache: Path) -> Iterator[None]:
    """Everything mode, of which there is much here, takes long in PyTorch on one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMLET_ENGINE", "auto")
        patch.setenv("SAMLET_CACHE", str(_cache))
        yield


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[LabelStudio]:
    """Label Studio, installed first if need be; what takes long is announced on the terminal."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with contextlib.ExitStack() as stack:
        with capture.global_and_fixture_disabled():
            folder = tmp_path_factory.mktemp("label-studio")
            started = stack.enter_context(label_studio.running(folder))
        yield started


@pytest.fixture(scope="session")
def backend(
    server: LabelStudio, tmp_path_factory: pytest.TempPathFactory, _cache: Path
) -> Iterator[Backend]:
    """`samlet-labelstudio`, which may read the images of `server`, and trains for a moment."""
    folder = tmp_path_factory.mktemp("backend")
    more = {"SAMLET_TRAIN_STEPS": "2", "SAMLET_CACHE": str(_cache)}
    with backends.running(server, folder, **more) as started:
        yield started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show what the backend has written beside a test that failed with it."""
    report = yield
    backend = getattr(item, "funcargs", {}).get("backend")
    if report.failed and backend is not None:
        report.sections.append(("samlet-labelstudio", backend.log_text()[-10_000:]))
    return report


@pytest.fixture
def browser(server: LabelStudio, tmp_path: Path) -> Iterator[Browser]:
    """A browser with an empty profile, logged in to `server`."""
    with browsers.opened(server, tmp_path / "profile") as opened:
        yield opened
