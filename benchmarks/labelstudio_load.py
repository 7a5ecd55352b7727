"""Load test: 50 annotators click at once on ten images, on one backend and on two.

    python -m benchmarks.labelstudio_load

Starts `samlet-labelstudio`, and a small server that stands for Label Studio and has the images.
Each click is a request as Label Studio sends it, all of them at the same moment:

    first clicks   on images that nothing is known of; each is encoded once per backend at most
    later clicks   on other objects of the same images
    new backends   the first clicks again, after the backends were replaced by others that use the
                   same SAMLET_FOLDER, so that they find the embeddings on disk

With two backends, annotators are divided among them, and all use one SAMLET_FOLDER. Prints a
Markdown table, how good the masks are, and memory. Run nothing beside it; docs/labelstudio.md has
the result.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated

import numpy as np
import psutil
import requests
import typer
from tests.labelstudio import payloads
from tests.labelstudio.label_studio import free_port, stop

from samlet import images, samples
from samlet.masks import iou

IMAGES = 10
START_S = 120
REQUEST_S = 100
"""What Label Studio waits."""
UPLOADS = "/data/upload/1/"


@dataclass(frozen=True)
class Click:
    """A request, and the object that it is on."""

    task: payloads.Task
    prompt: payloads.Region
    truth: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What came of a click: seconds, and the IoU of its mask; or why there is none."""

    seconds: float
    iou: float = 0.0
    failure: str | None = None


def main(
    clicks: Annotated[int, typer.Option(help="Clicks at once.", min=IMAGES)] = 50,
    backends: Annotated[str, typer.Option(help="Numbers of backends, by commas.")] = "1,2",
    model: Annotated[str, typer.Option(help="As for samlet-labelstudio.")] = "microscopy",
) -> None:
    """Measure, and print a table."""
    pictures = _pictures()
    first, later = _clicks(pictures, clicks)
    print(f"{clicks} clicks at once on {len(pictures)} images, {model}, {os.cpu_count()} cores\n")
    print("| backends | clicks | failures | median | 95th percentile | longest |")
    print("|---|---|---|---|---|---|")
    notes = []
    with _label_studio(pictures) as label_studio:
        for count in (int(part) for part in backends.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                variables = {
                    # Published figures are in float32, unless they name another precision.
                    "SAMLET_PRECISION": "float32",
                    **os.environ,
                    "LABEL_STUDIO_URL": label_studio,
                    "LABEL_STUDIO_API_KEY": "a-key",
                    "SAMLET_FOLDER": folder,
                    "SAMLET_MODEL": model,
                }
                with _running(count, variables) as started:
                    before = _print_row(count, "first clicks", _click_at_once(started, first))
                    _print_row(count, "later clicks", _click_at_once(started, later))
                    memory = sum(_megabytes(each) for each in started.values())
                with _running(count, variables) as started:
                    after = _print_row(count, "new backends", _click_at_once(started, first))
                notes.append(
                    f"{count} backends: mean IoU {before:.3f} of the first clicks, {after:.3f} in "
                    f"new backends; {memory:.0f} MB."
                )
    print("\n" + "\n".join(notes))


def _pictures() -> dict[str, tuple[np.ndarray, list[np.ndarray]]]:
    """Ten images, RGB, with the masks of their objects: the bundled ones, and some mirrored."""
    found = {}
    for path in images.find(samples.IMAGES):
        found[f"{path.stem}.png"] = (images.read(path), payloads.objects(path.stem))
    for name in list(found)[: IMAGES - len(found)]:
        image, masks = found[name]
        found[f"mirrored-{name}"] = (image[:, ::-1], [mask[:, ::-1] for mask in masks])
    return found


def _clicks(
    pictures: dict[str, tuple[np.ndarray, list[np.ndarray]]], count: int
) -> tuple[list[Click], list[Click]]:
    """First and later clicks: the images in turn, and of each the larger objects in turn."""
    names, made = list(pictures), []
    for i in range(2 * count):
        number, turn = i % len(names), i // len(names)
        _, masks = pictures[names[number]]
        truth = masks[turn % len(masks)]
        task = payloads.task(f"{UPLOADS}{names[number]}", number + 1)
        made.append(Click(task, payloads.click_in(truth), truth))
    return made[:count], made[count:]


@contextmanager
def _label_studio(pictures: dict[str, tuple[np.ndarray, list[np.ndarray]]]) -> Iterator[str]:
    """The address of a server that has the images where Label Studio has uploads."""
    files = {UPLOADS + name: payloads.png(image) for name, (image, _) in pictures.items()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@contextmanager
def _running(
    count: int, variables: dict[str, str]
) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """Backends by their address; each has loaded the model, and answered a click."""
    with ExitStack() as stack:
        started = {}
        for _ in range(count):
            port = free_port()
            command = [sys.executable, "-c", "from samlet_labelstudio.cli import main; main()"]
            process = subprocess.Popen(
                [*command, "--port", str(port)],
                env=variables,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            stack.callback(stop, process)
            started[f"http://127.0.0.1:{port}"] = process
        blank = np.zeros((64, 64), bool)
        blank[16:48, 16:48] = True
        image = payloads.data_uri(payloads.png(np.uint8(blank[..., None] * [200, 180, 160])))
        for address in started:
            _wait_until_up(address)
            _click(address, Click(payloads.task(image), payloads.click_in(blank), blank))
        yield started


def _wait_until_up(address: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            requests.get(f"{address}/health", timeout=1)
            return
        except requests.RequestException:
            time.sleep(0.1)
    raise RuntimeError("A backend did not start.")


def _click_at_once(backends: Iterable[str], clicks: list[Click]) -> list[Outcome]:
    addresses = list(backends)
    barrier = threading.Barrier(len(clicks))

    def work(i: int) -> Outcome:
        barrier.wait()
        return _click(addresses[i % len(addresses)], clicks[i])

    with ThreadPoolExecutor(len(clicks)) as pool:
        return list(pool.map(work, range(len(clicks))))


def _click(address: str, click: Click) -> Outcome:
    body = payloads.request([click.task], [click.prompt])
    start = time.monotonic()
    try:
        response = requests.post(f"{address}/predict", json=body, timeout=REQUEST_S)
        seconds = time.monotonic() - start
        if not response.ok:
            return Outcome(seconds, failure=f"{response.status_code} {response.reason}")
        regions = response.json()["results"][0]["result"]
    except requests.RequestException as error:
        return Outcome(time.monotonic() - start, failure=str(error))
    mask = payloads.mask_of(regions, click.truth.shape)
    return Outcome(seconds, iou(mask, click.truth))


def _print_row(count: int, name: str, outcomes: list[Outcome]) -> float:
    """Print the figures of all clicks that were answered; their mean IoU."""
    answered = [each for each in outcomes if each.failure is None]
    seconds = [each.seconds for each in answered] or [np.nan]
    cells = [f"{np.quantile(seconds, share):.2f} s" for share in (0.5, 0.95, 1)]
    failures = len(outcomes) - len(answered)
    print(f"| {count} | {name} | {failures} | {' | '.join(cells)} |", flush=True)
    for failure in sorted({each.failure for each in outcomes if each.failure})[:3]:
        print(f"A click failed: {failure}", file=sys.stderr)
    return float(np.mean([each.iou for each in answered]))


def _megabytes(process: "subprocess.Popen[bytes]") -> float:
    """Memory of a backend with its worker."""
    parent = psutil.Process(process.pid)
    every = [parent, *parent.children(recursive=True)]
    return float(sum(each.memory_info().rss for each in every) / 1e6)


if __name__ == "__main__":
    typer.run(main)
