"""Learning from the annotations of a real Label Studio, while clicks go on."""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from samlet.masks import crop_mask, iou
from samlet_labelstudio.label_studio import labeling_config
from samlet_labelstudio.regions import to_results
from tests.labelstudio import payloads
from tests.labelstudio.backend import Backend
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.projects import CONFIGS, Project, connect_project

NAMES = ("fluorescence_2", "stained_1")
OBJECTS = 3
TRAINING_S = 240
POLL_S = 0.1

Found = TypeVar("Found")


@pytest.fixture(scope="module")
def project(server: LabelStudio, backend: Backend) -> Project:
    """A project in which an annotator has outlined some nuclei of each image."""
    made = connect_project(server, backend, "brush.xml", NAMES)
    config = labeling_config.parse((CONFIGS / "brush.xml").read_text(encoding="utf-8"))
    control = config.result_control("image", "object")
    assert control is not None
    for name, task in made.tasks.items():
        masks = [crop_mask(mask) for mask in payloads.objects(name)[:OBJECTS]]
        regions = [to_results(mask, control, "object", 1.0)[0] for mask in masks]
        server.annotate(task, regions)
    return made


def poll(backend: Backend, look: Callable[[], Found | None]) -> Found:
    """Look until there is something, and check each time that /health is answered at once."""
    deadline = time.monotonic() + TRAINING_S
    while time.monotonic() < deadline:
        backend.seconds_to_health()
        found = look()
        if found:
            return found
        time.sleep(POLL_S)
    raise TimeoutError(f"Nothing came in {TRAINING_S} s")


def assert_clicks_work(project: Project) -> None:
    (mask, *_) = payloads.objects(NAMES[0])
    assert iou(project.mask(NAMES[0], [payloads.click_in(mask, "object")]), mask) > 0.7


def test_killed_training_harms_nothing(project: Project, backend: Backend) -> None:
    project.server.train(project.backend)
    poll(backend, backend.training).kill()
    poll(backend, lambda: f"Training on project {project.number} failed" in backend.log_text())
    assert backend.versions(project.number) == ["nuclei"]
    assert_clicks_work(project)


def test_training_makes_a_version(project: Project, backend: Backend) -> None:
    project.server.train(project.backend)
    poll(backend, backend.training)
    assert_clicks_work(project)
    trained = poll(backend, lambda: backend.versions(project.number)[1:])
    (name,) = trained
    assert name.startswith(f"nuclei.project-{project.number}.2-images.")
    poll(backend, lambda: f"{name} was trained" in backend.log_text())

    listed = backend.command("versions", "--project", str(project.number))
    assert name in listed
    backend.command("versions", "--project", str(project.number), "--use", name)
    (mask, *_) = payloads.objects(NAMES[0])
    click = payloads.click_in(mask, "object") | {"to_name": "image"}
    answer = project.server.interactive(project.backend, project.tasks[NAMES[0]], [click])
    assert answer["data"]["model_version"] == name
    assert_clicks_work(project)
