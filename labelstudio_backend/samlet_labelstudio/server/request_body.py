"""Fields of the JSON that Label Studio sends; what is missing or wrong is named."""

from collections.abc import Mapping
from typing import Any

from flask import Request

from samlet.errors import UserError

Body = Mapping[str, Any]


def json_object(request: Request) -> Body:
    """The body of a request.

    Raises:
        UserError: not a JSON object.
    """
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        body = None
    if not isinstance(body, dict):
        raise UserError("The request's body is not a JSON object: send what Label Studio sends.")
    return body


def project_number(body: Body) -> str:
    """The project's number, or "" if there is none."""
    # "3.1700000000": the number, and when the project was made.
    return str(body.get("project") or "").partition(".")[0]


def label_config(body: Body, name: str) -> str:
    """The labeling config in the field of this name, XML.

    Raises:
        UserError: there is none.
    """
    text = body.get(name)
    if not isinstance(text, str) or not text:
        raise UserError(f'The request has no labeling config in "{name}": send the project\'s XML.')
    return text


def tasks(body: Body) -> list[Mapping[str, Any]]:
    """The tasks of a request.

    Raises:
        UserError: not a list of objects.
    """
    found = body.get("tasks")
    if not isinstance(found, list) or not all(isinstance(task, dict) for task in found):
        raise UserError(
            'The request\'s "tasks" are not a list of objects: send Label Studio tasks.'
        )
    return found


def drawn_regions(body: Body) -> list[Any] | None:
    """What an annotator has drawn with smart tools: "result" of the context; None without any.

    Raises:
        UserError: "params" or their "context" are not objects.
    """
    params = body.get("params") or {}
    context = params.get("context") if isinstance(params, dict) else params
    if not isinstance(context, dict | None) or not isinstance(params, dict):
        raise UserError(
            'The request\'s "params" or their "context" are not objects: leave them out.'
        )
    return context.get("result") if context else None


def webhook_event(body: Body) -> tuple[str, str]:
    """The event that a webhook reports, and the number of its project.

    Raises:
        UserError: either is missing.
    """
    event, project = body.get("action"), body.get("project")
    if not isinstance(event, str) or not isinstance(project, Mapping):
        raise UserError('The webhook has no "action" and "project": send Label Studio\'s own.')
    return event, str(project.get("id", ""))
