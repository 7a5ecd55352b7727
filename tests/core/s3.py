"""moto's server in place of S3: fixtures `endpoint` and `s3`, to be imported by tests."""

from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

from samlet.storage import remote
from samlet.storage.locations import Url

BUCKET = Url("s3://images")


def variables(endpoint: str) -> dict[str, str]:
    """Of the environment of processes that use the server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a server."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (samlet[remote])")
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    started = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket, and the file system that everything in this process uses."""
    for name, value in variables(endpoint).items():
        monkeypatch.setenv(name, value)
    reset()
    urlopen(Request(f"{endpoint}/moto-api/reset", method="POST"))
    system = remote._file_system("s3")
    system.mkdir(BUCKET.text)
    yield system
    reset()


def reset() -> None:
    """Forget connections, which have the credentials and limits of their time."""
    remote._file_system.cache_clear()
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def put(system: Any, name: str, content: bytes) -> None:
    """Write a file to the bucket."""
    system.pipe_file(f"{BUCKET}/{name}", content)
