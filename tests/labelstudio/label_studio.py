"""A real Label Studio on this machine, from a virtual environment of its own.

`python -m tests.labelstudio.label_studio --install` makes that environment; tests do it by
themselves when it is missing.
"""

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

VERSION = "1.23.2"
VENV_VARIABLE = "SAMLET_LABEL_STUDIO_VENV"
ROOT = Path(__file__).parents[2]
EMAIL = "annotator@example.com"
PASSWORD = "samlet-tests"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
NOWHERE = "http://127.0.0.1:9"
"""No proxy is there: what Label Studio would fetch from outside fails at once."""
START_S = 600
"""The first start of all compiles Python files, and the machine may have other work."""
DATABASE = "label_studio.sqlite3"
REQUEST_S = 120
"""Above the 100 s that Label Studio itself gives a backend."""


class RefusedError(Exception):
    """Label Studio's answer to a request that it did not carry out."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body[:2000]}")
        self.status = status
        self.body = body


@dataclass(frozen=True)
class LabelStudio:
    """The few calls of Label Studio's API that tests need."""

    url: str
    token: str = TOKEN
    email: str = EMAIL
    password: str = PASSWORD

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Ask `/api/{path}`; paths need their trailing slash."""
        headers = {"Authorization": f"Token {self.token}"}
        kwargs.setdefault("timeout", REQUEST_S)
        response = requests.request(method, f"{self.url}/api/{path}", headers=headers, **kwargs)
        if not response.ok:
            raise RefusedError(response.status_code, response.text)
        return response

    def create_project(self, title: str, config: str, **settings: Any) -> int:
        """A new project with a labeling config (XML), and its number."""
        body = {"title": title, "label_config": config, **settings}
        return int(self.call("POST", "projects/", json=body).json()["id"])

    def project(self, project: int) -> dict[str, Any]:
        return dict(self.call("GET", f"projects/{project}/").json())

    def change_project(self, project: int, **settings: Any) -> dict[str, Any]:
        return dict(self.call("PATCH", f"projects/{project}/", json=settings).json())

    def upload_image(self, project: int, path: Path) -> int:
        """Upload a picture as an annotator would, and the number of its task."""
        before = set(self.task_ids(project))
        with path.open("rb") as file:
            self.call("POST", f"projects/{project}/import", files={path.name: file})
        (task,) = set(self.task_ids(project)) - before
        return task

    def import_tasks(self, project: int, tasks: Sequence[dict[str, Any]]) -> list[int]:
        """Import tasks, with predictions or annotations or without, and their numbers."""
        before = set(self.task_ids(project))
        self.call("POST", f"projects/{project}/import", json=list(tasks))
        return sorted(set(self.task_ids(project)) - before)

    def task_ids(self, project: int) -> list[int]:
        query = {"project": project, "page_size": 10_000, "fields": "task_only"}
        tasks = self.call("GET", "tasks/", params=query).json()["tasks"]
        return sorted(task["id"] for task in tasks)

    def task(self, task: int) -> dict[str, Any]:
        """A task with its annotations and predictions."""
        return dict(self.call("GET", f"tasks/{task}/").json())

    def connect_backend(
        self, project: int, url: str, interactive: bool = True, **settings: Any
    ) -> int:
        """Connect an ML backend, as the settings page does, and its number.

        Label Studio waits for it for no more than a second, so on a busy machine it takes more.
        """
        body = {"project": project, "url": url, "title": "backend", "is_interactive": interactive}
        deadline = time.monotonic() + START_S
        while True:
            try:
                return int(self.call("POST", "ml/", json={**body, **settings}).json()["id"])
            except RefusedError as error:
                if "timed out" not in error.body or time.monotonic() > deadline:
                    raise

    def backend(self, backend: int) -> dict[str, Any]:
        return dict(self.call("GET", f"ml/{backend}").json())

    def change_backend(self, backend: int, **settings: Any) -> dict[str, Any]:
        return dict(self.call("PATCH", f"ml/{backend}", json=settings).json())

    def interactive(
        self, backend: int, task: int, prompts: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """What a smart tool's request answers: `{"data": {"result": [...]}}`, or `{"errors": ...}`.

        Failures of the backend arrive with status 200, too.
        """
        body = {"task": task, "context": {"result": list(prompts)}}
        return dict(self.call("POST", f"ml/{backend}/interactive-annotating", json=body).json())

    def train(self, backend: int) -> None:
        self.call("POST", f"ml/{backend}/train", json={})

    def retrieve_predictions(self, project: int, tasks: Sequence[int] | None = None) -> None:
        """The data manager's action "Retrieve Predictions", for all tasks or some."""
        chosen: dict[str, Any] = {"all": True, "excluded": []}
        if tasks is not None:
            chosen = {"all": False, "included": list(tasks)}
        query = {"project": project, "id": "retrieve_tasks_predictions"}
        self.call("POST", "dm/actions/", params=query, json={"selectedItems": chosen})

    def predictions(self, task: int) -> list[dict[str, Any]]:
        return list(self.call("GET", "predictions/", params={"task": task}).json())

    def annotate(self, task: int, result: Sequence[dict[str, Any]]) -> int:
        """Submit an annotation, and its number."""
        body = {"result": list(result), "lead_time": 1.0}
        return int(self.call("POST", f"tasks/{task}/annotations/", json=body).json()["id"])

    def export(self, project: int, kind: str = "JSON") -> bytes:
        """Label Studio's own export: JSON, COCO, BRUSH_TO_PNG (a zip file) and so on."""
        query = {"exportType": kind, "download_all_tasks": "true"}
        return self.call("GET", f"projects/{project}/export", params=query).content


