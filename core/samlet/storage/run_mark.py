"""A file that tells that a run on many machines is writing into a folder."""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from samlet.errors import UserError
from samlet.storage.locations import Location
from samlet.storage.staging import exists, staged_files
from samlet.utils.files import atomic_path

NAME = ".samlet-run.json"
RENEW_S = 60.0
"""Seconds after which the mark is renewed."""
ABANDONED_S = 600.0
"""Seconds without renewal after which a mark is left over from a run that was killed."""


@contextmanager
def marked_run(folder: Location) -> Iterator[str]:
    """Hold a folder of results for this run; two at once would do all work twice.

    Args:
        folder: which is made if necessary.

    Yields:
        what `check_mark` looks for on other machines.

    Raises:
        UserError: another run has it, or it cannot be written to.
    """
    own: dict[str, Any] = {
        "run": secrets.token_hex(8),
        "host": socket.gethostname(),
        "process": os.getpid(),
    }
    other = _read(folder)
    if other is not None and _is_running(other):
        raise _taken(folder, other)
    _write(folder, own)
    # Of two that came at the same time, the last to write has it.
    if (_read(folder) or {}).get("run") != own["run"]:
        raise _taken(folder, other or {})
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEW_S):
            # What is wrong with the place, the workers report as well.
            with suppress(UserError):
                _write(folder, own)

    renewing = threading.Thread(target=renew, name="samlet-run-mark", daemon=True)
    renewing.start()
    try:
        yield own["run"]
    finally:
        ended.set()
        renewing.join()
        with suppress(UserError), staged_files(folder, [NAME]) as here:
            (here / NAME).unlink(missing_ok=True)


def check_mark(folder: Location, run: str) -> None:
    """Make sure that this machine sees the folder that the run holds.

    Raises:
        UserError: it does not.
    """
    if (_read(folder) or {}).get("run") != run:
        raise UserError(
            f"{folder} on {socket.gethostname()} is not the same folder as where this run was "
            "started: give a folder that all machines share, or a URL such as s3://bucket/folder."
        )


def _read(folder: Location) -> dict[str, Any] | None:
    with staged_files(folder, [NAME]) as here:
        try:
            found = json.loads((here / NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
    return found if isinstance(found, dict) else None


def _write(folder: Location, own: dict[str, Any]) -> None:
    with staged_files(folder, []) as here, atomic_path(here / NAME) as temporary:
        temporary.write_text(json.dumps({**own, "renewed": time.time()}), encoding="utf-8")


def _is_running(mark: dict[str, Any]) -> bool:
    process, renewed = mark.get("process"), mark.get("renewed")
    # On Windows the question would end the process.
    if mark.get("host") == socket.gethostname() and isinstance(process, int) and os.name != "nt":
        return _is_other_process(process)
    return isinstance(renewed, float) and time.time() - renewed < ABANDONED_S


def _is_other_process(number: int) -> bool:
    # Of a container that was started again, this process may have the number of the former one.
    if number == os.getpid():
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _taken(folder: Location, mark: dict[str, Any]) -> UserError:
    return UserError(
        f"Another run (process {mark.get('process')} on {mark.get('host')}) writes into {folder}: "
        f"wait for it, or choose another --out; if it is no longer there, delete {folder / NAME}."
    )


def check_visible(file: Location) -> None:
    """Make sure that this machine sees a file that the run works on.

    Raises:
        UserError: it does not.
    """
    if not exists(str(file)):
        raise UserError(
            f"{file} does not exist on {socket.gethostname()}: give images in a folder that all "
            "machines share, or by URL."
        )
