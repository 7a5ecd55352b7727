"""One training at a time in the folder of a run."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import Timeout

from samlet.errors import UserError
from samlet.utils.locks import file_lock

LOCK = "run.lock"


@contextmanager
def run_lock(out: Path) -> Iterator[None]:
    """Keep a run's folder from other trainings.

    Two that resume from the same state, as after a job was queued twice, would write over each
    other's states and logs.

    Args:
        out: the folder; made if it is not there.

    Raises:
        UserError: another training is at work in it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(out / LOCK, timeout=0))
        except Timeout as error:
            raise UserError(
                f"Another training is at work in {out}: wait until it ends, or choose another "
                f"--out. If there is none, remove {out / LOCK}, which was left on a file system "
                "without locks."
            ) from error
        yield
