"""The backend's own page: what it does, how far it is, what went wrong, and a button to stop it."""

import hmac
import secrets

from flask import Flask, Response, jsonify, redirect, render_template_string, request
from werkzeug.wrappers import Response as AnyResponse

from samlet.utils.messages import format_duration
from samlet_labelstudio.server.access import RefusedError, is_for_browser
from samlet_labelstudio.server.request_queue import RequestQueue
from samlet_labelstudio.service import Service
from samlet_labelstudio.service.background import BatchProgress

REFRESH_SECONDS = 5
HEADERS = {
    # No other page may show it in a frame, and trick somebody into pressing its button.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="{{ refresh }}">
<title>samlet</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
         border-bottom: 1px solid #ddd }
progress { width: 12rem }
pre { background: #f4f4f4; padding: .8rem; font-size: 13px; white-space: pre-wrap }
.error { color: #a4161a }
</style>
</head>
<body>
<h1>samlet</h1>
<p>Model {{ model }}. Requests for masks: {{ working }} in work, {{ waiting }} waiting.
{% if label_studio %}Label Studio: <a href="{{ label_studio }}">{{ label_studio }}</a>.{% endif %}
</p>
<h2>Training</h2>
{% if training %}
<p>Project {{ training.project }}: {{ training }}.
<progress max="{{ training.steps }}" value="{{ training.step }}"></progress></p>
<form method="post" action="training/stop">
<input type="hidden" name="token" value="{{ token }}">
<button>Stop the training</button>
</form>
{% else %}<p>None is running.</p>{% endif %}
<h2>Pre-annotation in the background</h2>
{% for batch in batches %}
<p>Project {{ batch.project }}: {{ batch.done }} of {{ batch.total }} tasks{{ left(batch) }}.
<progress max="{{ batch.total }}" value="{{ batch.done }}"></progress></p>
{% else %}<p>None is running.</p>{% endfor %}
<h2>Projects</h2>
<table>
<tr><th>project</th><th>model</th><th>last training</th></tr>
{% for number, version, outcome in projects %}
<tr><td>{{ number }}</td><td>{{ version }}</td>
<td{% if outcome and outcome.is_error %} class="error"{% endif %}>
{% if outcome %}{{ outcome.date }}: {{ outcome.message }}{% endif %}</td></tr>
{% else %}<tr><td colspan="3">None has been connected yet.</td></tr>{% endfor %}
</table>
<h2>Last error</h2>
<p{% if problem %} class="error"{% endif %}>{{ problem or "None since the start." }}</p>
<h2>Log</h2>
<pre>{% for line in log %}{{ line.text }}
{% endfor %}</pre>
</body>
</html>
"""


def add_to(app: Flask, service: Service, queue: RequestQueue) -> None:
    """Add the page, at /, and its button to an application.

    Args:
        app: which checks access, see `samlet_labelstudio.server.access`.
        service: that the page is about.
        queue: of requests for masks.
    """
    # Other pages can send the form as well, but cannot read this.
    token = secrets.token_urlsafe(16)

    @app.route("/")
    def page() -> Response | tuple[str, int, dict[str, str]]:
        if not is_for_browser(request):
            return jsonify({"status": "UP", "model_class": app.config["MODEL_CLASS"]})
        text = render_template_string(
            PAGE,
            refresh=REFRESH_SECONDS,
            token=token,
            model=service.models.default,
            label_studio=service.settings.label_studio_host or service.settings.label_studio_url,
            working=queue.working,
            waiting=queue.waiting,
            training=service.trainer.progress(),
            batches=service.background.progress(),
            left=_time_left,
            projects=[
                (number or "0", service.models.version_of(number), service.trainer.outcome(number))
                for number in service.projects()
            ],
            problem=service.recent_log.last_problem(),
            log=service.recent_log.lines(),
        )
        return text, 200, HEADERS

    @app.route("/training/stop", methods=["POST"])
    def stop() -> AnyResponse:
        if not hmac.compare_digest(request.form.get("token", "").encode(), token.encode()):
            raise RefusedError(
                403,
                "The request to stop is not from the backend's own page: reload that, and stop.",
            )
        service.trainer.stop()
        return redirect("../", 303)


def _time_left(batch: BatchProgress) -> str:
    if not batch.done:
        return ""
    left = (batch.total - batch.done) * batch.seconds / batch.done
    return f", about {format_duration(left)} left"
