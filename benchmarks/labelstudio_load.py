"""Load test: eight annotators click at once in a real Label Studio for some minutes.

    python -m benchmarks.labelstudio_load --minutes 5

Starts Label Studio 1.23 (in its own environment, installed if missing) and `samlet-labelstudio`,
uploads the bundled images in several sizes, and lets clients click on labelled objects: a few
clicks on an object of one image, then of another, half of the time on one image that all share.
Prints the time from request to mask through Label Studio, errors, the memory of the backend, and
the response time of /health. Run nothing beside it; docs/labelstudio.md has the result.
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
from benchmarks.common import print_times
from PIL import Image
from tests.labelstudio import label_studio

from samlet import images, samples
from samlet.datasets.layers import iter_objects
from samlet.outputs import read_label_map
from samlet_labelstudio.label_studio.project import default_labeling_config

SCALES = (1, 2, 4)
CLICKS_PER_OBJECT = 4


@dataclass
class Measurements:
    """What the clients measured: times in seconds, memory in MB."""

    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)


def main(
    minutes: Annotated[float, typer.Option(help="Duration of the test.")] = 5,
    clients: Annotated[int, typer.Option(help="Number of annotators.")] = 8,
) -> None:
    """Measure, and print a table."""
    measurements = Measurements()
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
                _wait_until_up(address)
                project = server.create_project("Load", default_labeling_config(["cell"]))
                tasks = _upload(server, project, folder)
                number = server.connect_backend(project, address)
                stop = time.monotonic() + 60 * minutes
                given = (server, number, tasks, stop, measurements)
                threads = [
                    threading.Thread(target=_client, args=(i, *given)) for i in range(clients)
                ]
                watched = (address, backend, stop, measurements)
                threads.append(threading.Thread(target=_watch, args=watched))
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            finally:
                backend.terminate()
                backend.wait()
    _print(measurements, clients, minutes)


def _wait_until_up(address: str) -> None:
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
    """Upload the images; the task of each, with its objects' pixels, N x 2 of (x, y) in percent."""
    tasks = []
    for path in images.find(samples.IMAGES):
        labels = read_label_map(samples.IMAGES.parent / "labels" / f"{path.stem}.png")
        height, width = labels.shape
        found = [
            (np.argwhere(mask)[:, ::-1] + 0.5) / (width, height) * 100
            for _, mask in iter_objects(labels[None].astype(np.int32))
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
    measurements: Measurements,
) -> None:
    rng = np.random.default_rng(number)
    seen = set()
    while time.monotonic() < stop:
        shared = rng.random() < 0.5
        task, found = tasks[0] if shared else tasks[rng.integers(len(tasks))]
        pixels = found[rng.integers(len(found))]
        prompts = []
        for _ in range(CLICKS_PER_OBJECT):
            x, y = pixels[rng.integers(len(pixels))]
            prompts.append(_keypoint(float(x), float(y)))
            start = time.monotonic()
            try:
                response = server.interactive(backend, task, prompts)
                if response.get("errors"):
                    measurements.errors.append(str(response["errors"]))
            except (label_studio.RefusedError, requests.RequestException) as error:
                measurements.errors.append(str(error))
            times = measurements.later if task in seen else measurements.first
            times.append(time.monotonic() - start)
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


def _watch(
    address: str, backend: subprocess.Popen[bytes], stop: float, measurements: Measurements
) -> None:
    process = psutil.Process(backend.pid)
    while time.monotonic() < stop:
        start = time.monotonic()
        try:
            requests.get(f"{address}/health", timeout=10).raise_for_status()
        except requests.RequestException as error:
            measurements.errors.append(f"/health: {error}")
        measurements.health.append(time.monotonic() - start)
        processes = [process, *process.children(recursive=True)]
        measurements.megabytes.append(sum(each.memory_info().rss for each in processes) / 1e6)
        time.sleep(1)


def _print(measurements: Measurements, clients: int, minutes: float) -> None:
    print(f"{clients} clients, {minutes:g} minutes, {os.cpu_count()} cores\n")
    print_times(
        {
            "a client's first click on an image": measurements.first,
            "every other click": measurements.later,
            "/health, directly from the backend": measurements.health,
        }
    )
    memory, third = measurements.megabytes, max(1, len(measurements.megabytes) // 3)
    before, after = np.mean(memory[third : 2 * third]), np.mean(memory[2 * third :])
    print(
        f"\n{len(measurements.errors)} errors. Mean memory: {before:.0f} MB in the second third of "
        f"the time, {after:.0f} MB in the last."
    )
    for error in sorted(set(measurements.errors))[:5]:
        print(error[:300])


if __name__ == "__main__":
    typer.run(main)
