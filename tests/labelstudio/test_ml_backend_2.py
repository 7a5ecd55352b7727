"""The backend under label-studio-ml 2.x, which is on GitHub only: started in both documented ways.

Install that and samlet into an environment, and name its folder:

    python -m venv /tmp/ml2
    /tmp/ml2/bin/pip install ".[labelstudio]" \\
        "label-studio-ml @ git+https://github.com/HumanSignal/label-studio-ml-backend"
    SAMLET_LABEL_STUDIO_ML_2=/tmp/ml2 pytest -m slow tests/labelstudio/test_ml_backend_2.py
"""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from samlet.masks import iou
from tests.labelstudio import payloads
from tests.labelstudio.label_studio import free_port, stop
from tests.labelstudio.test_images import Host
from tests.labelstudio.test_training import NAMES, serve

VARIABLE = "SAMLET_LABEL_STUDIO_ML_2"
MODEL = "from samlet_labelstudio.model import SamletBackend\n"
CREATE = "label-studio-ml create samlet-backend --script model.py:SamletBackend"
START = "label-studio-ml start samlet-backend --host 127.0.0.1 --port {port}"
GUNICORN = (
    "python -m gunicorn --chdir samlet-backend --preload --bind 127.0.0.1:{port} --workers 1 "
    "--threads 8 --timeout 0 _wsgi:app"
)
WAIT_S = 300
TRAINING_S = 1200
"""It has the least priority: on a busy machine, two steps take minutes."""
USER, PASSWORD = "label-studio", "a-password"
NUCLEUS = payloads.objects("fluorescence_2")[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no environment"),
]


@pytest.fixture
def host() -> Iterator[Host]:
    """Stands for Label Studio."""
    with Host() as host:
        yield host
        host.shutdown()


@pytest.fixture(params=[START, GUNICORN], ids=["start", "gunicorn"])
def address(request: pytest.FixtureRequest, host: Host, tmp_path: Path) -> Iterator[str]:
    """The address of the backend under label-studio-ml's server."""
    port = free_port()
    commands = Path(os.environ[VARIABLE]) / "bin"
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "BASIC_AUTH_USER": USER,
        "BASIC_AUTH_PASS": PASSWORD,
        "LABEL_STUDIO_URL": host.url,
        "LABEL_STUDIO_API_KEY": "a-key",
        "SAMLET_FOLDER": str(tmp_path / "samlet"),
        "SAMLET_TRAIN_STEPS": "2",
    }
    (tmp_path / "model.py").write_text(MODEL)
    subprocess.run(CREATE.split(), env=environment, cwd=tmp_path, check=True)
    process = subprocess.Popen(
        request.param.format(port=port).split(),
        env=environment,
        cwd=tmp_path,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for_health(url)
        yield url
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        stop(process)
        _, alive = psutil.wait_procs(children, timeout=15)
    assert alive == []


def wait_for_health(url: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            health = requests.get(f"{url}/health", auth=(USER, PASSWORD), timeout=5).json()
            break
        except requests.RequestException:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert health == {"status": "UP", "model_class": "SamletBackend"}


def post(url: str, body: dict[str, Any]) -> Any:
    return requests.post(url, json=body, auth=(USER, PASSWORD), timeout=WAIT_S)


def test_what_label_studio_asks(address: str, host: Host) -> None:
    serve(host, *NAMES)
    assert requests.get(f"{address}/health", timeout=60).status_code == 401
    setup = {"project": "3.17", "schema": payloads.config(), "extra_params": '{"max_regions": 3}'}
    assert post(f"{address}/setup", setup).json() == {"model_version": "microscopy"}
    useless = post(f"{address}/setup", {**setup, "schema": "<View/>"})
    assert useless.status_code == 500 and "has no image" in useless.json()["detail"]

    task = payloads.task(payloads.image_file("fluorescence_2"))
    click = payloads.request([task], [payloads.click_in(NUCLEUS)], project="3.17")
    (prediction,) = post(f"{address}/predict", click).json()["results"]
    assert iou(payloads.mask_of(prediction["result"], NUCLEUS.shape), NUCLEUS) > 0.8
    preannotate = payloads.request([task], project="3.17")
    (prediction,) = post(f"{address}/predict", preannotate).json()["results"]
    assert prediction["model_version"] == "microscopy" and len(prediction["result"]) == 3

    hook = {
        "action": "START_TRAINING",
        "project": {"id": 3, "label_config": payloads.config()},
    }
    answer = post(f"{address}/webhook", hook)
    assert answer.status_code == 201
    assert answer.json()["result"]["status"].startswith("Training on project 3 has started")
    deadline = time.monotonic() + TRAINING_S
    shown = ""
    while ".project-3.2-images." not in shown:
        assert time.monotonic() < deadline and "failed" not in shown, shown
        time.sleep(0.5)
        shown = post(f"{address}/setup", setup).json()["model_version"]
