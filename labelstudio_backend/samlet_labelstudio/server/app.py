"""Label Studio's ML backend protocol over HTTP: every answer is JSON, errors too.

https://labelstud.io/guide/ml_create; Label Studio waits 1 s for /health, 3 s for /setup, and 100 s
for /predict.
"""

import logging
import threading
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from samlet.errors import UserError
from samlet_labelstudio.ml_backend.backend import SamletBackend
from samlet_labelstudio.server import access
from samlet_labelstudio.service import Service

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 100_000_000
"""Of a request: brush strokes and tasks with their predictions are long."""


def create_app(service: Service, most_at_once: int) -> Flask:
    """Make the WSGI application.

    Args:
        service: does the work.
        most_at_once: requests for masks that may wait; more are told to come again, so that there
            is always a thread left for /health and /setup.
    """
    app = Flask("samlet_labelstudio")
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    places = threading.BoundedSemaphore(most_at_once)

    @app.before_request
    def check() -> None:
        access.check(request, service.settings)

    @app.route("/")
    @app.route("/health")
    def health() -> Response:
        return jsonify({"status": "UP", "model_class": SamletBackend.__name__})

    @app.route("/setup", methods=["POST"])
    def setup() -> Response:
        body = _body()
        project = _project(body)
        service.set_extra_params(project, body.get("extra_params"))
        backend = SamletBackend(project, _config(body, "schema"), service)
        return jsonify({"model_version": str(backend.model_version)})

    @app.route("/predict", methods=["POST"])
    def predict() -> Response:
        body = _body()
        tasks, context = _tasks(body), _context(body)
        backend = SamletBackend(_project(body), _config(body, "label_config"), service)
        if not places.acquire(blocking=False):
            raise Busy
        try:
            results = backend.predict(tasks, context=context)
        finally:
            places.release()
        return jsonify({"results": results, "model_version": str(backend.model_version)})

    @app.route("/webhook", methods=["POST"])
    def webhook() -> Response:
        body = _body()
        event, project = body.get("action"), body.get("project")
        if not isinstance(event, str) or not isinstance(project, Mapping):
            raise UserError('The webhook has no "action" and "project": send Label Studio\'s own.')
        backend = SamletBackend(str(project.get("id", "")), None, service)
        return jsonify(backend.fit(event, body))

    @app.route("/versions", methods=["GET", "POST"])
    def versions() -> Response:
        # Label Studio asks without naming a project, label-studio-ml's clients with one.
        project = _project(_body()) if request.method == "POST" else ""
        names = [version.name for version in service.versions.all(project)]
        return jsonify({"versions": [service.settings.model, *names]})

    @app.errorhandler(UserError)
    def mistaken(error: UserError) -> tuple[Response, int]:
        log.warning("%s: %s", request.path, error)
        return _failed(str(error), 400)

    @app.errorhandler(access.RefusedError)
    def not_let_in(error: access.RefusedError) -> tuple[Response, int]:
        log.warning("%s: %s", request.path, error)
        answer, status = _failed(str(error), error.status)
        if status == 401:
            answer.headers["WWW-Authenticate"] = 'Basic realm="samlet"'
        return answer, status

    @app.errorhandler(Busy)
    def busy(error: Busy) -> tuple[Response, int]:
        return _failed(f"The backend is busy with {most_at_once} requests: try again soon.", 503)

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[Response, int]:
        return _failed(f"{request.method} {request.path}: {error.description}", error.code or 500)

    @app.errorhandler(Exception)
    def broken(error: Exception) -> tuple[Response, int]:
        log.exception("%s failed", request.path)
        name = type(error).__name__
        return _failed(f"The backend failed ({name}): its log says where. Please report it.", 500)

    return app


class Busy(Exception):  # noqa: N818
    """All places are taken."""


def _failed(sentence: str, status: int) -> tuple[Response, int]:
    # Label Studio shows "detail" or "error", depending on where it asks.
    return jsonify({"error": sentence, "detail": sentence}), status


def _body() -> Mapping[str, Any]:
    access.check_json(request)
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        body = None
    if not isinstance(body, dict):
        raise UserError("The request's body is not a JSON object: send what Label Studio sends.")
    return body


def _project(body: Mapping[str, Any]) -> str:
    # "3.1700000000": the project's number, and when it was made.
    return str(body.get("project") or "").partition(".")[0]


def _config(body: Mapping[str, Any], name: str) -> str:
    text = body.get(name)
    if not isinstance(text, str) or not text:
        raise UserError(f'The request has no labeling config in "{name}": send the project\'s XML.')
    return text


def _tasks(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    tasks = body.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise UserError(
            'The request\'s "tasks" are not a list of objects: send Label Studio tasks.'
        )
    return tasks


def _context(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    params = body.get("params") or {}
    context = params.get("context") if isinstance(params, dict) else params
    if not isinstance(context, dict | None) or not isinstance(params, dict):
        raise UserError(
            'The request\'s "params" or their "context" are not objects: leave them out.'
        )
    return context
