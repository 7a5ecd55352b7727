"""Connecting to a Ray cluster, or starting Ray on this machine alone."""

import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from samlet.errors import UserError

CONNECT_S = 15.0
"""Seconds in which an address has to answer."""
OBJECT_STORE_BYTES = 500_000_000
"""Memory that Ray may share between processes where we start it: it holds the few batches that
`samlet embed` has under way; the images and results of other commands go by files."""

_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[^:/\s]+):(?P<port>\d{1,5})")


@contextmanager
def connected(address: str, say: Callable[[str], None]) -> Iterator[None]:
    """Use a Ray cluster within a block.

    Args:
        address: HOST:PORT of the cluster's head; "auto" for the cluster that this machine belongs
            to, or else, as with "local", for Ray on this machine alone, started for the block.
        say: is told which it is.

    Raises:
        UserError: Ray is not installed, nobody answers there, or Ray or Python there is of another
            version.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--ray needs Ray: run `pip install 'samlet[ray]'` on every machine."
        ) from error

    if ray.is_initialized():
        yield
        return
    _check_reachable(address)
    _start(address, say)
    try:
        yield
    finally:
        ray.shutdown()


def _start(address: str, say: Callable[[str], None]) -> None:
    import ray

    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address == "local":
            raise ConnectionError
        ray.init(address=address, **quiet)
    except ConnectionError as error:
        if address not in ("auto", "local"):
            raise _refused(address, error) from error
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
        say("No Ray cluster: all workers run on this machine.")
    except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise _refused(address, error) from error


def _check_reachable(address: str) -> None:
    if address in ("auto", "local"):
        return
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise UserError(
            f"--ray takes auto, local, or the address of a cluster such as 10.0.0.1:6379, not "
            f"{address!r}: run the command on one of its machines."
        )
    try:
        # Ray itself would wait for longer, and end the process in the end.
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), CONNECT_S).close()
    except OSError as error:
        raise UserError(
            f"No Ray cluster answers at {address} ({error.strerror or error}): check the address, "
            "which `ray start --head` prints, and the network."
        ) from error


def _refused(address: str, error: Exception) -> UserError:
    text = str(error)
    if "ersion mismatch" in text:
        found = re.findall(r"(Ray|Python): (\S+)", text)
        listed = ", ".join(f"{name} {version}" for name, version in found)
        return UserError(
            f"The cluster at {address} has another version of Ray or Python ({listed}; the first "
            "are the cluster's): install the same on this machine."
        )
    reason = str(error.__cause__ or error).strip().partition("\n")[0]
    reason = reason.partition(". Last connection error: Traceback")[0]
    return UserError(
        f"The Ray cluster at {address} cannot be used ({reason}): check that `ray status` works "
        "on this machine, which has to be one of the cluster's."
    )
