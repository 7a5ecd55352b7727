"""One Label Studio for all tests of a run, and a browser for each."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labelstudio import browser as browsers
from tests.labelstudio import label_studio
from tests.labelstudio.browser import Browser
from tests.labelstudio.label_studio import LabelStudio


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[LabelStudio]:
    """Label Studio, installed first if need be; what takes long is said on the terminal."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with contextlib.ExitStack() as stack:
        with capture.global_and_fixture_disabled():
            folder = tmp_path_factory.mktemp("label-studio")
            started = stack.enter_context(label_studio.running(folder))
        yield started


@pytest.fixture
def browser(server: LabelStudio, tmp_path: Path) -> Iterator[Browser]:
    """A browser with an empty profile, logged in to `server`."""
    with browsers.opened(server, tmp_path / "profile") as opened:
        yield opened
