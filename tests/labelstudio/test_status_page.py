"""The backend's own page, its button, and the queue in front of its masks."""

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from samlet_labelstudio.server import app as server_app
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.service.background import BatchProgress
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training.status import TrainingProgress
from tests.labelstudio import payloads

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
TRAINING = TrainingProgress("3", "training", 40, 200, 5.1)
SOON_S = 180.0


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(Settings(engine="torch", folder=tmp_path, label_studio_url="http://ls:8080"))


def page(client: Any, **headers: str) -> str:
    answer = client.get("/", headers={**BROWSER, **headers})
    assert answer.status_code == 200 and answer.mimetype == "text/html"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    return " ".join(re.sub("<[^>]*>", " ", answer.get_data(as_text=True)).split())


def test_what_the_page_shows(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_app(service, 2).test_client()
    shown = page(client)
    assert "Model microscopy." in shown and shown.count("None is running.") == 2
    assert "None has been connected yet." in shown and "None since the start." in shown

    set_up = {"project": "3.17", "schema": payloads.config()}
    assert client.post("/setup", json=set_up).status_code == 200
    service.recent_log.attach()
    monkeypatch.setattr(service.trainer, "progress", lambda: TRAINING)
    batches = [BatchProgress("3", 2, 6, 60.0), BatchProgress("4", 0, 9, 1.0)]
    monkeypatch.setattr(service.background, "progress", lambda: batches)
    assert client.post("/predict", json={"tasks": "<b>"}).status_code == 400
    shown = page(client)
    for part in (
        "Project 3: training, step 40 of 200, 5.10 s per step, about 14 min left.",
        "Stop the training",
        "Project 3: 2 of 6 tasks, about 2 min left.",
        "Project 4: 0 of 9 tasks.",
        "3 microscopy",
        "are not a list of objects: send Label Studio tasks.",
    ):
        assert part in shown
    # Whatever monitors the server goes on seeing what it did.
    assert client.get("/").json == {"status": "UP", "model_class": "SamletBackend"}


def test_the_button(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr(service.trainer, "progress", lambda: TRAINING)
    monkeypatch.setattr(service.trainer, "stop", lambda: stopped.append(True))
    client = create_app(service, 2).test_client()
    html = client.get("/", headers=BROWSER).get_data(as_text=True)
    (token,) = re.findall('name="token" value="([^"]+)"', html)

    def press(given: str, **headers: str) -> int:
        return int(
            client.post("/training/stop", data={"token": given}, headers=headers).status_code
        )

    # Another page that sends the form.
    assert press("", Origin="http://localhost") == 403
    assert press(token[::-1]) == 403
    assert press(token, Origin="https://evil.example") == 403
    assert press(token, Host="evil.example") == 403
    assert client.get("/training/stop").status_code == 405
    assert stopped == []
    assert press(token, Origin="http://localhost") == 303
    assert stopped == [True]


def test_the_page_needs_the_password(tmp_path: Path) -> None:
    user, password = "annotator", "a-password"
    given = {"basic_auth_user": user, "basic_auth_pass": password}
    client = create_app(Service(Settings(folder=tmp_path, **given)), 2).test_client()
    answer = client.get("/", headers=BROWSER)
    assert answer.status_code == 401 and "WWW-Authenticate" in answer.headers
    assert client.get("/", headers=BROWSER, auth=(user, password)).mimetype == "text/html"
    assert client.get("/", headers={**BROWSER, "Host": "evil.example"}).status_code == 403


def test_fifty_clicks_at_once(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on, most, running, lock = threading.Event(), [0], [0], threading.Lock()

    def slow(*args: Any) -> list[Any]:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        assert go_on.wait(SOON_S)
        with lock:
            running[0] -= 1
        return [{"result": [], "score": 1.0, "model_version": "microscopy"}]

    monkeypatch.setattr(service, "predict", slow)
    app = create_app(service, 2, 48)
    body = payloads.request([payloads.task("/a.png")], [payloads.click(1, 1, (9, 9))])

    def click(number: int) -> Any:
        return app.test_client().post("/predict", json=body)

    with ThreadPoolExecutor(52) as clicks:
        answers = [clicks.submit(click, number) for number in range(50)]
        try:
            while "2 in work, 48 waiting." not in page(app.test_client()):
                assert not any(answer.done() for answer in answers)
            refused = click(50)
        finally:
            go_on.set()
        assert [answer.result().status_code for answer in answers] == [200] * 50
    assert most == [2]
    sentence = "The backend is busy with 2 requests, and 48 wait: try again soon."
    assert refused.status_code == 503 and refused.json["error"] == sentence
    assert [r.levelno for r in caplog.records if sentence in r.getMessage()] == [logging.WARNING]


def test_no_click_waits_longer_than_label_studio(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_app, "WAIT_SECONDS", 0.2)
    go_on, begun = threading.Event(), threading.Event()

    def slow(*args: Any) -> list[Any]:
        begun.set()
        assert go_on.wait(SOON_S)
        return []

    monkeypatch.setattr(service, "predict", slow)
    app = create_app(service, 1, 5)
    body = payloads.request([payloads.task("/a.png")])
    with ThreadPoolExecutor(1) as clicks:
        first = clicks.submit(lambda: app.test_client().post("/predict", json=body))
        assert begun.wait(SOON_S)
        second = app.test_client().post("/predict", json=body)
        go_on.set()
        assert first.result().status_code == 200
    assert second.status_code == 503 and "The backend is busy: the request" in second.json["error"]
    # Its turn was not given away with it.
    assert app.test_client().post("/predict", json=body).status_code == 200
