"""Locks between processes, where the file system has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def file_lock(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock that the system lets go of if this process is killed.

    Some file systems of clusters have no locks, and where nothing can be written, nothing needs
    one: then there is none.

    Args:
        path: of the file; its folder is made if it is not there.
        timeout: seconds to wait for it; negative for as long as it takes.

    Raises:
        filelock.Timeout: another process holds it still.
    """
    lock = FileLock(path, timeout=timeout)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()
