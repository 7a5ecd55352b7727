"""The server: one process, one model, several threads."""

import os
import socket
import sys
from typing import Any

from flask import Flask

from samlet.errors import UserError
from samlet_labelstudio.server.access import opened_to
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings

THREADS = 16
FREE_THREADS = 4
"""Threads that never wait for masks, so that /health and /setup are answered at once."""


def make_app(settings: Settings, threads: int = THREADS) -> Flask:
    """Make the application, and begin to load its model."""
    service = Service(settings)
    service.warm_up()
    return create_app(service, threads - FREE_THREADS)


def ready_to_serve(settings: Settings, host: str, port: int) -> Settings:
    """Check where a server is to listen.

    Args:
        settings: see there.
        host: address to listen on; 0.0.0.0 for all.
        port: of the same.

    Returns:
        the settings to serve with.

    Raises:
        UserError: the port is taken, or not ours to use; or other machines can reach it, and there
            is no password.
    """
    settings = opened_to(settings, host)
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
    """Answer until stopped.

    Args:
        settings: from `ready_to_serve`.
        host: address to listen on; 0.0.0.0 for all.
        port: of the same.
    """
    if sys.platform == "win32":
        # gunicorn needs fork.
        make_app(settings).run(host, port, threaded=True)
        return
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self) -> None:
            for name, value in {
                "bind": f"{host}:{port}",
                "worker_class": "gthread",
                "workers": 1,
                "threads": THREADS,
                # A worker that encodes is not dead; Label Studio gives up after 100 s.
                "timeout": 120,
                "graceful_timeout": 5,
                "loglevel": "warning",
            }.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            # Here, in the worker: threads and models do not survive a fork.
            return make_app(settings)

    Application().run()
