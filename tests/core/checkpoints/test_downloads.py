"""Downloads against a real server on this machine that can be told to misbehave."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
import xxhash

import samlet.checkpoints.downloads
from samlet.checkpoints.downloads import CHUNK_BYTES, fetch
from samlet.checkpoints.remote_file import RemoteFile
from samlet.errors import UserError
from samlet.utils.cache_folder import cache_dir
from samlet.utils.files import checksum_of
from tests.file_server import (
    CONTENT,
    HALF,
    PAGE,
    SHA256,
    XXH128,
    FileServer,
    Reply,
)

CORE = Path(samlet.checkpoints.downloads.__file__).parents[2]


@dataclass
class Cache:
    """A cache folder with one file to fetch."""

    folder: Path
    server: FileServer
    remote: RemoteFile = field(init=False)

    def __post_init__(self) -> None:
        self.remote = RemoteFile("demo", self.server.url, "demo.pt", SHA256, len(CONTENT))
        self.path = self.folder / "demo.pt"
        self.part = self.folder / "demo.pt.part"

    def fetch(self, **changes: Any) -> Path:
        return fetch(replace(self.remote, **changes), self.folder)

    def refusal(self, **changes: Any) -> str:
        """Return the error of a failing fetch, which must always say how to do it by hand."""
        with pytest.raises(UserError) as caught:
            self.fetch(**changes)
        sentence = str(caught.value)
        assert "\n" not in sentence
        assert str(changes.get("url", self.remote.url)) in sentence
        assert str(self.path) in sentence
        assert str(changes.get("checksum", self.remote.checksum)) in sentence
        assert not self.path.exists()
        return sentence

    def process(self) -> subprocess.Popen[str]:
        """Start the same fetch in another process."""
        code = (
            "import sys; from pathlib import Path; "
            "from samlet.checkpoints.downloads import fetch;"
            "from samlet.checkpoints.remote_file import RemoteFile;"
            "name, url, filename, checksum, size, folder = sys.argv[1:];"
            "print(fetch(RemoteFile(name, url, filename, checksum, int(size)), Path(folder)))"
        )
        arguments = [str(value) for value in vars(self.remote).values()]
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments, str(self.folder)],
            env={**os.environ, "PYTHONPATH": str(CORE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A background shell ignores Ctrl-C, and would hand that down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


@pytest.fixture
def cache(tmp_path: Path, server: FileServer) -> Cache:
    return Cache(tmp_path, server)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def closed_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/demo.pt"


def test_fetches_once_and_then_works_without_the_server(cache: Cache) -> None:
    cache = Cache(cache.folder / "new" / "folder", cache.server)
    assert cache.fetch() == cache.path
    assert cache.path.read_bytes() == CONTENT
    assert not cache.part.exists()
    assert cache.fetch() == cache.path
    assert len(cache.server.requests) == 1


def test_size_may_be_unknown(cache: Cache) -> None:
    assert cache.fetch(size=None).read_bytes() == CONTENT


def test_later_calls_do_not_hash_again(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.fetch()
    monkeypatch.setattr(RemoteFile, "checksum_of", lambda remote, path: pytest.fail("hashed again"))
    cache.fetch()


def test_file_put_there_by_hand_is_hashed_once(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []

    def count(remote: RemoteFile, path: Path) -> str:
        hashed.append(path)
        return checksum_of(path, "sha256")

    monkeypatch.setattr(RemoteFile, "checksum_of", count)
    cache.path.write_bytes(CONTENT)
    cache.fetch()
    cache.fetch()
    assert hashed == [cache.path]
    assert cache.server.requests == []


def test_damaged_file_in_the_cache_is_replaced(
    cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.fetch()
    cache.path.write_bytes(CONTENT[:-1] + b"?")
    assert cache.fetch().read_bytes() == CONTENT
    assert capsys.readouterr().err.count(f"{cache.path} is not the expected demo") == 1


def test_xxh128_is_verified_like_sha256(cache: Cache) -> None:
    assert cache.fetch(checksum=XXH128, size=None).read_bytes() == CONTENT
    cache.path.write_bytes(CONTENT[:-1] + b"?")
    assert cache.fetch(checksum=XXH128, size=None).read_bytes() == CONTENT


@pytest.mark.parametrize(("checksum", "other"), [(SHA256, hashlib.sha256), (XXH128, xxhash.xxh128)])
def test_wrong_content_is_not_kept(cache: Cache, checksum: str, other: Callable[..., Any]) -> None:
    wrong = CONTENT[::-1]
    cache.server.always = Reply(content=wrong)
    sentence = cache.refusal(checksum=checksum)
    assert "not kept" in sentence
    assert other(wrong).hexdigest() in sentence
    assert not cache.part.exists()


def test_answer_of_another_size_does_not_cost_the_part(cache: Cache) -> None:
    cache.part.write_bytes(CONTENT[:HALF])
    cache.server.always = Reply(content=PAGE, ignore_range=True)
    assert f"34 bytes, not {len(CONTENT)}" in cache.refusal()
    assert cache.part.read_bytes() == CONTENT[:HALF]


def test_web_page_does_not_cost_the_part_of_a_file_of_unknown_size(cache: Cache) -> None:
    cache.part.write_bytes(CONTENT[:HALF])
    page = Reply(content=PAGE, ignore_range=True, content_type="text/html; charset=utf-8")
    cache.server.replies = [page]
    assert "the server sent a web page" in cache.refusal(checksum=XXH128, size=None)
    assert cache.part.read_bytes() == CONTENT[:HALF]
    assert cache.fetch(checksum=XXH128, size=None).read_bytes() == CONTENT
    assert cache.server.requests[-1].range == f"bytes={HALF}-"


@pytest.mark.parametrize("noticed", [True, False])
def test_one_cut_is_resumed_in_the_same_run(
    cache: Cache, noticed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # urllib3 1.26, which requests still allows, never notices.
    constant = property(lambda response: noticed, lambda response, value: None)
    monkeypatch.setattr(urllib3.HTTPResponse, "enforce_content_length", constant, raising=False)
    cache.server.replies = [Reply(cut_after=HALF)]
    assert cache.fetch().read_bytes() == CONTENT
    first, second = cache.server.requests
    assert first.range is None
    assert second.range is not None
    # What is lost with a cut is less than a chunk.
    assert first.sent + second.sent - len(CONTENT) < CHUNK_BYTES


def test_stalled_connection_is_resumed(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samlet.checkpoints.downloads, "READ_SECONDS", 0.3)
    cache.server.replies = [Reply(hold_after=HALF)]
    assert cache.fetch().read_bytes() == CONTENT
    assert [bool(request.range) for request in cache.server.requests] == [False, True]


def test_connection_that_is_always_cut_keeps_the_part(cache: Cache) -> None:
    cache.server.always = Reply(cut_after=CHUNK_BYTES)
    sentence = cache.refusal()
    assert "the next run resumes" in sentence
    assert len(cache.server.requests) == 1 + len(samlet.checkpoints.downloads.RETRY_PAUSES)
    kept = cache.part.stat().st_size
    assert 0 < kept < len(CONTENT)
    cache.server.always = Reply()
    assert cache.fetch().read_bytes() == CONTENT
    assert cache.server.requests[-1].range == f"bytes={kept}-"


@pytest.mark.parametrize("reply", [Reply(ignore_range=True), Reply(wrong_range=True)])
def test_server_that_cannot_resume_starts_over(cache: Cache, reply: Reply) -> None:
    cache.part.write_bytes(CONTENT[:HALF])
    cache.server.replies = [reply]
    assert cache.fetch().read_bytes() == CONTENT
    assert cache.server.requests[0].range == f"bytes={HALF}-"


def test_complete_part_is_not_downloaded_again(cache: Cache) -> None:
    cache.part.write_bytes(CONTENT)
    assert cache.fetch().read_bytes() == CONTENT
    assert sum(request.sent for request in cache.server.requests) == 0


def test_part_longer_than_the_file_starts_over(cache: Cache) -> None:
    cache.part.write_bytes(CONTENT + b"more")
    assert cache.fetch().read_bytes() == CONTENT
    assert [bool(request.range) for request in cache.server.requests] == [True, False]


@pytest.mark.parametrize("status", [403, 404, 416, 500])
def test_http_error_is_told(cache: Cache, status: int) -> None:
    cache.server.always = Reply(status=status)
    assert f"the server answered {status} " in cache.refusal()
    assert len(cache.server.requests) == 1


def test_no_network_is_told_at_once(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = cache.refusal(url=closed_url())
    assert "the connection to 127.0.0.1 failed" in sentence
    assert "kept" not in sentence
    assert "trying again" not in capsys.readouterr().err


def test_no_network_keeps_what_had_arrived(cache: Cache) -> None:
    cache.part.write_bytes(CONTENT[:HALF])
    assert "256.0 kB are kept" in cache.refusal(url=closed_url())
    assert cache.part.read_bytes() == CONTENT[:HALF]


def test_redirect_is_followed(cache: Cache) -> None:
    cache.server.replies = [Reply(status=302, location=cache.server.url)]
    assert cache.fetch().read_bytes() == CONTENT
    assert len(cache.server.requests) == 2


@pytest.mark.parametrize("elsewhere", ["file:///etc/hostname", "ftp://127.0.0.1/demo.pt"])
def test_only_http_is_followed(cache: Cache, elsewhere: str) -> None:
    cache.server.always = Reply(status=302, location=elsewhere)
    assert "http or https" in cache.refusal()
    assert "http or https" in cache.refusal(url=elsewhere)


def test_proxy_is_used(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy is asked for the whole address, which no name server knows.
    monkeypatch.setenv("HTTP_PROXY", cache.server.url.rpartition("/")[0])
    address = "http://publisher.invalid/models/demo.pt"
    assert cache.fetch(url=address).read_bytes() == CONTENT
    assert [request.path for request in cache.server.requests] == [address]


def test_proxy_that_does_not_answer(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", closed_url().rpartition("/")[0])
    sentence = cache.refusal(url="http://publisher.invalid/models/demo.pt")
    assert "the proxy named in HTTPS_PROXY or HTTP_PROXY does not answer" in sentence


def test_certificate_setting_that_names_no_file(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cache.folder / "missing.pem"))
    assert "REQUESTS_CA_BUNDLE" in cache.refusal(url=cache.server.url.replace("http:", "https:"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_kill_in_the_middle_resumes_without_restart(cache: Cache, how: signal.Signals) -> None:
    cache.server.replies = [Reply(hold_after=HALF)]
    process = cache.process()
    wait_until(lambda: cache.part.exists() and cache.part.stat().st_size > HALF - CHUNK_BYTES)
    process.send_signal(how)
    process.communicate()
    kept = cache.part.stat().st_size
    assert cache.fetch().read_bytes() == CONTENT
    _, second = cache.server.requests
    assert second.range == f"bytes={kept}-"
    # The server counts after it sent, when the client may be done already.
    wait_until(lambda: second.sent == len(CONTENT) - kept)


def test_two_processes_download_once(cache: Cache) -> None:
    cache.server.always = Reply(hold_after=HALF)
    first = cache.process()
    wait_until(lambda: len(cache.server.requests) == 1)
    second = cache.process()
    assert second.stderr is not None
    said = second.stderr.readline()
    cache.server.gate.set()
    for process in (first, second):
        path, _ = process.communicate(timeout=15)
        assert process.returncode == 0
        assert path.strip() == str(cache.path)
    assert "waiting" in said
    assert len(cache.server.requests) == 1
    assert cache.path.read_bytes() == CONTENT


def test_folder_that_cannot_be_written(cache: Cache) -> None:
    (cache.folder / "file").write_text("")
    folder = cache.folder / "file" / "samlet"
    with pytest.raises(UserError, match="SAMLET_CACHE") as caught:
        fetch(cache.remote, folder)
    assert str(folder) in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk(cache: Cache) -> None:
    cache.part.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"No space left on device.*free space"):
        cache.fetch()
    assert not cache.path.exists()


def test_says_what_is_downloaded_but_draws_no_bar_in_a_log(
    cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.fetch()
    written = capsys.readouterr()
    assert written.err == f"Downloading demo (512.0 kB) from {cache.remote.url}\n"
    assert written.out == ""


def test_draws_rate_in_a_terminal(
    cache: Cache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    cache.fetch()
    assert "B/s" in capsys.readouterr().err


def test_progress_is_reported_instead_of_drawn(
    cache: Cache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    cache.part.write_bytes(CONTENT[:HALF])
    reports: list[tuple[int, int | None]] = []
    fetch(cache.remote, cache.folder, lambda *report: reports.append(report))
    assert reports[0] == (HALF, len(CONTENT))
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert reports == sorted(set(reports))
    assert "B/s" not in capsys.readouterr().err


def test_what_the_report_raises_ends_the_download_and_keeps_the_part(cache: Cache) -> None:
    def stop(received: int, total: int | None) -> None:
        if received:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(cache.remote, cache.folder, stop)
    assert not cache.path.exists() and cache.part.stat().st_size > 0
    assert cache.fetch().read_bytes() == CONTENT


def test_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("SAMLET_CACHE")
    assert "samlet" in cache_dir().parts
