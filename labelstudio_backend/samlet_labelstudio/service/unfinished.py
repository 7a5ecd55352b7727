"""Batches that a server has not finished, in files, so that its next start can resume them."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

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


class UnfinishedBatches:
    """The files, one per batch.

    Args:
        folder: made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, context: RequestContext, tasks: Sequence[Task]) -> Path | None:
        """Note a batch; None if the folder cannot be written, which its server has reported."""
        # Of unset values there is nothing to restore.
        params = {name: getattr(context.settings, name) for name in PER_PROJECT}
        batch = Unfinished(context.project, context.config_text, params, [*tasks])
        path = self._folder / f"{uuid4().hex}.json"
        with suppress(UserError, OSError):
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(asdict(batch)), encoding="utf-8")
            return path
        return None

    def take(self) -> Iterator[Unfinished]:
        """Read all and remove them: whoever resumes one notes it again."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                batch = Unfinished(**json.loads(path.read_text(encoding="utf-8")))
                path.unlink()
            except (OSError, ValueError, TypeError) as error:
                log.warning("The batch in %s cannot be resumed: %s.", path, error)
                continue
            yield batch
