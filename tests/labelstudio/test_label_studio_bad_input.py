"""What goes wrong between a real Label Studio and the backend: one sentence each, nothing lost."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from samlet.masks import crop_mask
from samlet.samples import IMAGES
from samlet_labelstudio.label_studio.labeling_config import Control
from samlet_labelstudio.regions import to_results
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.training.annotations import export_annotations
from tests.labelstudio import payloads
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.projects import CONFIGS
from tests.labelstudio.quick_backend import (
    COUNT,
    counts,
    listening,
    messages,
    model,
    project,
    quick_service,
    service,
    url,
    wait,
)

__all__ = ["model", "project", "service", "url"]

NAME = "fluorescence_2"
NUCLEI = payloads.objects(NAME)
MASK = Control("mask", "BrushLabels", "image", ("object",), False)
CLICK = payloads.click_in(NUCLEI[1], "object") | {"to_name": "image"}


def shown(service: Service) -> str:
    """The backend's page."""
    client = create_app(service, 2).test_client()
    return client.get("/", headers={"Accept": "text/html"}).get_data(as_text=True)


def refused(server: LabelStudio, backend: int, task: int) -> str:
    """What Label Studio knows of a click that could not be answered."""
    answer = server.interactive(backend, task, [CLICK])
    assert "data" not in answer
    return str(answer["errors"])


def test_a_key_that_label_studio_refuses(
    server: LabelStudio, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = quick_service(server, model, tmp_path, api_key="0" * 40)
    service.recent_log.attach()
    number = server.create_project("A key", (CONFIGS / "brush.xml").read_text())
    with listening(service) as address:
        backend = server.connect_backend(number, address)
        task = server.upload_image(number, IMAGES / f"{NAME}.png")
        assert "400 Client Error" in refused(server, backend, task)
        (message,) = messages(caplog, "/predict: ")
        assert message.endswith(f"{NAME}.png was refused with status 401: check --api-key.")
        assert message in shown(service)
        server.train(backend)
        wait(lambda: service.trainer.running is None)
    sentence = (
        f"Training on project {number} failed: Label Studio at {server.url} refuses the API key: "
        "copy a valid one from Account &amp; Settings."
    )
    assert sentence in shown(service)


def test_an_image_that_is_gone(
    server: LabelStudio, project: int, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """The others of its batch are done, and it can be clicked on when it is there again."""
    missing = f"/data/upload/{project}/gone.png"
    (task,) = server.import_tasks(project, [{"data": {"image": missing}}])
    (connection,) = server.call("GET", "ml/", params={"project": project}).json()
    assert "400 Client Error" in refused(server, connection["id"], task)
    (message,) = messages(caplog, "/predict: ")
    assert f"{missing} was refused with status" in message
    assert message.endswith(": check that the image is there.")
    server.retrieve_predictions(project)
    # If it takes long, in the background.
    wait(lambda: counts(server, project)[:COUNT] == [1] * COUNT)
    wait(lambda: messages(caplog, f"Task {task} was skipped: "))


def test_annotations_that_come_from_another_project(
    server: LabelStudio, project: int, service: Service, tmp_path: Path
) -> None:
    """They are exported and learnt from like others, by their own addresses."""
    first = server.create_project("Annotated elsewhere", (CONFIGS / "brush.xml").read_text())
    task = server.upload_image(first, IMAGES / f"{NAME}.png")
    server.annotate(task, to_results(crop_mask(NUCLEI[1]), MASK, "object", 0.9))
    exported: list[dict[str, Any]] = json.loads(server.export(first))
    imported = [
        {
            "data": each["data"],
            "annotations": [{"result": a["result"]} for a in each["annotations"]],
        }
        for each in exported
    ]
    (copied,) = server.import_tasks(project, imported)
    assert export_annotations(str(project), tmp_path / "job", service.settings) == 1
    (image,) = (tmp_path / "job" / "images").iterdir()
    assert image.stem == str(copied)
    assert image.read_bytes() == payloads.image_file(NAME)


def test_two_backends_of_one_project(
    server: LabelStudio, project: int, service: Service, model: Path, tmp_path: Path
) -> None:
    """Of each task one prediction, and clicks are answered by either."""
    with listening(quick_service(server, model, tmp_path / "second")) as address:
        second = server.connect_backend(project, address)
        server.retrieve_predictions(project)
        wait(lambda: counts(server, project) == [1] * COUNT)
        for connection in server.call("GET", "ml/", params={"project": project}).json():
            answer = server.interactive(connection["id"], server.task_ids(project)[0], [CLICK])
            assert answer["data"]["model_version"] == str(model)
        server.call("DELETE", f"ml/{second}")


def test_a_label_that_is_renamed_after_a_training(
    server: LabelStudio, project: int, service: Service, model: Path, tmp_path: Path
) -> None:
    """The trained model is used on; it knows objects, not labels."""
    name = f"nuclei.project-{project}.2-images.2026-11-30T12-00-00"
    trained = Path(shutil.copy(model, tmp_path / "trained.safetensors"))
    service.versions.add(str(project), name, trained, {"date": "2026-11-30"})
    service.versions.choose(str(project), name)
    text = (CONFIGS / "brush.xml").read_text().replace('"object"', '"nucleus"')
    server.change_project(project, label_config=text)
    (connection,) = server.call("GET", "ml/", params={"project": project}).json()
    task = server.task_ids(project)[0]
    click = payloads.click_in(NUCLEI[1], "nucleus") | {"to_name": "image"}
    answer = server.interactive(connection["id"], task, [click])["data"]
    assert answer["model_version"] == name
    assert {region["value"]["brushlabels"][0] for region in answer["result"]} <= {"nucleus"}
    assert "400 Client Error" in refused(server, connection["id"], task)
