"""The server that plays the publisher."""

from collections.abc import Iterator

import pytest

from tests.file_server import FileServer, running_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with running_server(monkeypatch) as server:
        yield server
