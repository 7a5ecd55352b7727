"""One training at a time in the folder of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from samlet.errors import UserError

LOCK = "run.lock"


@contextmanager
def run_lock(out: Path) -> Iterator[None]:
    """Keep a run's folder from other trainings; the system lets go of it if this one is killed.

    Two that resume from the same state, as after a job was queued twice, would write over each
    other's states and logs.

    Args:
        out: the folder; made if it is not there.

    Raises:
        UserError: another training is at work in it.
    """
    lock = FileLock(out / LOCK, timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"Another training is at work in {out}: wait until it ends, or choose another --out. "
            f"If there is none, remove {out / LOCK}, which was left on a file system without locks."
        ) from error
    except (OSError, NotImplementedError):
        # Some file systems of clusters have no locks; and what cannot be written is told later.
        yield
        return
    try:
        yield
    finally:
        lock.release()
