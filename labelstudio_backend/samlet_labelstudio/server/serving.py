"""The server: one process, several threads."""

import os
import signal
import socket
import sys
import threading
from typing import Any

from flask import Flask

from samlet.errors import UserError
from samlet_labelstudio.server.access import listening_on
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings

MAX_PREDICTIONS = 12
"""Requests for masks in work at once."""
MAX_WAITING = 240
"""Further ones that wait for their turn: threads are cheap, and Label Studio does not try again."""
RESERVED_THREADS = 4
"""Threads that never wait for masks, so that /health and /setup are answered at once."""
GRACEFUL_SECONDS = 10
"""After which gunicorn kills a server that was asked to stop; see `SHUTDOWN_SECONDS`."""


def make_app(service: Service) -> Flask:
    """Make the application; its model begins to load, and work of before is resumed."""
    service.recent_log.attach()
    service.warm_up()
    service.resume()
    return create_app(service, MAX_PREDICTIONS, MAX_WAITING)


def check_listening(settings: Settings, host: str, port: int) -> Settings:
    """Check where a server is to listen.

    Args:
        settings: see there.
        host: address to listen on; 0.0.0.0 for all.
        port: to listen on.

    Returns:
        The settings to serve with.

    Raises:
        UserError: the port is taken, or may not be used; or other machines can reach it, and there
            is no password.
    """
    settings = listening_on(settings, host)
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UserError(
            f"Cannot listen on {host}, port {port} ({reason}): choose another with --port, or stop "
            "what runs there."
        ) from error
    return settings


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until stopped.

    Args:
        settings: from `check_listening`.
        host: address to listen on; 0.0.0.0 for all.
        port: to listen on.
    """
    if sys.platform == "win32":
        # gunicorn needs fork.
        make_app(Service(settings)).run(host, port, threaded=True)
        return
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self) -> None:
            for name, value in {
                "bind": f"{host}:{port}",
                "worker_class": "gthread",
                "workers": 1,
                "threads": MAX_PREDICTIONS + MAX_WAITING + RESERVED_THREADS,
                # A worker that encodes is not dead; Label Studio gives up after 100 s.
                "timeout": 120,
                "graceful_timeout": GRACEFUL_SECONDS,
                "loglevel": "warning",
            }.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            # In the worker: threads and models do not survive a fork.
            service = Service(settings)
            _shut_down_at_signals(service)
            return make_app(service)

    Application().run()


def _shut_down_at_signals(service: Service) -> None:
    """Shut the service down when gunicorn's worker begins to end, which waits for its requests.

    At the exit of the process it would be too late: gunicorn kills workers that are still busy.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        gunicorns = signal.getsignal(number)

        def handle(number: int, frame: Any, before: Any = gunicorns) -> None:
            # In a thread, since it may need a lock that is held here.
            threading.Thread(target=service.shut_down).start()
            if callable(before):
                before(number, frame)

        signal.signal(number, handle)
