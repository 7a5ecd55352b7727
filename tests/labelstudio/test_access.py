"""Who may drive the backend: no web page, and nobody without the password where there is one."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from samlet.errors import UserError
from samlet.masks import crop_mask, iou
from samlet_labelstudio.cli import main
from samlet_labelstudio.label_studio import labeling_config
from samlet_labelstudio.regions import to_results
from samlet_labelstudio.server.access import listening_on
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
from tests.labelstudio import backend as backends
from tests.labelstudio import payloads
from tests.labelstudio.label_studio import LabelStudio, free_port
from tests.labelstudio.projects import init_project
from tests.labelstudio.test_api import wait_for
from tests.labelstudio.test_training import wait

NAME = "fluorescence_2"
PASSWORD: dict[str, Any] = {"basic_auth_user": "label studio", "basic_auth_pass": "p:ss w0rd"}
BODIES: dict[str, Any] = {
    "/predict": payloads.request([], None),
    "/setup": {"project": "1.17", "schema": payloads.config()},
    "/versions": {"project": "1"},
    "/webhook": {"action": "START_TRAINING", "project": {"id": 3}},
}


def basic(user: str, password: str) -> dict[str, str]:
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(Settings(engine="torch", folder=tmp_path))


def client_of(folder: Path, **settings: Any) -> Any:
    return create_app(Service(Settings(engine="torch", folder=folder, **settings)), 2).test_client()


def refused(service: Service, status: int, path: str, **request: Any) -> str:
    """Ask, check that it is refused and that nothing has begun, and give the sentence."""
    answer = create_app(service, 2).test_client().post(path, **request)
    assert answer.status_code == status, answer.json
    assert answer.json["error"].endswith(".") and answer.json["detail"] == answer.json["error"]
    assert service.trainer.running is None
    return str(answer.json["error"])


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
def test_what_a_web_page_can_send(service: Service, path: str, kind: str | None) -> None:
    body = json.dumps(BODIES[path])
    sentence = refused(service, 415, path, data=body, content_type=kind)
    assert "send it with Content-Type application/json" in sentence


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost:3000", "https://localhost", "null", "", "file://"],
)
def test_origins_of_web_pages(service: Service, path: str, origin: str) -> None:
    sentence = refused(service, 403, path, json=BODIES[path], headers={"Origin": origin})
    assert sentence.startswith(f"The request is from a web page of '{origin}': only Label Studio")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9090",
        "localhost.evil.example",
        "127.0.0.1.evil.example:9090",
        "evil.example@localhost",
        "localhost@evil.example",
        "192.168.0.7:9090",
        "",
    ],
)
def test_names_that_lead_here(service: Service, path: str, host: str) -> None:
    sentence = refused(service, 403, path, json=BODIES[path], headers={"Host": host})
    assert "none of the backend's names: start it with --name" in sentence


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({}, ()),
        ({"Host": "localhost:9090"}, ()),
        ({"Host": "LOCALHOST:9090"}, ()),
        ({"Host": "127.0.0.1:9090"}, ()),
        ({"Host": "127.8.0.1"}, ()),
        ({"Host": "[::1]:9090"}, ()),
        ({"Host": "samlet:9090"}, ("samlet",)),
        ({"Host": "samlet:9090"}, ("other", "Samlet:9090")),
        ({"Host": "10.0.0.7:9090"}, ("10.0.0.7",)),
        ({"Host": "localhost:9090", "Origin": "http://localhost:9090"}, ()),
        # Behind a proxy that speaks TLS.
        ({"Host": "samlet", "Origin": "https://samlet"}, ("samlet",)),
    ],
)
def test_what_is_let_in(tmp_path: Path, headers: dict[str, str], names: tuple[str, ...]) -> None:
    client = client_of(tmp_path, names=names)
    assert client.post("/setup", json=BODIES["/setup"], headers=headers).status_code == 200
    answer = client.get("/versions", headers=headers)
    assert answer.json == {"versions": ["microscopy"]}


def test_the_port_of_a_name_counts(tmp_path: Path) -> None:
    client = client_of(tmp_path, names=("samlet:9090",))
    assert client.get("/versions", headers={"Host": "samlet:9091"}).status_code == 403


@pytest.mark.parametrize("path", BODIES)
def test_the_password(tmp_path: Path, path: str) -> None:
    service = Service(Settings(folder=tmp_path, **PASSWORD))
    user, password = PASSWORD.values()
    for headers in (
        {},
        basic(user, ""),
        basic(user, password[:-1]),
        basic("", password),
        basic(user, f"{password}é"),
        {"Authorization": basic(user, password)["Authorization"].replace("Basic", "Bearer")},
        {"Authorization": "Basic !"},
        {"Authorization": "Basic"},
    ):
        sentence = refused(service, 401, path, json=BODIES[path], headers=headers)
        assert sentence.startswith("The user or password is missing or wrong")
        assert password not in sentence
    client = create_app(service, 2).test_client()
    answer = client.post(path, json={}, headers=basic(user, password))
    # It is read now, and is no request.
    assert answer.status_code == (200 if path == "/versions" else 400)
    assert client.post(path, json={}).headers["WWW-Authenticate"] == 'Basic realm="samlet"'


def test_whatever_watches_needs_no_password(tmp_path: Path) -> None:
    client = client_of(tmp_path, **PASSWORD)
    for path in ("/", "/health"):
        assert client.get(path, headers={"Host": "10.0.0.7"}).json["status"] == "UP"
    assert client.get("/versions").status_code == 401
    assert client.get("/nowhere").status_code == 401


@pytest.mark.parametrize(
    "given",
    [
        {"basic_auth_user": "a"},
        {"basic_auth_pass": "a"},
        {"basic_auth_user": "a:b", "basic_auth_pass": "c"},
        {"basic_auth_user": "ä", "basic_auth_pass": "c"},
        {"basic_auth_user": "a", "basic_auth_pass": "c\n"},
    ],
)
def test_users_and_passwords(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="BASIC_AUTH_USER and"):
        Settings(**given)
    assert "S3CR3T" not in repr(Settings(basic_auth_user="a", basic_auth_pass="S3CR3T"))


@pytest.mark.parametrize("name", ["names", "allowed_hosts"])
def test_hosts_are_no_addresses(name: str) -> None:
    given: dict[str, Any] = {name: ("http://samlet:9090/",)}
    with pytest.raises(UserError, match=f"SAMLET_{name.upper()} contains 'http://samlet:9090/'"):
        Settings(**given)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3"])
def test_this_machine_needs_no_password(host: str) -> None:
    assert listening_on(Settings(), host).names == (host,)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.168.0.7", "nobody.invalid"])
def test_other_machines_need_one(host: str) -> None:
    with pytest.raises(UserError, match="set BASIC_AUTH_USER and BASIC_AUTH_PASS"):
        listening_on(Settings(), host)
    assert listening_on(Settings(**PASSWORD), host).basic_auth_pass == PASSWORD["basic_auth_pass"]


def serving(port: int, folder: Path, *arguments: str, **environment: str) -> Any:
    code = "from samlet_labelstudio.cli import main; main()"
    variables = {name: value for name, value in os.environ.items() if "BASIC_AUTH" not in name}
    return subprocess.Popen(
        [sys.executable, "-c", code, "--host", "0.0.0.0", "--port", str(port), *arguments],
        env={**variables, "SAMLET_FOLDER": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_server_does_not_open_without_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAMLET_FOLDER", str(tmp_path))
    for name in ("BASIC_AUTH_USER", "BASIC_AUTH_PASS"):
        monkeypatch.delenv(name, raising=False)
    arguments = ["--host", "0.0.0.0", "--port", str(free_port())]
    monkeypatch.setattr(sys, "argv", ["samlet-labelstudio", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capfd.readouterr()
    assert ended.value.code == 1 and output.out == ""
    expected = "Error: Other machines can reach 0.0.0.0: set BASIC_AUTH_USER and "
    assert output.err.startswith(expected)


@pytest.mark.slow
def test_the_server_opens_with_one(tmp_path: Path) -> None:
    port = free_port()
    user, password = PASSWORD.values()
    process = serving(
        port, tmp_path, "--name", "samlet", BASIC_AUTH_USER=user, BASIC_AUTH_PASS=password
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url)
        body = BODIES["/setup"]
        assert requests.post(f"{url}/setup", json=body, timeout=300).status_code == 401
        for name, status in (("samlet", 200), ("evil", 403), (f"127.0.0.1:{port}", 200)):
            answer = requests.post(
                f"{url}/setup",
                json=body,
                auth=(user, password),
                headers={"Host": name},
                timeout=300,
            )
            assert answer.status_code == status, answer.text
    finally:
        process.terminate()
        process.communicate(timeout=300)


def test_label_studio_gives_the_password(server: LabelStudio, tmp_path: Path) -> None:
    user, password = PASSWORD.values()
    for name in ("backend", "images"):
        (tmp_path / name).mkdir()
    with backends.running(
        server,
        tmp_path / "backend",
        BASIC_AUTH_USER=user,
        BASIC_AUTH_PASS=password,
        SAMLET_TRAIN_ON_ANNOTATIONS="1",
        SAMLET_TRAIN_PAUSE="0.1",
    ) as backend:
        project = init_project(server, backend, "Password", [NAME], tmp_path / "images")
        (mask, *_) = payloads.objects(NAME)
        assert iou(project.mask(NAME, [payloads.click_in(mask)]), mask) > 0.7
        # Of annotations it tells through a webhook, which has a password of its own.
        text = server.project(project.number)["label_config"]
        control = labeling_config.parse(text).result_control("image", "cell")
        assert control is not None
        server.annotate(project.tasks[NAME], to_results(crop_mask(mask), control, "cell", 1.0))
        wait(lambda: "the project has 1 annotated images" in backend.log_text())
        log = backend.log_text()
        assert "password is missing" not in log and password not in log
