"""Fetching images: from real servers on this machine that stand for Label Studio and others."""

import base64
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from samlet.errors import UserError
from samlet_labelstudio.hosts import host_of
from samlet_labelstudio.images import fetching, guarded_session
from samlet_labelstudio.images.fetching import fetch
from samlet_labelstudio.images.guarded_session import GuardedSession, is_allowed, is_public
from samlet_labelstudio.label_studio import sdk_private
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads

KEY = "0123456789abcdefSECRETKEY9876543210fedcb"
CONTENT = payloads.image_file("stained_1")
METADATA = "http://169.254.169.254/latest/meta-data/iam/security-credentials/"


class Handler(BaseHTTPRequestHandler):
    """Responds with what the test has put at a path; remembers what it has received."""

    server: "Host"

    def do_GET(self) -> None:
        self.server.received.append((self.path, self.headers.get("Authorization")))
        known = self.server.responses
        found = known.get(self.path) or known.get(self.path.partition("?")[0])
        status, headers, body = found or (404, {}, b"not here")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class Host(ThreadingHTTPServer):
    """A server on a port of its own."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.responses: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.received: list[tuple[str, str | None]] = []
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.name}"

    def respond(self, path: str, content: bytes = CONTENT, status: int = 200) -> None:
        self.responses[path] = (status, {}, content)

    def redirect(self, path: str, to: str) -> None:
        self.responses[path] = (302, {"Location": to}, b"")


@pytest.fixture
def own() -> Iterator[Host]:
    """Label Studio."""
    with Host() as host:
        yield host
        host.shutdown()


@pytest.fixture
def other() -> Iterator[Host]:
    with Host() as host:
        yield host
        host.shutdown()


def settings_of(own: Host | None, *allowed: str, **more: Any) -> Settings:
    url = own.url if own is not None else None
    return Settings(label_studio_url=url, api_key=KEY, allowed_hosts=allowed, **more)


def refusal(url: str, settings: Settings, task_id: Any = 7) -> str:
    with pytest.raises(UserError) as caught:
        fetch(url, task_id, settings)
    sentence = str(caught.value)
    assert sentence.endswith(".") and KEY not in sentence
    return sentence


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/data/upload/3/a%20b.png", "/data/upload/3/a%20b.png"),
        ("/data/local-files/?d=folder/a.png", "/data/local-files/?d=folder/a.png"),
        ("upload/3/a.png", "/data/upload/3/a.png"),
        ("/upload/3/a.png", "/data/upload/3/a.png"),
        ("data/upload/3/a.png", "/data/upload/3/a.png"),
        ("/storage-data/uploaded/?filepath=upload/3/a.png",) * 2,
    ],
)
def test_what_label_studio_serves(own: Host, url: str, path: str) -> None:
    own.respond(path)
    assert fetch(url, 7, settings_of(own)) == CONTENT
    assert own.received == [(path, f"Token {KEY}")]


@pytest.mark.parametrize(
    "path",
    [
        "/tasks/7/resolve/?fileuri=czM6Ly9iL2EucG5n",
        "/tasks/7/presign/?fileuri=czM6Ly9iL2EucG5n",
        "/projects/3/resolve/?fileuri=czM6Ly9iL2EucG5n",
        "/data/local-files/?d=folder/..a.png",
        "/data/upload/3/..a%20100%25.png",
        "/data/upload/3/a%2Fb.png",
    ],
)
def test_whatever_label_studio_serves(own: Host, path: str) -> None:
    own.respond(path)
    for url in (path, f"{own.url}{path}", f"{own.url.upper().replace('HTTP', 'http')}{path}"):
        assert fetch(url, 7, settings_of(own)) == CONTENT
    assert own.received == [(path, f"Token {KEY}")] * 3


SECRET = "/api/users/"


@pytest.mark.parametrize(
    "path",
    [
        SECRET,
        "/api/current-user/token",
        "/api/projects/3/export?exportType=JSON",
        "/user/account/",
        "/tasks/7/",
        "/tasks/7/presign/../../../api/users/",
        "/data/upload/../../api/users/",
        "/data/upload/3/./../../../api/users/",
        "/data/upload/%2e%2e/%2E%2E/api/users/",
        "/data/upload/..%2f..%2fapi%2fusers/",
        "/data/upload/%252e%252e/%252e%252e/api/users/",
        "/data/upload/..%5c..%5capi%5cusers/",
        "/data/upload/3/..\\..\\..\\api\\users\\",
        "/data/local-files/../../api/users/?d=a.png",
        "/api/users/?next=/data/upload/3/a.png",
        "/api/users/#/data/upload/3/a.png",
        "/api/users/data/upload/",
        "/data/uploads/a",
        "/xdata/upload/3/a",
        "//data/upload/3/a",
        "/label-studio/data/upload/3/a",
    ],
)
def test_where_label_studio_serves_no_images(own: Host, path: str) -> None:
    own.respond(SECRET)
    url = f"{own.url}{path}"
    assert "is a path of Label Studio that images may not come from" in refusal(
        url, settings_of(own)
    )
    assert own.received == []
    # Nor where a redirect leads.
    own.redirect("/data/upload/3/a.png", url)
    assert "that images may not come from" in refusal("/data/upload/3/a.png", settings_of(own))
    assert own.received == [("/data/upload/3/a.png", f"Token {KEY}")]


@pytest.mark.parametrize(
    "path",
    [
        SECRET,
        "/data/upload/../../api/users/",
        "data/upload/../../api/users/",
        "upload/../../api/users/",
        "/upload/%2e%2e/%2e%2e/api/users/",
        "/storage-data/uploaded/../../api/users/",
        "/label-studio/data/upload/../../api/users/",
        "/label-studio/../data/upload/../../api/users/",
    ],
)
def test_paths_that_lead_elsewhere(own: Host, path: str) -> None:
    own.respond(SECRET)
    sentence = refusal(path, settings_of(own))
    assert "is no address of an image" in sentence or "may not come from" in sentence
    assert own.received == []


def test_other_images_on_label_studios_host(own: Host, other: Host) -> None:
    own.respond("/pictures/a.png")
    own.respond("/picture")
    url = f"{own.url}/pictures/a.png"
    assert fetch(url, 7, settings_of(own)) == CONTENT
    assert "may not come from" in refusal(f"{own.url}/picture", settings_of(own))
    assert fetch(f"{own.url}/picture", 7, settings_of(own, own.name)) == CONTENT
    own.redirect("/data/upload/3/a.png", url)
    assert fetch("/data/upload/3/a.png", 7, settings_of(own)) == CONTENT
    keys = [key for _, key in own.received]
    # It is Label Studio's key, and that answer was not of Label Studio.
    assert keys == [None, None, f"Token {KEY}", None]


@pytest.mark.parametrize(
    "trick",
    [
        "http://{own}@{other}/data/upload/3/a.png",
        "http://{own}\\@{other}/data/upload/3/a.png",
        "http://{other}\\@{own}/data/upload/3/a.png",
        "http://{other}#@{own}/data/upload/3/a.png",
        "http://{other}?@{own}/data/upload/3/a.png",
        "http://{other}/data/upload/3/a.png?http://{own}/",
        "http:\\\\{other}/data/upload/3/a.png",
    ],
)
def test_the_key_goes_to_nobody_else(own: Host, other: Host, trick: str) -> None:
    for host in (own, other):
        host.respond("/data/upload/3/a.png")
    url = trick.format(own=own.name, other=other.name)
    with suppress(UserError):
        fetch(url, 7, settings_of(own, other.name))
    assert not [key for _, key in other.received if key is not None and KEY in key]
    assert all(path == "/data/upload/3/a.png" for path, key in own.received if key)


def test_the_key_does_not_go_unencrypted(own: Host) -> None:
    own.respond("/data/upload/3/a.png")
    settings = Settings(label_studio_url=own.url.replace("http", "https"), api_key=KEY)
    assert fetch(f"{own.url}/data/upload/3/a.png", 7, settings) == CONTENT
    assert own.received == [("/data/upload/3/a.png", None)]


@pytest.mark.parametrize("below", ["", "/", "/label-studio", "/label-studio/", "/tools/ls"])
@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("{}/data/upload/3/a%20b.png", "/data/upload/3/a%20b.png"),
        ("{}/data/local-files/?d=folder/a.png", "/data/local-files/?d=folder/a.png"),
        ("upload/3/a.png", "/data/upload/3/a.png"),
        ("{}/tasks/7/resolve/?fileuri=czM6Ly9i", "/tasks/7/resolve/?fileuri=czM6Ly9i"),
        (
            "{}/storage-data/uploaded/?filepath=upload/3/a.png",
            "/storage-data/uploaded/?filepath=upload/3/a.png",
        ),
        ("s3://b", "/tasks/7/presign/?fileuri=czM6Ly9i"),
    ],
)
@pytest.mark.parametrize("seen", ["", "/label-studio", "/some.where/else-1"])
def test_label_studio_below_a_path(own: Host, below: str, url: str, path: str, seen: str) -> None:
    """Browsers may see it below another path than the one that it has from here."""
    requested = f"{below.rstrip('/')}{path}"
    own.respond(requested)
    settings = Settings(label_studio_url=own.url + below, api_key=KEY)
    assert fetch(url.format(seen), 7, settings) == CONTENT
    assert own.received == [(requested, f"Token {KEY}")]


def test_addresses_of_label_studio_below_a_path(own: Host) -> None:
    path = "/label-studio/data/upload/3/a"
    settings = Settings(label_studio_url=f"{own.url}/label-studio", api_key=KEY)
    for each in (path, "/data/upload/3/a", "/label-studio-2/data/upload/3/a"):
        own.respond(each)
    assert fetch(own.url + path, 7, settings) == CONTENT
    # What else is on that host is not Label Studio.
    for other in ("/data/upload/3/a", "/label-studio-2/data/upload/3/a"):
        assert "may not come from" in refusal(own.url + other, settings)
    for climbing in ("/label-studio/../data/upload/3/a", "/label-studio/%2e%2e/data/upload/3/a"):
        assert "may not come from" in refusal(own.url + climbing, settings)
    assert own.received == [(path, f"Token {KEY}")]


@pytest.mark.parametrize("public", ["https://ls.example.org", "https://ls.example.org/tools/ls/"])
def test_the_address_that_browsers_have(own: Host, public: str) -> None:
    # Label Studio writes it into the tasks of local files.
    path = "/data/local-files/?d=a.png"
    own.respond(path)
    url = f"{public.rstrip('/')}{path}"
    settings = Settings(label_studio_url=own.url, label_studio_host=public, api_key=KEY)
    assert fetch(url, 7, settings) == CONTENT
    assert own.received == [(path, f"Token {KEY}")]
    for other in (url.replace("https", "http"), url.replace("data", "api"), f"{public}/a.png"):
        assert "may not come from" in refusal(other, settings)
    # In this form, too, Label Studio takes the variable.
    assert "may not come from" in refusal(url, settings_of(own, label_studio_host="/label-studio"))


def test_own_host_with_an_address(own: Host, other: Host) -> None:
    own.respond("/data/upload/3/a.png")
    assert fetch(f"{own.url}/data/upload/3/a.png", 7, settings_of(own)) == CONTENT
    assert own.received == [("/data/upload/3/a.png", f"Token {KEY}")]
    other.respond("/a.png")
    assert fetch(f"{other.url}/a.png", 7, settings_of(own, other.name)) == CONTENT
    assert other.received == [("/a.png", None)]


def test_a_personal_access_token_is_exchanged(own: Host) -> None:
    def jwt(kind: str) -> str:
        parts: list[dict[str, Any]] = [{"alg": "HS256"}, {"token_type": kind, "exp": 4102444800}]
        encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in parts]
        return b".".join([*encoded, base64.urlsafe_b64encode(b"x" * 32).rstrip(b"=")]).decode()

    class Exchanging(Handler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.path = "/exchanged"
            self.do_GET()

    own.RequestHandlerClass = Exchanging
    own.respond("/exchanged", json.dumps({"access": jwt("access")}).encode())
    own.responses["/exchanged"][1]["Content-Type"] = "application/json"
    own.respond("/data/upload/3/a.png")
    settings = Settings(label_studio_url=own.url, api_key=jwt("refresh"))
    assert fetch("/data/upload/3/a.png", 7, settings) == CONTENT
    assert own.received[-1] == ("/data/upload/3/a.png", f"Bearer {jwt('access')}")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "etc/passwd",
        "ftp://127.0.0.1/a.png",
        "javascript:alert(1)",
        "",
        " ",
        "//127.0.0.1/a.png",
        "s3:bucket/a.png",
    ],
)
def test_no_addresses_of_images(own: Host, url: str) -> None:
    assert "is no address of an image: give tasks an upload" in refusal(url, settings_of(own))
    assert own.received == []


@pytest.mark.parametrize(
    "url",
    [
        METADATA,
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://2852039166/latest/",
        "http://127.0.0.1/a.png",
        "http://localhost/a.png",
        "http://example.com/a.png",
    ],
)
def test_hosts_that_are_not_allowed(own: Host, url: str) -> None:
    sentence = refusal(url, settings_of(own))
    assert "is on a host that images may not come from: start the backend with --allow-" in sentence


def test_other_ports_of_the_same_machine(own: Host, other: Host) -> None:
    other.respond("/a.png")
    for url in (f"{other.url}/a.png", f"http://{own.name}@{other.name}/a.png"):
        assert "may not come from" in refusal(url, settings_of(own))
    assert other.received == []


def test_hosts_with_and_without_a_port(own: Host, other: Host) -> None:
    other.respond("/a.png")
    url = f"{other.url}/a.png"
    for allowed in (other.name, "127.0.0.1", other.name.upper()):
        assert fetch(url, 7, settings_of(None, allowed)) == CONTENT
    assert "may not come from" in refusal(url, settings_of(None, "127.0.0.1:1", "localhost"))


@pytest.mark.parametrize(
    ("url", "allowed", "expected"),
    [
        ("http://Images.example.com/a", "images.Example.com", True),
        ("https://images.example.com/a", "images.example.com:443", True),
        ("http://images.example.com/a", "images.example.com:443", False),
        ("http://images.example.com:81/a", "images.example.com", True),
        ("http://evil-images.example.com/a", "images.example.com", False),
        ("http://images.example.com.evil.org/a", "images.example.com", False),
        ("http://a:b@images.example.com/a", "images.example.com", True),
        ("http://images.example.com@evil.org/a", "images.example.com", False),
        ("http://evil.org#@images.example.com/a", "images.example.com", False),
        ("http://[::1]:80/a", "::1", True),
        ("http://host:99999/a", "host", False),
        ("http:///a", "", False),
    ],
)
def test_which_hosts_are_allowed(url: str, allowed: str, expected: bool) -> None:
    assert is_allowed(url, Settings(allowed_hosts=(allowed,))) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://8.8.8.8/a", True),
        ("https://[2606:4700:4700::1111]/a", True),
        ("http://127.0.0.1/a", False),
        ("http://127.1/a", False),
        ("http://localhost/a", False),
        ("http://10.1.2.3/a", False),
        ("http://192.168.0.1:8080/a", False),
        ("http://[::1]/a", False),
        ("http://[::ffff:127.0.0.1]/a", False),
        (METADATA, False),
        ("http://0.0.0.0/a", False),
        ("http://8.8.8.8:99999/a", False),
        (f"http://{'a' * 70}.example/a", False),
    ],
)
def test_which_hosts_are_public(url: str, expected: bool) -> None:
    assert is_public(url) is expected


@pytest.mark.parametrize("target", [METADATA, "http://127.0.0.1:9/a.png", "file:///etc/passwd"])
def test_redirects_to_what_is_forbidden(own: Host, other: Host, target: str) -> None:
    for host in (own, other):
        host.redirect("/a.png", target)
        sentence = refusal(f"{host.url}/a.png", settings_of(own, other.name))
        assert "may not come from" in sentence
    # Not at the second redirect, either.
    own.redirect("/b.png", f"{other.url}/a.png")
    assert "may not come from" in refusal(f"{own.url}/b.png", settings_of(own, other.name))


def test_redirects_to_another_port(own: Host, other: Host) -> None:
    other.respond("/a.png")
    own.redirect("/a.png", f"{other.url}/a.png")
    assert "may not come from" in refusal(f"{own.url}/a.png", settings_of(own))
    assert other.received == []


def test_redirects_to_what_is_allowed(own: Host, other: Host) -> None:
    other.respond("/a.png?signature=1")
    own.redirect("/data/upload/3/a.png", f"{other.url}/a.png?signature=1")
    assert fetch("/data/upload/3/a.png", 7, settings_of(own, other.name)) == CONTENT
    assert own.received == [("/data/upload/3/a.png", f"Token {KEY}")]
    # The key is Label Studio's alone.
    assert other.received == [("/a.png?signature=1", None)]


def test_redirects_without_end(own: Host) -> None:
    own.redirect("/a.png", "/a.png")
    assert "cannot be fetched (TooManyRedirects)" in refusal(f"{own.url}/a.png", settings_of(own))


@pytest.mark.parametrize("scheme", ["s3", "gs", "azure-blob"])
def test_cloud_storage(own: Host, other: Host, scheme: str) -> None:
    url = f"{scheme}://bucket/folder/a.png"
    path = f"/tasks/7/presign/?fileuri={base64.urlsafe_b64encode(url.encode()).decode()}"
    own.redirect(path, f"{other.url}/bucket/a.png?signature=1")
    other.respond("/bucket/a.png?signature=1")
    assert fetch(url, 7, settings_of(own, other.name)) == CONTENT
    assert own.received == [(path, f"Token {KEY}")]
    assert other.received == [("/bucket/a.png?signature=1", None)]
    # Signed, too, only public hosts need not be allowed; this one is not.
    assert "may not come from" in refusal(url, settings_of(own))


class Recording(GuardedSession):
    """Reports what would be requested from public hosts, of which there is none here."""

    def get_adapter(self, url: str) -> Any:
        if not url.startswith("http://127.0.0.1"):
            raise UserError(f"{url} would be requested.")
        return super().get_adapter(url)


def test_signed_addresses_of_public_hosts(own: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    public = "http://8.8.8.8/bucket/a.png"
    url = "s3://bucket/a.png"
    path = f"/tasks/7/presign/?fileuri={base64.urlsafe_b64encode(url.encode()).decode()}"
    own.redirect(path, public)
    own.redirect("/data/upload/3/a.png", public)
    own.redirect("/user/login/?next=/presign", public)
    monkeypatch.setattr(fetching, "GuardedSession", Recording)
    settings = settings_of(own)
    assert refusal(url, settings) == f"{public} would be requested."
    # Only what Label Studio has signed; a task can choose the rest.
    for mine in ("/data/upload/3/a.png", f"{own.url}/user/login/?next=/presign", public):
        assert "may not come from" in refusal(mine, settings)
    # And a second redirect is the public host's choice.
    own.redirect(path, "/tasks/7/storage-data/presign/")
    own.redirect("/tasks/7/storage-data/presign/", METADATA)
    assert "may not come from" in refusal(url, settings)


@pytest.mark.parametrize("task_id", [None, "", "../../api", {"a": 1}, "7/../8", -1, 1.5, True])
def test_cloud_storage_needs_the_tasks_number(own: Host, task_id: Any) -> None:
    sentence = refusal("s3://bucket/a.png", settings_of(own), task_id)
    assert "the task's number" in sentence and own.received == []


def test_what_is_needed_to_ask_label_studio(own: Host) -> None:
    for url in ("/data/upload/3/a.png", "s3://bucket/a.png"):
        assert "start the backend with --label-studio-url" in refusal(url, settings_of(None))
        without = Settings(label_studio_url=own.url)
        assert "needs an API key: start the backend with --api-key" in refusal(url, without)
    assert own.received == []


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "check --api-key"),
        (403, "check --api-key"),
        (404, "check that the image is there"),
        (500, "check that the image is there"),
    ],
)
def test_refusals_of_the_host(own: Host, status: int, remedy: str) -> None:
    own.respond("/data/upload/3/a.png", b"no", status)
    sentence = refusal("/data/upload/3/a.png", settings_of(own))
    assert sentence == f"/data/upload/3/a.png was refused with status {status}: {remedy}."


@pytest.mark.parametrize("is_redirect", [False, True])
def test_limit_of_the_size(own: Host, is_redirect: bool) -> None:
    settings = settings_of(own, max_image_mb=1)
    own.respond("/exact.png", bytes(1_000_000))
    assert len(fetch(f"{own.url}/exact.png", 7, settings)) == 1_000_000
    own.respond("/large.png", bytes(1_000_001))
    if is_redirect:
        own.responses["/large.png"] = (302, {"Location": "/exact.png"}, bytes(1_000_001))
    sentence = refusal(f"{own.url}/large.png", settings)
    assert "/large.png has more than 1 MB: start the backend with a higher SAMLET" in sentence


def test_nobody_there() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        host = "{}:{}".format(*silent.getsockname())
        sentence = refusal(f"http://{host}/a.png", settings_of(None, host))
    assert "cannot be fetched (ConnectionError): check the address" in sentence
    sentence = refusal("http://nobody.invalid/a.png", settings_of(None, "nobody.invalid"))
    assert "cannot be fetched (ConnectionError)" in sentence


def test_slow_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_session, "READ_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = "{}:{}".format(*silent.getsockname())
        start = time.monotonic()
        sentence = refusal(f"http://{host}/a.png", settings_of(None, host))
        assert "cannot be fetched (ReadTimeout)" in sentence and time.monotonic() - start < 50


def test_half_an_answer(own: Host) -> None:
    own.responses["/a.png"] = (200, {"Transfer-Encoding": "chunked"}, b"not chunked")
    assert "cannot be fetched (" in refusal(f"{own.url}/a.png", settings_of(own))


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "https://[x]/a.png",
        "http://host:99999/a.png",
        "http://ho st/a.png",
        "http://\ud800/a.png",
        "http://127.0.0.1:1/\ud800.png",
        "http://127.0.0.1:1/\0.png",
        "http://.../a.png",
        "http://" + "a" * 1000 + "/a.png",
        "/data/\ud800?d=a",
        "/data/local-files/?d=",
        "/data/nothing",
        "http://xn--a/a.png",
        "data:\ud800,\ud800",
        "data://[x,abc",
    ],
)
def test_odd_addresses(own: Host, url: str) -> None:
    settings = settings_of(own, "127.0.0.1", "ho st", "", "xn--a", "...", max_image_mb=1)
    if url.startswith("data:") and "[" in url:
        url += "a" * 4_000_001
    assert refusal(url, settings)


def test_local_files_of_this_machine(
    own: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "files"
    root.mkdir()
    (root / "a.png").write_bytes(CONTENT)
    (tmp_path / "b.png").write_bytes(CONTENT)
    # Whoever starts the backend can say where Label Studio's local files lie.
    monkeypatch.setattr(sdk_private._io, "LOCAL_FILES_DOCUMENT_ROOT", str(root))
    settings = settings_of(own, max_image_mb=1)
    assert fetch("/data/local-files/?d=a.png", 7, settings) == CONTENT
    assert own.received == []
    for outside in ("../b.png", "..%2Fb.png", f"{tmp_path}/b.png", "../../../../etc/passwd"):
        assert refusal(f"/data/local-files/?d={outside}", settings)
    (root / "large.png").write_bytes(bytes(1_000_001))
    assert "has more than 1 MB" in refusal("/data/local-files/?d=large.png", settings)


def test_data_uris() -> None:
    settings = Settings(max_image_mb=1)
    assert fetch(payloads.data_uri(CONTENT), 7, settings) == CONTENT
    assert fetch("data:,a%20b%ff", 7, settings) == b"a b\xff"
    assert fetch("data:image/png;base64,QUJD%3D%3D"[:-6], 7, settings) == b"ABC"
    assert "needs a comma" in refusal("data:image/png;base64", settings)
    for wrong in ("AB", "QUJD!", "QU\nJD", "ü", "%00"):
        assert "is not valid Base64" in refusal(f"data:;base64,{wrong}", settings)
    assert "has more than 1 MB" in refusal("data:;base64," + "A" * 4_000_001, settings)
    # Base64 is longer than what is in it, and the limit is for that.
    assert "has more than 1 MB" in refusal(payloads.data_uri(bytes(1_000_001)), settings)
    assert len(fetch(payloads.data_uri(bytes(1_000_000)), 7, settings)) == 1_000_000


def test_secrets_are_never_told(own: Host, other: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    secret = "S3CR3T"
    with_user = f"http://user:{secret}@{other.name}"
    own.respond("/data/upload/3/a.png", b"no", 401)
    own.redirect("/tasks/7/presign/", f"{other.url}/b.png?X-Amz-Signature={secret}")
    own.redirect("/c.png", f"{other.url}/missing.png?X-Amz-Signature={secret}")
    other.respond("/b.png")
    settings = settings_of(own, other.name)
    urls = [
        f"/data/upload/3/a.png?token={secret}",
        f"/data/upload/3/a.png#token={secret}",
        f"{with_user}/a.png?signature={secret}#token={secret}",
        f"{own.url}/c.png?token={secret}",
        f"{own.url}/c.png",
        # TLS to a server that has none.
        f"{with_user.replace('http', 'https')}/a.png?signature={secret}",
        f"https://{other.name}/a.png?signature={secret}",
        f"http://user:{secret}@169.254.169.254/a.png?signature={secret}",
        f"ftp://user:{secret}@{other.name}/a.png",
        f"http:user:{secret}@{other.name}/a.png",
        f"//user:{secret}@{other.name}/a.png",
        f"data:image/png;base64,{secret}!",
    ]
    for url in urls:
        assert secret not in refusal(url, settings)
    messages = [record.getMessage() for record in caplog.records]
    assert not [message for message in messages if secret in message or KEY in message]
    assert KEY not in repr(settings)


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_label_studios_address_holds_no_secret(scheme: str) -> None:
    with pytest.raises(UserError, match=r"give it as .* without a user or password") as caught:
        Settings(label_studio_url=f"{scheme}://user:S3CR3T@host")
    assert "S3CR3T" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "host:8080", "http://", "http://[::1", "http://host:99999"])
def test_label_studios_address_is_one(url: str) -> None:
    with pytest.raises(UserError, match=r"Label Studio's address \(LABEL_STUDIO_URL\) is"):
        Settings(label_studio_url=url)
    assert host_of("HTTP://Host/a") == "host:80"
