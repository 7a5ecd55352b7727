"""Teacher embeddings on disk: written once in shards, tied to what they were made of."""

import hashlib
import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from samlet.errors import UserError
from samlet.utils.files import atomic_path
from samlet.utils.progress import print_status

SHARD_BYTES = 2**27
"""A shard is written whole, so this much work at most is lost when a run is killed."""

FORMAT = 1


def content_hash(content: bytes) -> str:
    """What ties an embedding to its image: SHA-256 of the file's bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One image whose embedding is on disk.

    Attributes:
        key: the image's name within its source.
        sha256: of its file.
        stamp: of its file, see `sources.Item`.
    """

    key: str
    sha256: str
    stamp: str


class EmbeddingStore:
    """The embeddings of one teacher at one input size.

    They are float16 arrays of N x C x h x w in `<rank>-<number>.npy`, each beside a `.json` with
    its entries. The folder's name holds the teacher's fingerprint, so that another teacher, or the
    same one with other weights, never meets them.

    Args:
        folder: for the embeddings of any teacher.
        teacher_id: the teacher's fingerprint, see `samlet.modeling.fingerprint`.
        image_size: the teacher's input size.
        shape: C, h, w.
    """

    def __init__(
        self, folder: Path, teacher_id: str, image_size: int, shape: tuple[int, int, int]
    ) -> None:
        self.folder = folder / f"{teacher_id}-{image_size}"
        self.shape = shape
        self._place: dict[str, tuple[str, int]] = {}
        self.entries: dict[str, Entry] = {}
        self._open = lru_cache(maxsize=128)(self._map)
        self.scan()

    @property
    def bytes_per_image(self) -> int:
        """Disk space of one embedding."""
        return int(np.prod(self.shape)) * 2

    def scan(self) -> None:
        """Read what is on disk, after another process wrote, too.

        A shard that is not whole, as a power cut leaves it, is removed.

        Raises:
            UserError: an index cannot be read, or is of another version.
        """
        for index in sorted(self.folder.glob("*.json")):
            entries = self._entries(index)
            if entries is None:
                print_status(f"{index} or its .npy is damaged: their images are embedded again.")
                index.unlink(missing_ok=True)
                index.with_suffix(".npy").unlink(missing_ok=True)
                continue
            for row, entry in enumerate(entries):
                self._place[entry.sha256] = (index.stem, row)
                self.entries[entry.key] = entry

    def _entries(self, index: Path) -> list[Entry] | None:
        """The entries of a shard; None if it is damaged."""
        try:
            facts = json.loads(index.read_text(encoding="utf-8"))
            entries = [Entry(*row) for row in facts["entries"]]
        except OSError as error:
            raise UserError(
                f"{index} cannot be read: {error.strerror}. Check its permissions."
            ) from error
        except (ValueError, KeyError, TypeError):
            return None
        if facts.get("format") != FORMAT:
            raise UserError(f"{index} is of another version of samlet: choose another folder.")
        try:
            array = np.load(index.with_suffix(".npy"), mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return None
        return entries if array.shape == (len(entries), *self.shape) else None

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._place

    def __len__(self) -> int:
        return len(self._place)

    def read(self, sha256: str) -> np.ndarray:
        """The embedding of an image: float16, C x h x w.

        Raises:
            KeyError: there is none of an image with that content.
            UserError: the shard is damaged.
        """
        shard, row = self._place[sha256]
        return np.array(self._open(shard)[row])

    def _map(self, shard: str) -> np.ndarray:
        path = self.folder / f"{shard}.npy"
        try:
            return np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} is damaged or missing: remove it and {shard}.json, and its images are "
                "embedded again."
            ) from error

    def write(
        self, embeddings: Iterable[tuple[Entry, np.ndarray]], rank: int = 0
    ) -> Generator[Entry, None, None]:
        """Write embeddings as they come, a shard at a time.

        Args:
            embeddings: entries with float16 arrays of C x h x w.
            rank: of this process, so that several write side by side.

        Yields:
            each entry, once it was taken.

        Raises:
            UserError: the disk is full or cannot be written.
        """
        capacity = max(1, SHARD_BYTES // self.bytes_per_image)
        number = 1 + max(
            (int(path.stem.split("-")[1]) for path in self.folder.glob(f"{rank:03d}-*.json")),
            default=-1,
        )
        rows: list[tuple[Entry, np.ndarray]] = []
        try:
            for pair in embeddings:
                rows.append(pair)
                yield pair[0]
                if len(rows) == capacity:
                    self._write_shard(f"{rank:03d}-{number:05d}", rows)
                    rows, number = [], number + 1
        finally:
            # Also when the caller stops early: what was computed is kept.
            if rows:
                self._write_shard(f"{rank:03d}-{number:05d}", rows)

    def _write_shard(self, name: str, rows: list[tuple[Entry, np.ndarray]]) -> None:
        with atomic_path(self.folder / f"{name}.npy") as path:
            np.save(path, np.stack([array for _, array in rows]))
        # The index comes last: a shard without one does not count.
        entries = [[e.key, e.sha256, e.stamp] for e, _ in rows]
        with atomic_path(self.folder / f"{name}.json") as path:
            path.write_text(json.dumps({"format": FORMAT, "entries": entries}), encoding="utf-8")
