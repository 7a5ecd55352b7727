"""Label Studio's ML backend protocol over HTTP: every response is JSON, errors too.

https://labelstud.io/guide/ml_create; Label Studio waits 1 s for /health, 3 s for /setup, and 100 s
for /predict.
"""

import logging
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from samlet.errors import UserError
from samlet_labelstudio.server import access, request_body, status_page
from samlet_labelstudio.server.request_queue import BusyError, RequestQueue
from samlet_labelstudio.service import Service

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 100_000_000
"""Brush strokes, and tasks with their predictions, are long."""
WAIT_SECONDS = 60.0
"""What a request waits for its turn, of the 100 s that Label Studio waits."""
MAX_REASON = 500
"""Characters in the first line of a response."""
MODEL_CLASS = "SamletBackend"
"""What /health calls the backend, here as under label-studio-ml's own server."""


def create_app(service: Service, max_predictions: int, max_waiting: int = 0) -> Flask:
    """Make the WSGI application.

    Args:
        service: does the work.
        max_predictions: requests for masks that may be in work at once.
        max_waiting: further ones that may wait for these, in the order in which they came. What is
            beyond, or waits for more than `WAIT_SECONDS`, is refused with status 503, so that there
            is always a thread left for /health and /setup.
    """
    app = Flask("samlet_labelstudio")
    app.config.update(MAX_CONTENT_LENGTH=MAX_REQUEST_BYTES, MODEL_CLASS=MODEL_CLASS)
    queue = RequestQueue(max_predictions, max_waiting)
    status_page.add_to(app, service, queue)

    @app.before_request
    def check_access() -> None:
        access.check(request, service.settings)

    @app.route("/health")
    def health() -> Response:
        return jsonify({"status": "UP", "model_class": MODEL_CLASS})

    @app.route("/setup", methods=["POST"])
    def setup() -> Response:
        body = _body()
        project = request_body.project_number(body)
        service.set_extra_params(project, body.get("extra_params"))
        service.check_config(request_body.label_config(body, "schema"))
        return jsonify({"model_version": service.model_status(project)})

    @app.route("/predict", methods=["POST"])
    def predict() -> Response:
        body = _body()
        tasks, drawn = request_body.tasks(body), request_body.drawn_regions(body)
        context = service.context(
            request_body.project_number(body), request_body.label_config(body, "label_config")
        )
        version = service.models.version_of(context.project)
        with queue.turn(WAIT_SECONDS):
            predictions = service.predict(context, tasks, drawn)
        return jsonify({"results": predictions, "model_version": version})

    @app.route("/webhook", methods=["POST"])
    def webhook() -> Response:
        event, project = request_body.webhook_event(_body())
        return jsonify({"status": service.trainer.handle_event(project, event)})

    @app.route("/versions", methods=["GET", "POST"])
    def versions() -> Response:
        # Label Studio names no project here, label-studio-ml's clients do.
        project = request_body.project_number(_body()) if request.method == "POST" else ""
        return jsonify({"versions": service.models.versions_of(project)})

    @app.errorhandler(UserError)
    def user_error(error: UserError) -> Response:
        log.warning("%s: %s", request.path, error)
        return _error(str(error), 400)

    @app.errorhandler(access.RefusedError)
    def access_refused(error: access.RefusedError) -> Response:
        log.warning("%s: %s", request.path, error)
        response = _error(str(error), error.status)
        if error.status == 401:
            response.headers["WWW-Authenticate"] = 'Basic realm="samlet"'
        return response

    @app.errorhandler(BusyError)
    def busy(error: BusyError) -> Response:
        log.warning("%s: %s", request.path, error)
        return _error(str(error), 503)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        return _error(f"{request.method} {request.path}: {error.description}", error.code or 500)

    @app.errorhandler(Exception)
    def unexpected_error(error: Exception) -> Response:
        log.exception("%s failed", request.path)
        name = type(error).__name__
        return _error(
            f"The backend failed ({name}): its log has the details. Please report it.", 500
        )

    return app


def _body() -> Mapping[str, Any]:
    access.check_json(request)
    return request_body.json_object(request)


def _error(message: str, status: int) -> Response:
    response = jsonify({"error": message, "detail": message})
    # Of a response with an error Label Studio reads no more than the reason in its first line, and
    # shows that in its dialog.
    reason = " ".join(message.split()).encode("ascii", "replace").decode()
    response.status = f"{status} {reason[:MAX_REASON]}"
    return response
