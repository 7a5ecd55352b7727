"""Many tasks at once: as many as Label Studio waits for, and the others in the background.

Label Studio sends all chosen tasks in one request and gives up after 100 s, with nothing stored.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from samlet.errors import UserError
from samlet_labelstudio.label_studio import connect, told
from samlet_labelstudio.service import Asked, Service

log = logging.getLogger(__name__)

WAIT_SECONDS = 80.0


def preannotate_all(
    service: Service, asked: Asked, tasks: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Pre-annotate tasks; those that cannot be read get nothing, and the log says why.

    Args:
        service: does the work.
        asked: see there.
        tasks: see `Service.preannotate`.

    Returns:
        a prediction for each task.

    Raises:
        UserError: the only task cannot be read; or they take too long. Then all are written through
            Label Studio's API, in the background, if its address and key are known.
    """
    begun = time.monotonic()
    done: list[dict[str, Any]] = []
    for task in tasks:
        if done and time.monotonic() - begun > WAIT_SECONDS:
            connect(service.settings)
            service.background.submit(_finish, service, asked, tasks, done)
            raise UserError(
                f"{len(tasks)} tasks take longer than Label Studio waits: they are done in the "
                "background, and their predictions appear one by one."
            )
        try:
            done.append(service.preannotate(asked, task))
        except UserError as error:
            if len(tasks) == 1:
                raise
            log.warning("Task %s was left out: %s", task.get("id"), error)
            version = service.model_version(asked.project)
            done.append({"result": [], "score": 0.0, "model_version": version})
    return done


def write_prediction(
    service: Service,
    asked: Asked,
    task: Mapping[str, Any],
    found: Mapping[str, Any] | None = None,
) -> None:
    """Pre-annotate a task unless that was done, and give Label Studio the prediction.

    Raises:
        UserError: the task cannot be read, or Label Studio does not take it.
    """
    found = found or service.preannotate(asked, task)
    client = connect(service.settings)
    with told(service.settings):
        client.predictions.create(
            task=task["id"],
            result=found["result"],
            score=found["score"],
            model_version=found["model_version"],
        )


def _finish(
    service: Service,
    asked: Asked,
    tasks: Sequence[Mapping[str, Any]],
    done: Sequence[Mapping[str, Any]],
) -> None:
    for number, task in enumerate(tasks):
        try:
            write_prediction(service, asked, task, done[number] if number < len(done) else None)
        except UserError as error:
            log.warning("Task %s was left out: %s", task.get("id"), error)
    log.warning("Project %s: %d tasks are done.", asked.project, len(tasks))
