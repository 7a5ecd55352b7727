"""Labels that are saved by themselves, and never over what another program has written."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from napari.layers import Labels

from samlet.errors import UserError
from samlet_napari.labels.labels_file import SUFFIX, write_labels
from samlet_napari.labels.object_metadata import KEY
from samlet_napari.layers.layer_data import full_resolution


class _Snapshot(NamedTuple):
    """A layer at one moment: pixels, what napari saves beside them, and a hash."""

    data: np.ndarray
    meta: dict[str, Any]
    digest: str


class LabelsFile:
    """The file of a labels layer.

    A file that another program has changed since it was read or written here is kept under another
    name before the layer is saved.

    Args:
        layer: as the file has it, or empty if there is none.
        path: the file.
        signature: of the file before it was read, see `file_signature`.
    """

    def __init__(self, layer: Labels, path: Path, signature: tuple[int, ...] | None) -> None:
        self.path = path
        self._layer = layer
        self._saved = self._digest(self._prompts())
        self._signature = signature
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="samlet-save")
        self._writing: Future[str] | None = None

    @property
    def has_content(self) -> bool:
        """Whether there is a file, or any object."""
        has_objects = bool(np.any(full_resolution(self._layer)))
        return has_objects or self.path.exists()

    @property
    def is_writing(self) -> bool:
        """Whether what was started is not finished yet."""
        return self._writing is not None and not self._writing.done()

    def start(self) -> bool:
        """Begin to save what has changed in a thread; return whether anything has.

        Not while it is writing. To be called in the GUI thread, as the layer is read.
        """
        snapshot = self._take()
        if snapshot is not None:
            self._writing = self._pool.submit(self._write, snapshot)
        return snapshot is not None

    def finish(self) -> str:
        """Wait for what was started.

        Returns:
            a sentence on what another program has written meanwhile; "" if it has not.

        Raises:
            UserError: the labels could not be saved; `start` will try again.
        """
        writing, self._writing = self._writing, None
        return "" if writing is None else writing.result()

    def save(self, even_empty: bool = False) -> str:
        """Save what has changed, here and now.

        Args:
            even_empty: whether a file is written if nothing has changed and there is none.

        Returns:
            as `finish`.

        Raises:
            UserError: the labels cannot be saved.
        """
        message = ""
        # Its reason may be gone, and is raised below if it is not.
        with suppress(UserError):
            message = self.finish()
        snapshot = self._take(even_unchanged=even_empty and not self.path.exists())
        return message if snapshot is None else self._write(snapshot) or message

    def close(self) -> None:
        """End the thread, once what it writes is written."""
        self._pool.shutdown()

    def _take(self, even_unchanged: bool = False) -> _Snapshot | None:
        """What is to be saved; None if nothing has changed."""
        prompts = self._prompts()
        digest = self._digest(prompts)
        if digest == self._saved and not even_unchanged:
            return None
        _, meta, _ = self._layer.as_layer_data_tuple()
        # The layer's own may change while it is written.
        meta["metadata"] = {KEY: json.loads(prompts)}
        return _Snapshot(np.array(full_resolution(self._layer)), meta, digest)

    def _prompts(self) -> str:
        return json.dumps(self._layer.metadata.get(KEY) or {})

    def _digest(self, prompts: str) -> str:
        digest = xxhash.xxh128(prompts.encode())
        data = np.ascontiguousarray(full_resolution(self._layer))
        digest.update(data.reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def _write(self, snapshot: _Snapshot) -> str:
        message = ""
        if self._signature != file_signature(self.path) and self.path.exists():
            kept = _free_name(self.path)
            _keep(self.path, kept)
            message = (
                f"{self.path.name} was changed by another program: its labels are kept in "
                f"{kept.name}, and yours are in {self.path.name}."
            )
        write_labels(self.path, snapshot.data, snapshot.meta)
        self._signature = file_signature(self.path)
        self._saved = snapshot.digest
        return message


def file_signature(path: Path) -> tuple[int, ...] | None:
    """Changes whenever a file is written or replaced; None if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _free_name(path: Path) -> Path:
    stem, number = path.name[: -len(SUFFIX)], 1
    while (free := path.with_name(f"{stem}.changed-{number}{SUFFIX}")).exists():
        number += 1
    return free


def _keep(path: Path, kept: Path) -> None:
    try:
        path.rename(kept)
    except OSError as error:
        raise UserError(
            f"{path} was changed by another program and cannot be renamed ({error.strerror}): "
            "move it away; your labels are saved then."
        ) from error
