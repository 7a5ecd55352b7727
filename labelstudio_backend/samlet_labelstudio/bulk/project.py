"""All tasks of a project, pre-annotated through Label Studio's API."""

from typing import Any

from samlet_labelstudio.bulk.runner import failure_message, run_all
from samlet_labelstudio.label_studio import labeling_config
from samlet_labelstudio.label_studio.client import connect, label_studio_errors
from samlet_labelstudio.service import RequestContext, Service
from samlet_labelstudio.service.preannotation import PreparedTask
from samlet_labelstudio.service.predictions import write_prediction
from samlet_labelstudio.service.request_context import Task


def preannotate_project(service: Service, project: int, workers: int) -> tuple[int, int, list[str]]:
    """Write a prediction for each task of a project that has none by this model.

    Args:
        service: does the work.
        project: its number.
        workers: tasks at once: fetching and writing overlap with segmenting.

    Returns:
        How many tasks were done now, how many before, and a sentence for each that failed.

    Raises:
        UserError: Label Studio does not answer, there is no such project, or its labeling config
            has nothing to draw masks with.
    """
    client = connect(service.settings)
    with label_studio_errors(service.settings):
        config = labeling_config.parse(client.projects.get(project).label_config or "")
        # With the addresses that backends are given, not those that browsers are.
        listed: Any = client.tasks.list(project=project, page_size=100, resolve_uri=False)
        tasks: list[Task] = [task.model_dump() for task in listed]
    context = RequestContext(str(project), config, service.settings)
    preannotator = service.preannotator
    prepared = [preannotator.prepare(context, task) for task in tasks]
    remaining = [
        each for each in prepared if not _has_prediction(each.task, preannotator.version_of(each))
    ]

    def work(each: PreparedTask) -> str | None:
        try:
            write_prediction(preannotator, each)
        except Exception as error:
            return f"Task {each.task['id']}: {failure_message(error)}"
        return None

    failed = run_all(remaining, work, workers)
    return len(remaining) - len(failed), len(tasks) - len(remaining), failed


def _has_prediction(task: Task, version: str) -> bool:
    predictions = task.get("predictions") or []
    return any(prediction.get("model_version") == version for prediction in predictions)
