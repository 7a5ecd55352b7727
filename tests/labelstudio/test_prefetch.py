"""The next tasks, encoded ahead after a click."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import samlet
from samlet import samples
from samlet.cli.main import app
from samlet.predict.runner import Runner
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads
from tests.labelstudio.test_images import Host
from tests.models import quick_nuclei

NAMES = ("fluorescence_1", "fluorescence_2", "fluorescence_3", "stained_1")
WAIT_S = 60.0
CLICK = payloads.click_in(payloads.objects(NAMES[0])[1])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quick") / "nuclei.safetensors"
    samlet.save(quick_nuclei(), path)
    return path


@pytest.fixture
def host() -> Iterator[Host]:
    """Stands for Label Studio."""
    with Host() as host:
        for name in NAMES:
            host.respond(f"/data/upload/3/{name}.png", payloads.image_file(name))
        respond_json(host, "/api/version/", {"edition": "Community"})
        yield host
        host.shutdown()


def respond_json(host: Host, path: str, content: Any) -> None:
    host.respond(path, json.dumps(content).encode())
    host.responses[path][1]["Content-Type"] = "application/json"


def serve(host: Host, urls: dict[int, Any], sampling: str | None = "Sequential sampling") -> None:
    """Put a project where Label Studio has it, whose next tasks are these."""
    respond_json(host, "/api/projects/3/", {"id": 3, "sampling": sampling})
    tasks = [{"id": number, "data": {"image": url}} for number, url in urls.items()]
    listed = {"tasks": tasks, "total": len(tasks), "total_annotations": 0, "total_predictions": 0}
    respond_json(host, "/api/tasks/", listed)


def service_of(host: Host, model: Path, folder: Path, **more: Any) -> Service:
    given = {"label_studio_url": host.url, "api_key": "a-key", **more}
    return Service(Settings(model=str(model), engine="torch", folder=folder, **given))


def click(service: Service, task: int = 1, text: str | None = None, **more: Any) -> Any:
    url = f"/data/upload/3/{NAMES[0]}.png"
    body = payloads.request([payloads.task(url, task, **more)], [CLICK], text, "3.1700000000")
    answer = create_app(service, 2).test_client().post("/predict", json=body)
    assert answer.status_code == 200, answer.json
    return answer.json["results"][0]["result"]


def encoded(folder: Path) -> int:
    return len(list((folder / "embeddings").glob("[!.]*.safetensors")))


def asked(host: Host, path: str) -> int:
    return sum(received.startswith(path) for received, _ in host.received)


def wait(until: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finish(service: Service) -> None:
    """Wait until nothing is left to do."""
    wait(lambda: not service.prefetcher._is_running)
    service.background.join()


def test_the_next_tasks_are_encoded(host: Host, model: Path, tmp_path: Path) -> None:
    serve(host, {n: f"/data/upload/3/{name}.png" for n, name in enumerate(NAMES[1:], 2)})
    service = service_of(host, model, tmp_path)
    click(service)
    finish(service)
    # Two of the three.
    assert encoded(tmp_path) == 3 and asked(host, f"/data/upload/3/{NAMES[3]}") == 0
    (query,) = [path for path, _ in host.received if path.startswith("/api/tasks/")]
    for part in ("project=3", "page_size=3", "total_annotations", "tasks%3Aid"):
        assert part in query
    # The next click on the same task asks for nothing.
    before = len(host.received)
    click(service)
    finish(service)
    assert len(host.received) == before and encoded(tmp_path) == 3


def test_what_is_encoded_is_not_encoded_by_the_click(
    host: Host, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(host, {2: f"/data/upload/3/{NAMES[1]}.png"})
    service = service_of(host, model, tmp_path)
    click(service)
    finish(service)
    predictor, _ = service.models.of_project("3")

    def fail(image: Any) -> Any:
        raise AssertionError("encoded again")

    monkeypatch.setattr(predictor, "encode", fail)
    url = f"/data/upload/3/{NAMES[1]}.png"
    body = payloads.request([payloads.task(url, 2)], [CLICK], None, "3")
    assert create_app(service, 2).test_client().post("/predict", json=body).status_code == 200


def test_only_allowed_addresses(host: Host, model: Path, tmp_path: Path) -> None:
    with Host() as other:
        other.respond("/a.png", payloads.image_file(NAMES[1]))
        serve(host, {2: f"{other.url}/a.png", 3: "file:///etc/passwd", 4: "/api/users/"})
        service = service_of(host, model, tmp_path, prefetch_tasks=5)
        click(service)
        finish(service)
        assert encoded(tmp_path) == 1 and not other.received
        assert asked(host, "/api/users") == 0
        other.shutdown()


@pytest.mark.parametrize(
    ("sampling", "ordering"),
    [("Uncertainty sampling", "predictions_score"), (None, "tasks%3Aid"), ("Uniform sampling", "")],
)
def test_tasks_follow_in_the_order_of_the_project(
    host: Host, model: Path, tmp_path: Path, sampling: str | None, ordering: str
) -> None:
    serve(host, {2: f"/data/upload/3/{NAMES[1]}.png"}, sampling)
    service = service_of(host, model, tmp_path)
    click(service)
    finish(service)
    queries = [path for path, _ in host.received if path.startswith("/api/tasks/")]
    # A random order cannot be foreseen.
    assert len(queries) == encoded(tmp_path) - 1 == int(bool(ordering))
    assert all(ordering in query for query in queries)


@pytest.mark.parametrize("settings", [{"prefetch_tasks": 0}, {"api_key": None}])
def test_when_nothing_is_encoded_ahead(
    host: Host, model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    serve(host, {2: f"/data/upload/3/{NAMES[1]}.png"})
    service = service_of(host, model, tmp_path, **settings)
    content = payloads.data_uri(payloads.image_file(NAMES[0]))
    body = payloads.request([payloads.task(content)], [CLICK], None, "3")
    assert create_app(service, 2).test_client().post("/predict", json=body).status_code == 200
    finish(service)
    assert not host.received and encoded(tmp_path) == 1


def test_requests_come_first(host: Host, model: Path, tmp_path: Path) -> None:
    serve(host, {2: f"/data/upload/3/{NAMES[1]}.png"})
    service = service_of(host, model, tmp_path)
    with service.prefetcher.pause():
        click(service)
        time.sleep(1)
        assert encoded(tmp_path) == 1 and asked(host, "/api/tasks/") == 0
    finish(service)
    assert encoded(tmp_path) == 2


def test_a_server_that_stops_encodes_nothing_ahead(host: Host, model: Path, tmp_path: Path) -> None:
    serve(host, {2: f"/data/upload/3/{NAMES[1]}.png"})
    service = service_of(host, model, tmp_path)
    with service.prefetcher.pause():
        click(service)
        service.shut_down()
        service.background.join()
    assert encoded(tmp_path) == 1


def test_label_studio_that_does_not_answer(
    host: Host, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = service_of(host, model, tmp_path)
    with caplog.at_level("INFO"):
        assert click(service)
        finish(service)
    assert "nothing encoded ahead: Label Studio at" in caplog.text
    assert "has no such project or task" in caplog.text and "Traceback" not in caplog.text


def test_the_next_page_is_encoded(host: Host, model: Path, tmp_path: Path) -> None:
    urls = [f"/data/upload/3/{name}.png" for name in NAMES]
    serve(host, {2: urls[:2]})
    service = service_of(host, model, tmp_path)
    text = payloads.config().replace('value="$image"', 'valueList="$image"')
    body = payloads.request([{"id": 1, "data": {"image": urls}}], [CLICK], text, "3")
    assert create_app(service, 2).test_client().post("/predict", json=body).status_code == 200
    finish(service)
    # The second page; the first one of the next task is the same image as this.
    assert encoded(tmp_path) == 2 and asked(host, urls[2]) == 0


def test_a_click_finds_what_samlet_encode_has_encoded(
    host: Host, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path))
    image = samples.IMAGES / f"{NAMES[0]}.png"
    done = CliRunner().invoke(app, ["encode", str(image), "--model", str(model)])
    assert done.exit_code == 0 and encoded(tmp_path) == 1
    monkeypatch.setattr(Runner, "encode", None)
    # This model does not zoom, so that nothing else would be encoded for the click.
    service = Service(Settings(model=str(model), label_studio_url=host.url, api_key="a-key"))
    assert click(service)
    assert encoded(tmp_path) == 1
    service.shut_down()
