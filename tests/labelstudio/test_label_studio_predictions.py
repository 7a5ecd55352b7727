"""Projects of a real Label Studio that arrive pre-annotated, from the page and the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samlet.masks import crop_mask
from samlet.samples import IMAGES
from samlet_labelstudio.label_studio import labeling_config
from samlet_labelstudio.label_studio.labeling_config import Control
from samlet_labelstudio.regions import to_results
from tests.labelstudio import payloads
from tests.labelstudio.backend import Backend
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.projects import Project, brush_mask, connect_project, mean_of_best

FIRST = "fluorescence_2"
SECOND = "part"
"""A small part of it, which takes little time."""


@pytest.fixture(scope="module")
def project(
    server: LabelStudio, backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    made = connect_project(server, backend, "brush.xml", [FIRST])
    path = tmp_path_factory.mktemp("images") / f"{SECOND}.png"
    path.write_bytes(payloads.png(payloads.rgb(FIRST)[:100, :100]))
    tasks = made.tasks | {SECOND: server.upload_image(made.number, path)}
    return replace(made, tasks=tasks)


def check(prediction: dict[str, Any]) -> None:
    """Check that a prediction is of `FIRST`, as Label Studio keeps it, and near the labels."""
    assert prediction["model_version"] == "microscopy"
    assert 0.5 < prediction["score"] <= 1
    regions = prediction["result"]
    assert {region["value"]["brushlabels"][0] for region in regions} == {"object"}
    truth = payloads.objects(FIRST)
    assert mean_of_best(truth, [brush_mask(region) for region in regions]) > 0.7
    assert len(regions) < 2 * len(truth)


def test_retrieve_predictions_then_the_rest_from_the_command_line(
    project: Project, backend: Backend
) -> None:
    server, first, second = project.server, project.tasks[FIRST], project.tasks[SECOND]
    server.retrieve_predictions(project.number, [first])
    (prediction,) = server.predictions(first)
    check(prediction)
    assert server.predictions(second) == []

    arguments = ("preannotate", "--project", str(project.number))
    assert "1 tasks pre-annotated, 1 were done before." in backend.command(*arguments)
    assert [each["id"] for each in server.predictions(first)] == [prediction["id"]]
    assert len(server.predictions(second)) == 1


def test_boxes_of_a_detector_become_masks(project: Project) -> None:
    server = project.server
    truth = payloads.objects(FIRST)[:12]
    boxes = [payloads.box_around(mask, "object") | {"to_name": "image"} for mask in truth]
    found = {"model_version": "detector", "score": 0.9, "result": boxes}
    image = server.task(project.tasks[FIRST])["data"]["image"]
    imported = [{"data": {"image": image}, "predictions": [found]}]
    (task,) = server.import_tasks(project.number, imported)
    server.retrieve_predictions(project.number, [task])
    by_version = {each["model_version"]: each["result"] for each in server.predictions(task)}
    masks = [brush_mask(region) for region in by_version["microscopy"]]
    assert len(masks) == len(truth)
    assert mean_of_best(truth, masks) > 0.75
    assert len(by_version["detector"]) == len(truth)


def test_a_submitted_annotation_is_completed(server: LabelStudio, backend: Backend) -> None:
    project = connect_project(server, backend, "similar.xml", [FIRST])
    task, truth = project.tasks[FIRST], payloads.objects(FIRST)[:10]
    control = Control("mask", "BrushLabels", "image", ("object",), False)
    annotated = [to_results(crop_mask(mask), control, "object", 0.9)[0] for mask in truth[1:3]]
    server.annotate(task, annotated)
    for _ in range(2):
        server.retrieve_predictions(project.number, [task])
    (prediction,) = server.predictions(task)
    assert prediction["model_version"] == "microscopy (all like 2 object)"
    regions = prediction["result"]
    assert [each["id"] for each in regions[:2]] == [each["id"] for each in annotated]
    masks = [brush_mask(region) for region in regions]
    assert len(masks) > 6 and mean_of_best(truth, masks) > 0.6


def test_folder_without_a_server(server: LabelStudio, backend: Backend, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "tasks.json"
    images.mkdir()
    shutil.copy(IMAGES / f"{FIRST}.png", images)
    (images / "broken.png").write_bytes(b"no image")
    arguments = ("--images", str(images), "--labels", "object,debris", "--out", str(out))
    said = backend.command("preannotate", *arguments, status=1)
    assert "holds 1 tasks" in said and "Skipped: " in said and "broken.png" in said
    assert not list(tmp_path.glob("*.part"))
    config = out.with_suffix(".xml").read_text(encoding="utf-8")
    number = server.create_project("Imported", config)
    (task,) = server.import_tasks(number, json.loads(out.read_text(encoding="utf-8")))
    assert server.task(task)["data"]["image"] == f"/data/local-files/?d={FIRST}.png"
    (prediction,) = server.predictions(task)
    check(prediction)
    assert all(brush_mask(region).any() for region in prediction["result"])
    control = labeling_config.parse(config).result_control("image", "debris")
    assert control is not None and control.name == prediction["result"][0]["from_name"]
