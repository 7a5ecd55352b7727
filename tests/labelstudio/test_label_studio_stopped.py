"""A real backend that is terminated in the middle of its work, and started again.

pytest -m slow tests/labelstudio/test_label_studio_stopped.py
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from samlet.masks import crop_mask
from samlet_labelstudio.label_studio.labeling_config import Control
from samlet_labelstudio.regions import to_results
from tests.labelstudio import backend as backends
from tests.labelstudio import payloads
from tests.labelstudio.backend import Backend
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.projects import connect_project

NAMES = ("fluorescence_2", "stained_1")
PARTS = 3
WAIT_S = 300
MASK = Control("mask", "BrushLabels", "image", ("object",), False)


def wait(until: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def works_on_a_request(backend: Backend) -> bool:
    page = requests.get(backend.url, headers={"Accept": "text/html"}, timeout=60)
    return "1 in work" in page.text


@pytest.mark.slow
def test_training_and_batch_go_on_at_the_next_start(server: LabelStudio, tmp_path: Path) -> None:
    with backends.running(server, tmp_path) as backend:
        project = connect_project(server, backend, "brush.xml", NAMES)
        for name, task in project.tasks.items():
            masks = [crop_mask(mask) for mask in payloads.objects(name)[:3]]
            server.annotate(task, [to_results(mask, MASK, "object", 1.0)[0] for mask in masks])
        parts = []
        for i in range(PARTS):
            path = tmp_path / f"{i}.png"
            path.write_bytes(payloads.png(payloads.rgb(NAMES[0])[50 * i : 50 * i + 100, :100]))
            parts.append(server.upload_image(project.number, path))

        server.train(project.backend)
        wait(lambda: backend.training() is not None)
        training = backend.training()
        assert training is not None
        request = threading.Thread(target=server.retrieve_predictions, args=[project.number, parts])
        request.start()
        wait(lambda: works_on_a_request(backend))
        family = [training, psutil.Process(backend.process)]
        os.kill(backend.process, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=WAIT_S)
        assert alive == []
        request.join()
        log = backend.log_text()
        number = project.number
        assert f"Project {number}: the server stops, and the training with it (training" in log
        assert f"Project {number}: the server stops before {PARTS} tasks are done; they are" in log
        assert [len(server.predictions(task)) for task in parts] == [0] * PARTS

    with backends.running(server, tmp_path) as backend:
        wait(lambda: backend.training() is not None)
        log = backend.log_text()
        assert f"Project {number}: the training of before is resumed." in log
        assert f"Project {number}: {PARTS} tasks of before are resumed." in log
        wait(lambda: f"{PARTS} of {PARTS} tasks are done." in backend.log_text())
        assert [len(server.predictions(task)) for task in parts] == [1] * PARTS
