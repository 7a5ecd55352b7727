"""Learning from the annotations of a real Label Studio, while clicks go on."""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest
import requests

from samlet.masks import crop_mask, iou
from samlet_labelstudio.label_studio import labeling_config
from samlet_labelstudio.regions import to_results
from tests.labelstudio import payloads
from tests.labelstudio.backend import Backend
from tests.labelstudio.browser import Browser
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.projects import CONFIGS, Project, connect_project

NAMES = ("fluorescence_2", "stained_1")
OBJECTS = 3
TRAINING_S = 600
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
    """Look until there is something, and check each time that /health is answered."""
    deadline = time.monotonic() + TRAINING_S
    while time.monotonic() < deadline:
        backend.check_health()
        found = look()
        if found:
            return found
        time.sleep(POLL_S)
    raise TimeoutError(f"Nothing came in {TRAINING_S} s")


def assert_clicks_work(project: Project) -> None:
    (mask, *_) = payloads.objects(NAMES[0])
    assert iou(project.mask(NAMES[0], [payloads.click_in(mask, "object")]), mask) > 0.7


def version_in_label_studio(project: Project) -> str:
    """The backend's model version in Label Studio's API, asked anew as by its settings page."""
    (listed,) = project.server.call("GET", "ml/", params={"project": project.number}).json()
    return str(listed["model_version"])


def test_killed_training_harms_nothing(project: Project, backend: Backend) -> None:
    project.server.train(project.backend)
    poll(backend, backend.training).kill()
    poll(backend, lambda: f"Training on project {project.number} failed" in backend.log_text())
    assert backend.versions(project.number) == ["microscopy"]
    assert_clicks_work(project)


def test_training_makes_a_version(project: Project, backend: Backend, browser: Browser) -> None:
    """From Label Studio's dialog to a click that the trained model answers."""
    browser.start_training(project.number)
    poll(backend, backend.training)
    assert "(training" in version_in_label_studio(project)
    assert_clicks_work(project)
    trained = poll(backend, lambda: backend.versions(project.number)[1:])
    (name,) = trained
    assert name.startswith(f"microscopy.project-{project.number}.2-images.")
    poll(backend, lambda: f"{name} was trained" in backend.log_text())
    page = requests.get(backend.url, headers={"Accept": "text/html"}, timeout=60).text
    assert f"{name} was trained" in page and "IoU before: click 0." in page
    # As the version that is used, or in brackets, with the figures, as one that is no better.
    assert name in version_in_label_studio(project)

    listed = backend.command("versions", "--project", str(project.number))
    assert name in listed
    backend.command("versions", "--project", str(project.number), "--use", name)
    (mask, *_) = payloads.objects(NAMES[0])
    click = payloads.click_in(mask, "object") | {"to_name": "image"}
    answer = project.server.interactive(project.backend, project.tasks[NAMES[0]], [click])
    assert answer["data"]["model_version"] == name
    assert_clicks_work(project)
