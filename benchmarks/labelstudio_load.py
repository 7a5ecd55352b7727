"""Eight annotators at once: clicks through a real Label Studio for some minutes.

    python -m benchmarks.labelstudio_load --minutes 5

Starts Label Studio 1.23 (in an environment of its own, installed if missing) and
`samlet-labelstudio`, uploads the bundled images in several sizes, and lets clients click on
labelled objects: each works on an image for a few clicks, half of them on one image that all share.
Prints how long Label Studio took from request to mask, errors, the server's memory, and how fast
/health was. Run nothing beside it; docs/labelstudio.md has the result.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import requests
import typer
from PIL import Image
from tests.labelstudio import label_studio

from samlet import images, samples
from samlet.datasets.layers import objects
from samlet.outputs import read_label_map
from samlet_labelstudio.label_studio.project import default_labeling_config

SCALES = (1, 2, 4)
CLICKS = 4
"""On one object, before a client goes on to the next."""


@dataclass
class Measured:
    """What the clients have seen; seconds."""

    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)


def main(
    minutes: Annotated[float, typer.Option(help="How long.")] = 5,
    clients: Annotated[int, typer.Option(help="How many annotators.")] = 8,
) -> None:
    """Measure, and print a table."""
    measured = Measured()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "label-studio").mkdir()
        with label_studio.running(folder / "label-studio") as server:
            port = label_studio.free_port()
            environment = {
                **os.environ,
                "LABEL_STUDIO_URL": server.url,
                "LABEL_STUDIO_API_KEY": server.token,
                "SAMLET_FOLDER": str(folder / "samlet"),
            }
            command = [sys.executable, "-c", "from samlet_labelstudio.cli import main; main()"]
            backend = subprocess.Popen(
                [*command, "--port", str(port)], env=environment, stdout=subprocess.DEVNULL
            )
            try:
                address = f"http://127.0.0.1:{port}"
                _until_up(address)
                project = server.create_project("Load", default_labeling_config(["cell"]))
                tasks = _upload(server, project, folder)
                number = server.connect_backend(project, address)
                stop = time.monotonic() + 60 * minutes
                given = (server, number, tasks, stop, measured)
                threads = [
                    threading.Thread(target=_client, args=(i, *given)) for i in range(clients)
                ]
                watched = (address, backend, stop, measured)
                threads.append(threading.Thread(target=_watch, args=watched))
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            finally:
                backend.terminate()
                backend.wait()
    _print(measured, clients, minutes)


def _until_up(address: str) -> None:
    for _ in range(240):
        try:
            requests.get(f"{address}/health", timeout=1)
            return
        except requests.RequestException:
            time.sleep(0.25)
    raise RuntimeError("The backend did not start.")


def _upload(
    server: label_studio.LabelStudio, project: int, folder: Path
) -> list[tuple[int, list[np.ndarray]]]:
    """Tasks, each with the objects' pixels (N x 2, x and y in percent)."""
    tasks = []
    for path in images.find(samples.IMAGES):
        labels = read_label_map(samples.IMAGES.parent / "labels" / f"{path.stem}.png")
        height, width = labels.shape
        found = [
            (np.argwhere(mask)[:, ::-1] + 0.5) / (width, height) * 100
            for _, mask in objects(labels[None].astype(np.int32))
        ]
        for scale in SCALES:
            enlarged = folder / f"{path.stem}-{scale}.png"
            image = Image.fromarray(images.read(path))
            image.resize((width * scale, height * scale)).save(enlarged)
            tasks.append((server.upload_image(project, enlarged), found))
    return tasks


def _client(
    number: int,
    server: label_studio.LabelStudio,
    backend: int,
    tasks: list[tuple[int, list[np.ndarray]]],
    stop: float,
    measured: Measured,
) -> None:
    rng = np.random.default_rng(number)
    seen = set()
    while time.monotonic() < stop:
        shared = rng.random() < 0.5
        task, found = tasks[0] if shared else tasks[rng.integers(len(tasks))]
        pixels = found[rng.integers(len(found))]
        drawn = []
        for _ in range(CLICKS):
            x, y = pixels[rng.integers(len(pixels))]
            drawn.append(_keypoint(float(x), float(y)))
            begun = time.monotonic()
            try:
                answer = server.interactive(backend, task, drawn)
                if answer.get("errors"):
                    measured.errors.append(str(answer["errors"]))
            except (label_studio.RefusedError, requests.RequestException) as error:
                measured.errors.append(str(error))
            times = measured.later if task in seen else measured.first
            times.append(time.monotonic() - begun)
            seen.add(task)


def _keypoint(x: float, y: float) -> dict[str, object]:
    return {
        "type": "keypointlabels",
        "value": {"x": x, "y": y, "width": 0.3, "keypointlabels": ["cell"]},
        "is_positive": True,
        "from_name": "click",
        "to_name": "image",
        "original_width": 1,
        "original_height": 1,
        "image_rotation": 0,
    }


def _watch(address: str, backend: subprocess.Popen[bytes], stop: float, measured: Measured) -> None:
    process = psutil.Process(backend.pid)
    while time.monotonic() < stop:
        begun = time.monotonic()
        try:
            requests.get(f"{address}/health", timeout=10).raise_for_status()
        except requests.RequestException as error:
            measured.errors.append(f"/health: {error}")
        measured.health.append(time.monotonic() - begun)
        everyone = [process, *process.children(recursive=True)]
        measured.megabytes.append(sum(each.memory_info().rss for each in everyone) / 1e6)
        time.sleep(1)


def _print(measured: Measured, clients: int, minutes: float) -> None:
    print(f"{clients} clients, {minutes:g} minutes, {os.cpu_count()} cores\n")
    print("| | count | median | 95th percentile | longest |\n|---|---|---|---|---|")
    for name, times in (
        ("a client's first click on an image", measured.first),
        ("every other click", measured.later),
        ("/health, straight from the backend", measured.health),
    ):
        figures = [f"{1000 * np.quantile(times, share):.0f} ms" for share in (0.5, 0.95, 1)]
        print(f"| {name} | {len(times)} | {' | '.join(figures)} |")
    memory, third = measured.megabytes, max(1, len(measured.megabytes) // 3)
    before, after = np.mean(memory[third : 2 * third]), np.mean(memory[2 * third :])
    print(
        f"\n{len(measured.errors)} errors. Memory in the second third of the time and in the last:"
    )
    print(f"{before:.0f} MB and {after:.0f} MB.")
    for error in sorted(set(measured.errors))[:5]:
        print(error[:300])


if __name__ == "__main__":
    typer.run(main)
