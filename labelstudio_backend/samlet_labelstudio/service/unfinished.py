"""Batches that a server has not finished, in files, so that its next start can resume them."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from samlet.errors import UserError
from samlet.utils.files import atomic_path
from samlet_labelstudio.service.request_context import RequestContext, Task
from samlet_labelstudio.settings import PER_PROJECT

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unfinished:
    """A batch in the background.

    Attributes:
        project: its number.
        label_config: the labeling config, XML.
        extra_params: of the project's backend.
        tasks: all of the batch; those that are done have their prediction in Label Studio.
    """

    project: str
    label_config: str
    extra_params: dict[str, Any]
    tasks: list[Task]


class Note:
    """The file of a batch, and beside it a lock, which is held by the server that is at the batch.

    The lock ends with its process, so that the batches of a server that was killed can be told from
    those of another one that uses the same folder.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Acquired by the thread of a request, released by that of the batch.
        self._lock = FileLock(path.with_suffix(".lock"), thread_local=False)

    def take(self) -> bool:
        """Hold the lock; False if another server does, or the folder cannot be written."""
        try:
            self._lock.acquire(blocking=False)
        except (Timeout, OSError):
            return False
        return True

    def release(self) -> None:
        """Leave the batch to whoever takes it next."""
        self._lock.release()
        with suppress(OSError):
            Path(self._lock.lock_file).unlink()

    def remove(self) -> None:
        """Forget the batch."""
        with suppress(OSError):
            self.path.unlink()
        self.release()


class UnfinishedBatches:
    """The files, one per batch.

    Args:
        folder: made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, context: RequestContext, tasks: Sequence[Task]) -> Note | None:
        """Note a batch; None if the folder cannot be written, which its server has reported.

        The note is not taken.
        """
        # Of unset values there is nothing to restore.
        params = {name: getattr(context.settings, name) for name in PER_PROJECT}
        batch = Unfinished(context.project, context.config_text, params, [*tasks])
        path = self._folder / f"{uuid4().hex}.json"
        with suppress(UserError, OSError):
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(asdict(batch)), encoding="utf-8")
            return Note(path)
        return None

    def take(self) -> Iterator[Unfinished]:
        """Read those that no server is at, and remove them: whoever resumes one notes it again."""
        for path in sorted(self._folder.glob("*.json")):
            note = Note(path)
            if not note.take():
                continue
            try:
                batch = Unfinished(**json.loads(path.read_text(encoding="utf-8")))
            # Another server has taken it meanwhile.
            except FileNotFoundError:
                note.release()
                continue
            except (OSError, ValueError, TypeError) as error:
                log.warning("The batch in %s cannot be resumed: %s.", path, error)
                note.release()
                continue
            note.remove()
            yield batch
