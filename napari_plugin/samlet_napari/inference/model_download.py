"""Downloading a model piece by piece, so that it can be shown and stopped."""

import threading
from collections.abc import Generator
from concurrent.futures import Future, wait
from pathlib import Path

from rich.filesize import decimal

from samlet import checkpoints
from samlet.errors import UserError
from samlet_napari.inference.models import to_loadable

PROGRESS_SECONDS = 0.2
"""Between two reports on a download."""

Received = tuple[int, int | None]
"""Bytes that are here, and those of the whole file; None if not known."""


def download(name: str, stopped: threading.Event) -> Generator[Received, None, Path]:
    """Download a model's files, unless they are here.

    Args:
        name: any of `samlet_napari.inference.models.names`, or a checkpoint's file.
        stopped: ends the download once it is set. What has arrived is kept, and the next one
            resumes there.

    Yields:
        how much has arrived, a few times a second.

    Returns:
        the checkpoint's file.

    Raises:
        UserError: see `samlet.load`.
    """
    located = to_loadable(name)
    newest: Received | None = None
    future: Future[Path] = Future()

    def report(received: int, total: int | None) -> None:
        nonlocal newest
        if stopped.is_set():
            raise UserError(f"The download of {name} was stopped.")
        newest = received, total

    def run() -> None:
        try:
            future.set_result(checkpoints.loading.resolve_path(located, report))
        except BaseException as error:
            future.set_exception(error)

    # Of its own, since a server that has gone silent is noticed only after a minute.
    threading.Thread(target=run, name="download", daemon=True).start()
    while not future.done():
        wait([future], PROGRESS_SECONDS)
        if newest is not None:
            yield newest
    return future.result()


def describe(name: str, received: int, total: int | None) -> str:
    """A sentence on a download that goes on."""
    of_all = "" if total is None else f" of {decimal(total)}"
    return f"Downloading {name}: {decimal(received)}{of_all} ..."
