"""The real `samlet-labelstudio`: its server in a process of its own, and its other commands."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from tests.labelstudio.label_studio import LabelStudio, free_port, stop

COMMAND = Path(sys.executable).with_name("samlet-labelstudio")
START_S = 600
"""Four minutes have been seen on a machine with other work; a server that fails ends at once."""
COMMAND_S = 600


@dataclass(frozen=True)
class Backend:
    """A server that runs.

    Attributes:
        url: where it listens.
        folder: its SAMLET_FOLDER.
        log: what it has written so far, a file.
        environment: variables that it and its other commands are run with.
        process: the number of the server's first process.
    """

    url: str
    folder: Path
    log: Path
    environment: dict[str, str]
    process: int

    def command(self, *arguments: str, status: int = 0) -> str:
        """Run `samlet-labelstudio`, check its exit status, and give what it wrote."""
        done = subprocess.run(
            [COMMAND, *arguments],
            env={**self.environment, "COLUMNS": "200"},
            text=True,
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == status, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def check_health(self) -> None:
        """Check that /health is answered, whatever else is in work."""
        assert requests.get(f"{self.url}/health", timeout=60).json()["status"] == "UP"

    def versions(self, project: int) -> list[str]:
        """Names of the models that a project may use, that of the start first."""
        response = requests.post(f"{self.url}/versions", json={"project": str(project)}, timeout=60)
        return list(response.json()["versions"])

    def training(self) -> psutil.Process | None:
        """The process that learns, if one does."""
        for child in psutil.Process(self.process).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "samlet.training.job" in child.cmdline():
                    return child
        return None

    def log_text(self) -> str:
        """The log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def running(server: LabelStudio, folder: Path, **environment: str) -> Iterator[Backend]:
    """The backend of a Label Studio; `folder / "log.txt"` and its data are in `folder`.

    Args:
        server: whose images it may read.
        folder: empty.
        environment: further variables.
    """
    port = free_port()
    variables = {
        **os.environ,
        "LABEL_STUDIO_URL": server.url,
        "LABEL_STUDIO_API_KEY": server.token,
        "SAMLET_FOLDER": str(folder / "data"),
        "SAMLET_ENGINE": "auto",
        **environment,
    }
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [COMMAND, "--port", str(port)],
            env=variables,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    backend = Backend(url, folder / "data", folder / "log.txt", variables, process.pid)
    try:
        _wait_until_ready(backend, process)
        yield backend
    finally:
        stop(process)


def _wait_until_ready(backend: Backend, process: subprocess.Popen[bytes]) -> None:
    """Wait for the model, too: Label Studio gives up a click after 100 s, and says nothing."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if "is ready." in backend.log_text():
            with contextlib.suppress(requests.RequestException):
                backend.check_health()
                return
        time.sleep(0.1)
    raise RuntimeError(f"samlet-labelstudio did not start:\n{backend.log_text()}")
