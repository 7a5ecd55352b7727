"""The objects of a stack's slices in a file, slice by slice as they are found.

The first line tells how they are made, each further line holds the objects of one slice, and the
last one tells that the slices have been linked. Each is JSON:

    {"samlet": {"model": ..., "weights": ..., "precision": ..., "settings": ..., "image": ...}}
    {"annotations": [{"segmentation": ..., "area": ..., "bbox": ..., "score": ...}, ...]}
    {"linked": "z"}
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from samlet.errors import UserError
from samlet.outputs.coco import to_annotation
from samlet.utils.files import atomic_path, explain_write_errors

SUFFIX = ".slices.jsonl"


class JournalState(NamedTuple):
    """What a journal holds.

    Attributes:
        info: how the objects are made.
        slices: number of finished slices.
        objects: number of their objects.
        linked: the axis along which they have been linked; None if they have not been.
        size: of the valid lines, in bytes; what follows was cut short by an interruption.
    """

    info: dict[str, Any]
    slices: int
    objects: int
    linked: str | None
    size: int


class SliceJournal:
    """Writes and reads the file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> JournalState | None:
        """What it holds; None if it does not exist.

        Raises:
            UserError: it exists, but samlet has not written it, or it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                first = file.readline()
                info = json.loads(first)["samlet"] if first.endswith(b"\n") else None
                if not isinstance(info, dict):
                    raise ValueError("no header")
                state = JournalState(info, 0, 0, None, len(first))
                for line in file:
                    entry = _parse(line)
                    if entry is None:
                        break
                    size = state.size + len(line)
                    if "annotations" in entry:
                        objects = state.objects + len(entry["annotations"])
                        state = JournalState(info, state.slices + 1, objects, None, size)
                    else:
                        state = state._replace(linked=entry.get("linked"), size=size)
                return state
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.path} exists, but is not what samlet writes for a stack: move it away, or "
                "choose another --out."
            ) from error

    def start(self, info: Mapping[str, Any]) -> None:
        """Begin anew, in place of what was there.

        Raises:
            UserError: it cannot be written.
        """
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps({"samlet": info}) + "\n", encoding="utf-8")

    def resume(self, state: JournalState) -> None:
        """Cut off what an interruption has left unfinished.

        Raises:
            UserError: it cannot be written.
        """
        with explain_write_errors(self.path, self.path.parent):
            os.truncate(self.path, state.size)

    def append(self, records: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> None:
        """Add the objects of the next slice, of size (H, W); they are on disk afterwards.

        Raises:
            UserError: it cannot be written.
        """
        self._write({"annotations": [to_annotation(record, size) for record in records]})

    def set_linked(self, axis: str) -> None:
        """Note that the slices have been linked, and all results are written.

        Raises:
            UserError: it cannot be written.
        """
        self._write({"linked": axis})

    def slices(self) -> Iterator[list[dict[str, Any]]]:
        """The objects of one slice after another."""
        with self.path.open("rb") as file:
            for line in file:
                entry = _parse(line) or {}
                if "annotations" in entry:
                    yield entry["annotations"]

    def _write(self, entry: dict[str, Any]) -> None:
        with (
            explain_write_errors(self.path, self.path.parent),
            self.path.open("a", encoding="utf-8") as file,
        ):
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _parse(line: bytes) -> dict[str, Any] | None:
    """A line's content; None if it was cut short."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
