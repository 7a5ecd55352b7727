"""A server on this machine that has one file, and can be told to misbehave."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import xxhash

import samlet.checkpoints.downloads

CONTENT = bytes(range(256)) * 2000
HALF = len(CONTENT) // 2
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
XXH128 = f"xxh128:{xxhash.xxh128(CONTENT).hexdigest()}"
PAGE = b"<html>Log in to the network</html>"


@dataclass
class Reply:
    """How the server answers one request; by default as a good one would."""

    status: int = 0
    content: bytes = CONTENT
    location: str = ""
    ignore_range: bool = False
    wrong_range: bool = False
    cut_after: int | None = None
    hold_after: int | None = None
    content_type: str = "application/octet-stream"


@dataclass
class Request:
    """What the server saw and did."""

    range: str | None
    path: str = ""
    sent: int = 0


class FileServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[Reply] = []
        self.always = Reply()
        self.requests: list[Request] = []
        self.gate = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/demo.pt"


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        reply = server.replies.pop(0) if server.replies else server.always
        request = Request(self.headers.get("Range"), self.path)
        server.requests.append(request)
        if reply.status:
            self.send_response(reply.status)
            self.send_header("Location", reply.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if request.range and not reply.ignore_range:
            start = int(request.range.removeprefix("bytes=").rstrip("-"))
            if start >= len(reply.content):
                self.send_response(416)
                self.end_headers()
                return
        partial = start > 0
        if reply.wrong_range:
            start = 0
        body = reply.content[start:]
        if partial:
            self.send_response(206)
            end = len(reply.content)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", reply.content_type)
        self.end_headers()
        stop = reply.cut_after if reply.hold_after is None else reply.hold_after
        request.sent = self.wfile.write(body[:stop])
        if reply.hold_after is not None:
            self.wfile.flush()
            server.gate.wait(20)
            request.sent += self.wfile.write(body[stop:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """The server, which is asked directly and again without pauses."""
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
