"""The server that plays the publisher."""

import threading
from collections.abc import Iterator

import pytest

import samlet.checkpoints.downloads
from tests.core.checkpoints.file_server import FileServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SAMLET_MODELS", raising=False)
    monkeypatch.setattr(samlet.checkpoints.downloads, "RETRY_PAUSES", (0.0, 0.0, 0.0))
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.gate.set()
        server.shutdown()
        thread.join()
