"""Predictions that are written through Label Studio's API, each once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from samlet.errors import UserError
from samlet_labelstudio.label_studio.client import connect, label_studio_errors
from samlet_labelstudio.service.preannotation import Preannotator, PreparedTask
from samlet_labelstudio.service.request_context import Prediction, Task


class ProjectDeletedError(UserError):
    """The project of a task is not in Label Studio any more."""


def write_prediction(
    preannotator: Preannotator,
    prepared: PreparedTask,
    prediction: Prediction | None = None,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Store the prediction of a task in Label Studio, unless it has one of the same model.

    Args:
        preannotator: makes the prediction if it is needed.
        prepared: the task; the settings of its context say where Label Studio is.
        prediction: None if it has yet to be made.
        progress: see `Preannotator.preannotate`.

    Raises:
        ProjectDeletedError: the project was deleted.
        LabelStudioUnavailableError: Label Studio does not answer, or refuses the API key.
        UserError: the task cannot be read, or Label Studio does not accept the prediction.
    """
    settings, project = prepared.context.settings, prepared.context.project
    client, number = connect(settings), task_number(prepared.task)
    made = prediction["model_version"] if prediction else None
    version = made or preannotator.version_of(prepared)
    with label_studio_errors(settings), _deleted(client, project, number):
        existing = client.predictions.list(task=number)
    if any(each.model_version == version for each in existing):
        return
    prediction = prediction or preannotator.preannotate(prepared, progress=progress)
    with label_studio_errors(settings), _deleted(client, project, number):
        client.predictions.create(
            task=number,
            result=prediction["result"],
            score=prediction["score"],
            model_version=prediction["model_version"],
        )


@contextmanager
def _deleted(client: LabelStudio, project: str, task: int) -> Iterator[None]:
    """Say that a task was deleted, of which Label Studio says that it is no valid choice.

    Raises:
        ProjectDeletedError: with its project.
        UserError: it was deleted.
    """
    try:
        yield
    except ApiError as error:
        if error.status_code not in (400, 404) or _exists(lambda: client.tasks.get(str(task))):
            raise
        if project and not _exists(lambda: client.projects.get(int(project))):
            raise ProjectDeletedError(f"Project {project} was deleted in Label Studio.") from error
        raise UserError("It was deleted in Label Studio.") from error


def _exists(get: Callable[[], object]) -> bool:
    try:
        get()
    except ApiError as error:
        return error.status_code != 404
    return True


def task_number(task: Task) -> int:
    """The number that Label Studio knows a task by.

    Raises:
        UserError: it has none.
    """
    number = task.get("id")
    if not isinstance(number, int):
        raise UserError('A task has no number as its "id": send tasks of Label Studio.')
    return number
