"""A backend in this process whose model takes little time, and which a test can hold."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from werkzeug.serving import make_server

import samlet
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.projects import CONFIGS
from tests.models import quick_nuclei

COUNT = 3
"""Tasks of `project`."""
SOON_S = 180.0


class Gate:
    """Holds `Preannotator.preannotate` until it is opened, and fails where a test says so."""

    def __init__(self, service: Service, patch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.failing: dict[int, Exception] = {}
        self.processed: list[int] = []
        self._real = service.preannotator.preannotate
        patch.setattr(service.preannotator, "preannotate", self)

    def __call__(self, prepared: Any, image: Any = None, progress: Any = None) -> Any:
        assert self.opened.wait(SOON_S)
        number = prepared.task["id"]
        self.processed.append(number)
        if number in self.failing:
            raise self.failing[number]
        return self._real(prepared, image, progress)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "nuclei.safetensors"
    samlet.save(quick_nuclei(), path)
    return path


def quick_service(server: LabelStudio, model: Path, folder: Path, **more: Any) -> Service:
    """A backend's service that may read the images of a Label Studio."""
    given = {"label_studio_url": server.url, "api_key": server.token, "max_regions": 5, **more}
    return Service(Settings(model=str(model), engine="torch", folder=folder, **given))


@pytest.fixture
def service(server: LabelStudio, model: Path, tmp_path: Path) -> Service:
    return quick_service(server, model, tmp_path)


@contextmanager
def listening(service: Service) -> Iterator[str]:
    """Where a service listens."""
    app = create_app(service, 12)
    with make_server("127.0.0.1", 0, app, threaded=True) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    """Where the backend listens."""
    with listening(service) as address:
        yield address


@pytest.fixture
def project(server: LabelStudio, url: str) -> int:
    """A project with images that are quick to look at, connected to the backend."""
    text = (CONFIGS / "brush.xml").read_text(encoding="utf-8")
    number = server.create_project("Batches", text, show_collab_predictions=False)
    server.connect_backend(number, url)
    pixels = np.asarray(Image.open(payloads.IMAGES / "fluorescence_2.png"))
    parts = [payloads.png(pixels[50 * i : 50 * i + 100, :100]) for i in range(COUNT)]
    server.import_tasks(number, [{"data": {"image": payloads.data_uri(part)}} for part in parts])
    return number


def wait(until: Callable[[], Any]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + SOON_S
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def counts(server: LabelStudio, project: int) -> list[int]:
    """How many predictions each task of a project has."""
    return [len(server.predictions(task)) for task in server.task_ids(project)]


def messages(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    """What was logged with this in it."""
    return [message for r in caplog.records if part in (message := r.getMessage())]