def venv() -> Path:
    """Where Label Studio is, or will be, installed."""
    return Path(os.environ.get(VENV_VARIABLE) or ROOT / ".venv-label-studio")


def install() -> Path:
    """Install Label Studio if it is missing, and its command."""
    folder = venv()
    marker = folder / f".installed-{VERSION}"
    if not marker.exists():
        start = time.monotonic()
        print(f"Installing label-studio {VERSION} into {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, f"label-studio=={VERSION}"], check=True)
        marker.touch()
        print(f"Installed in {time.monotonic() - start:.0f} s.", flush=True)
    command = folder / "bin" / "label-studio"
    if not empty_database().exists():
        _make_empty_database(command)
    return command


def empty_database() -> Path:
    """A database with all tables and nothing in them, which takes half a minute to make."""
    return venv() / f"empty-{VERSION}.sqlite3"


def _make_empty_database(command: Path) -> None:
    with tempfile.TemporaryDirectory(dir=venv()) as name:
        folder = Path(name)
        variables = {**os.environ, **settings(folder, NOWHERE)}
        # Any command makes the tables before it does what it is for.
        subprocess.run(
            [command, "version"], env=variables, cwd=folder, capture_output=True, check=True
        )
        (folder / DATABASE).replace(empty_database())


def free_port() -> int:
    """A port on which nothing listens, below those that the system gives to connections.

    A server takes seconds before it listens, in which there are hundreds of connections.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def running(folder: Path, **environment: str) -> Iterator[LabelStudio]:
    """Label Studio with an empty database in `folder`; its log is `folder / "log.txt"`."""
    command = install()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    start = time.monotonic()
    print(f"Starting Label Studio at {url}, data and log in {folder} ...", flush=True)
    shutil.copy(empty_database(), folder / DATABASE)
    options = ["--no-browser", "--port", str(port), "--internal-host", "127.0.0.1"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [command, "start", *options],
            env={**os.environ, **settings(folder, url), **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for_health(url, process, folder / "log.txt")
        print(f"Label Studio is up after {time.monotonic() - start:.0f} s.", flush=True)
        yield LabelStudio(url)
    finally:
        stop(process)


def settings(folder: Path, url: str) -> dict[str, str]:
    """Environment variables: one known user, backends on this machine allowed, nothing sent out."""
    return {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_HOST": url,
        "LABEL_STUDIO_USERNAME": EMAIL,
        "LABEL_STUDIO_PASSWORD": PASSWORD,
        "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        "DJANGO_DB": "sqlite",
        "COLLECT_ANALYTICS": "False",
        "LATEST_VERSION_CHECK": "0",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "HTTP_PROXY": NOWHERE,
        "HTTPS_PROXY": NOWHERE,
        "NO_PROXY": "127.0.0.1,localhost",
    }


def wait_for_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        time.sleep(0.1)
    raise RuntimeError(f"Label Studio did not start:\n{log.read_text(errors='replace')[-4000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started: they are a process group of their own."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)


def main() -> None:
    parser = argparse.ArgumentParser(description="Label Studio for samlet's tests.")
    parser.add_argument("--install", action="store_true", help="install only")
    parser.add_argument("--data", type=Path, help="run until Ctrl-C with the data in this folder")
    arguments = parser.parse_args()
    install()
    if arguments.install:
        return
    folder = arguments.data or Path("/tmp") / f"label-studio-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running(folder) as label_studio, contextlib.suppress(KeyboardInterrupt):
            print(f"Log in at {label_studio.url} as {EMAIL}, password {PASSWORD}.", flush=True)
            signal.pause()
    finally:
        if not arguments.data:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
