"""One Label Studio, one backend and one browser for all tests of a run."""

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.labelstudio import backend as backends
from tests.labelstudio import browser as browsers
from tests.labelstudio import label_studio
from tests.labelstudio.backend import Backend
from tests.labelstudio.browser import Browser
from tests.labelstudio.label_studio import LabelStudio


@pytest.fixture(scope="package", autouse=True)
def _engine_of_users() -> Iterator[None]:
    """Everything mode, of which there is much here, takes long in PyTorch on one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMLET_ENGINE", "auto")
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
def backend(server: LabelStudio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """`samlet-labelstudio`, which may read the images of `server`, and trains for a moment."""
    folder = tmp_path_factory.mktemp("backend")
    with backends.running(server, folder, SAMLET_TRAIN_STEPS="1") as started:
        yield started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show what the backend has written beside a test that failed with it."""
    report = yield
    backend = getattr(item, "funcargs", {}).get("backend")
    if report.failed and backend is not None:
        report.sections.append(("samlet-labelstudio", backend.log_text()[-10_000:]))
    return report


@pytest.fixture(scope="session")
def browser(server: LabelStudio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser, logged in to `server`; its profile was empty."""
    with browsers.opened(server, tmp_path_factory.mktemp("profile")) as opened:
        yield opened
