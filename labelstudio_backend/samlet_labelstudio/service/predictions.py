"""Predictions that are written through Label Studio's API, each once."""

from collections.abc import Callable

from samlet.errors import UserError
from samlet_labelstudio.label_studio.client import connect, label_studio_errors
from samlet_labelstudio.service.preannotation import Preannotator
from samlet_labelstudio.service.request_context import Prediction, RequestContext, Task


def write_prediction(
    preannotator: Preannotator,
    context: RequestContext,
    task: Task,
    prediction: Prediction | None = None,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Store the prediction of a task in Label Studio, unless it has one of the same model.

    Args:
        preannotator: makes the prediction if it is needed.
        context: whose settings say where Label Studio is.
        task: see `Preannotator.preannotate`.
        prediction: None if it has yet to be made.
        progress: see `Preannotator.preannotate`.

    Raises:
        UserError: the task cannot be read, or Label Studio does not accept the prediction.
    """
    client, number = connect(context.settings), task_number(task)
    if prediction:
        version = prediction["model_version"]
    else:
        version = preannotator.models.version_of(context.project)
    with label_studio_errors(context.settings):
        existing = client.predictions.list(task=number)
    if any(each.model_version == version for each in existing):
        return
    prediction = prediction or preannotator.preannotate(context, task, progress=progress)
    with label_studio_errors(context.settings):
        client.predictions.create(
            task=number,
            result=prediction["result"],
            score=prediction["score"],
            model_version=prediction["model_version"],
        )


def task_number(task: Task) -> int:
    """The number that Label Studio knows a task by.

    Raises:
        UserError: it has none.
    """
    number = task.get("id")
    if not isinstance(number, int):
        raise UserError('A task has no number as its "id": send tasks of Label Studio.')
    return number
