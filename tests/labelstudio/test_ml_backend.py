"""The backend class in label-studio-ml's own server; PyPI has 1.x of it.

2.x, from GitHub, is stood in for here, and tested itself in `test_ml_backend_2.py`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from label_studio_ml.api import init_app

from samlet.errors import UserError
from samlet.masks import iou
from samlet_labelstudio.ml_backend import backend as model
from samlet_labelstudio.ml_backend import compat
from samlet_labelstudio.ml_backend.backend import SamletBackend
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads

NAME = "fluorescence_2"
NUCLEUS = payloads.objects(NAME)[1]
TASK = payloads.task(payloads.image_file(NAME))
USELESS = '<View><Image name="img" value="$image"/></View>'
BROKEN = payloads.config("PolygonLabels")
"""Stands for a labeling config that label-studio-ml cannot read, and samlet can."""
HOOK = {"action": "ANNOTATION_CREATED", "project": {"id": 3}}


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has made no service yet."""
    monkeypatch.setenv("SAMLET_FOLDER", str(tmp_path / "samlet"))
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    model._service.cache_clear()
    yield
    model._service.cache_clear()


@pytest.mark.usefixtures("environment")
def test_the_server_of_version_1(tmp_path: Path) -> None:
    assert compat.IS_FIRST
    client = init_app(SamletBackend, model_dir=str(tmp_path)).test_client()
    assert client.get("/health").json["status"] == "UP"
    # As Label Studio asks it.
    body = {"project": "3.17", "schema": payloads.config(), "hostname": "http://localhost:8080"}
    answer = client.post("/setup", json={**body, "access_token": "key", "extra_params": None})
    assert answer.status_code == 200, answer.json
    answer = client.post("/predict", json=payloads.request([TASK], [payloads.click_in(NUCLEUS)]))
    assert answer.status_code == 200, answer.json
    (prediction,) = answer.json["results"]
    assert prediction["model_version"] == "microscopy"
    assert iou(payloads.mask_of(prediction["result"], NUCLEUS.shape), NUCLEUS) > 0.8
    # A sentence for people, here too.
    answer = client.post("/predict", json=payloads.request([{"id": 1, "data": {}}]))
    assert answer.status_code == 500 and "The task has no image" in answer.json["detail"]


@pytest.mark.usefixtures("environment")
def test_the_constructor_of_version_1() -> None:
    backend = SamletBackend(
        label_config=payloads.config("PolygonLabels"), train_output={}, hostname="", access_token=""
    )
    assert backend.model_version == "microscopy" and backend.label_config.startswith("<View>")
    (prediction,) = backend.predict(
        [TASK], context={"result": [payloads.click_in(NUCLEUS)]}, login=None, password=None
    )
    assert prediction["result"][0]["type"] == "polygonlabels"
    # Before a project is known there is no config.
    with pytest.raises(UserError, match="no labeling config"):
        SamletBackend().predict([TASK])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        # 1.x, from `process_event`, and 2.x.
        (((),), {"event": "E", "data": {"a": 1}, "job_id": "7", "workdir": "/tmp"}),
        (("E", {"a": 1}), {}),
        (("E",), {"data": {"a": 1}, "job_id": "7"}),
        ((), {"event": "E", "data": {"a": 1}}),
    ],
)
def test_event_and_data(given: tuple[Any, ...], named: dict[str, Any]) -> None:
    assert compat.event_and_data(*given, **named) == ("E", {"a": 1})


def test_event_and_data_of_old_servers() -> None:
    # Before webhooks, `fit` was given the annotations themselves.
    tasks = [{"id": 1, "annotations": []}]
    assert compat.event_and_data(tasks, "/tmp/work") == ("/tmp/work", {})
    assert compat.event_and_data((), workdir=None, data=None) == ("", {})


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("ANNOTATION_CREATED", HOOK), {}),
        (((),), {"event": "ANNOTATION_CREATED", "data": HOOK, "job_id": "7", "workdir": "/tmp"}),
    ],
)
def test_fit(tmp_path: Path, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    service = Service(Settings(folder=tmp_path, train_on_annotations=True, train_pause=1000))
    backend = SamletBackend(service=service)
    answer = backend.fit(*args, **kwargs)
    assert answer == {"status": "Training starts 1000 s after the last annotation."}
    (timer,) = service.trainer._timers.values()
    assert list(service.trainer._timers) == ["3"]
    timer.cancel()


class Base2:
    """What 2.0.1's base class does when a backend is made, as its server does for each request."""

    stored: ClassVar[dict[str, str]] = {}

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        if label_config == BROKEN:
            raise AttributeError("'NoneType' object has no attribute 'tag'")
        self.set("model_version", "0.0.1")
        self.setup()

    def setup(self) -> None:
        raise NotImplementedError

    def set(self, key: str, value: str) -> None:
        # It refuses anything but text.
        assert isinstance(value, str)
        Base2.stored[key] = value


@pytest.fixture
def version_2(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a backend stores under 2.x."""
    monkeypatch.setattr(compat, "LabelStudioMLBase", Base2)
    monkeypatch.setattr(compat, "IS_FIRST", False)
    monkeypatch.setattr(SamletBackend, "set", Base2.set, raising=False)
    return Base2.stored


def test_version_2(tmp_path: Path, version_2: dict[str, str]) -> None:
    service = Service(Settings(folder=tmp_path))
    backend = SamletBackend("3", payloads.config(), service=service)
    assert version_2["model_version"] == "microscopy"
    # Its server calls this with what /setup was sent.
    backend.set_extra_params('{"max_regions": 3}')
    assert service.settings_of("3").max_regions == 3
    assert service.settings_of("4").max_regions == Settings().max_regions
    with pytest.raises(UserError, match=r"label-studio-ml cannot read the labeling config \('None"):
        SamletBackend("3", BROKEN, service=service)
    with pytest.raises(UserError, match="nothing to draw masks with"):
        SamletBackend("3", USELESS, service=service)


def test_a_failed_training_is_shown_under_version_2(
    tmp_path: Path, version_2: dict[str, str]
) -> None:
    service = Service(Settings(folder=tmp_path))
    SamletBackend("3", payloads.config(), service=service).fit("START_TRAINING", HOOK)
    while service.trainer.running is not None:
        time.sleep(0.02)
    SamletBackend("3", payloads.config(), service=service)
    shown = version_2["model_version"]
    assert shown.startswith("microscopy (Training on project 3 failed: Label Studio's address and")


def test_imports_leave_nothing_behind(tmp_path: Path) -> None:
    code = "import samlet_labelstudio.ml_backend.backend, samlet_labelstudio.server.serving"
    for folder in ("temporary", "cache"):
        (tmp_path / folder).mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path / "temporary"),
        "SAMLET_CACHE": str(tmp_path / "cache"),
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list((tmp_path / "temporary").iterdir()) == []
