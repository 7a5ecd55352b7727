"""In which order a real Label Studio shows tasks, and whether samlet foresees it."""

import pytest

from samlet_labelstudio.label_studio.next_tasks import next_tasks
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads
from tests.labelstudio.label_studio import LabelStudio

SCORES = (0.8, 0.9, 0.3, 0.6)


@pytest.fixture
def tasks(server: LabelStudio) -> dict[float, int]:
    """Tasks by the score of their prediction; the number of their project is `tasks[-1]`.

    New for each test, since Label Studio shows a task again until it is submitted.
    """
    project = server.create_project("order", payloads.config())
    made = server.import_tasks(
        project,
        [
            {
                "data": {"image": f"/data/upload/1/{score}.png"},
                "predictions": [{"model_version": "nuclei", "score": score, "result": []}],
            }
            for score in SCORES
        ],
    )
    return {-1.0: project, **dict(zip(SCORES, made, strict=True))}


def foreseen(server: LabelStudio, project: int, task: int, count: int = 2) -> list[int]:
    settings = Settings(label_studio_url=server.url, api_key=server.token)
    found = next_tasks(settings, str(project), task, count)
    assert all(each["data"]["image"].startswith("/data/upload/1/") for each in found)
    return [each["id"] for each in found]


def shown(server: LabelStudio, project: int) -> int:
    """The task that *Label All Tasks* shows."""
    return int(server.call("GET", f"projects/{project}/next/").json()["id"])


def test_by_number(server: LabelStudio, tasks: dict[float, int]) -> None:
    project = tasks[-1]
    server.change_project(project, sampling="Sequential sampling")
    assert shown(server, project) == tasks[0.8]
    assert foreseen(server, project, tasks[0.8]) == [tasks[0.9], tasks[0.3]]
    assert foreseen(server, project, tasks[0.6]) == []


def test_by_uncertainty(server: LabelStudio, tasks: dict[float, int]) -> None:
    """The lowest score first, of the predictions of the model version that is chosen."""
    project = tasks[-1]
    server.change_project(project, sampling="Uncertainty sampling", model_version="nuclei")
    assert shown(server, project) == tasks[0.3]
    assert foreseen(server, project, tasks[0.3]) == [tasks[0.6], tasks[0.8]]
    server.annotate(tasks[0.3], [])
    assert shown(server, project) == tasks[0.6]
    assert foreseen(server, project, tasks[0.6], 3) == [tasks[0.8], tasks[0.9]]


def test_at_random(server: LabelStudio, tasks: dict[float, int]) -> None:
    project = tasks[-1]
    server.change_project(project, sampling="Uniform sampling")
    assert foreseen(server, project, tasks[0.8]) == []
