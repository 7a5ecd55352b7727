"""The server: one process, several threads."""

import os
import socket
import sys
from typing import Any

from flask import Flask

from samlet.errors import UserError
from samlet_labelstudio.server.access import listening_on
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings

THREADS = 16
RESERVED_THREADS = 4
"""Threads that never wait for masks, so that /health and /setup are answered at once."""


def make_app(settings: Settings, threads: int = THREADS) -> Flask:
    """Make the application, and begin to load its model."""
    service = Service(settings)
    service.warm_up()
    return create_app(service, threads - RESERVED_THREADS)


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
            # In the worker: threads and models do not survive a fork.
            return make_app(settings)

    Application().run()
