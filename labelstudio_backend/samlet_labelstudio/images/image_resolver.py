"""Which image a task's URL means, without fetching it for every click."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samlet import images
from samlet.errors import ImageTooLargeError, UserError
from samlet_labelstudio.images.fetching import fetch
from samlet_labelstudio.settings import Settings

FRESH_SECONDS = 600
"""How long a URL is taken to mean the same image."""
MAX_CACHED_HASHES = 10_000


@dataclass(frozen=True)
class TaskImage:
    """An image that may not have been read yet.

    Attributes:
        hash: SHA-256 of its file.
        read: gives it as RGB uint8, H x W x 3; raises UserError if it cannot.
    """

    hash: str
    read: Callable[[], np.ndarray]


def open_file(path: Path, max_pixels: int) -> TaskImage:
    """The image in a file on this machine.

    Args:
        path: the file.
        max_pixels: images with more pixels are refused when they are read.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}. Check the file.") from error
    file_hash = hashlib.sha256(content).hexdigest()
    return TaskImage(file_hash, lambda: images.read(path, content=content, max_pixels=max_pixels))


class ImageResolver:
    """Finds the images of tasks; safe to use from any number of threads.

    Args:
        settings: see `samlet_labelstudio.images.fetching.fetch`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hashes: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def resolve(self, url: str, task_id: Any) -> TaskImage:
        """Find out which image a URL means; it is fetched only if its hash is not cached.

        Args:
            url: of a task.
            task_id: of the task.

        Raises:
            UserError: see `samlet_labelstudio.images.fetching.fetch`.
        """
        with self._lock:
            known, fetched = self._hashes.get(url, ("", 0.0))
        if known and time.monotonic() - fetched < FRESH_SECONDS:
            return TaskImage(known, lambda: self._decode(fetch(url, task_id, self._settings), url))
        content = fetch(url, task_id, self._settings)
        file_hash = hashlib.sha256(content).hexdigest()
        # A data URI is long, and holds the image itself: caching its hash would save nothing.
        if not url.startswith("data:"):
            self._remember(url, file_hash)
        return TaskImage(file_hash, lambda: self._decode(content, url))

    def _remember(self, url: str, file_hash: str) -> None:
        with self._lock:
            self._hashes[url] = (file_hash, time.monotonic())
            self._hashes.move_to_end(url)
            while len(self._hashes) > MAX_CACHED_HASHES:
                self._hashes.popitem(last=False)

    def _decode(self, content: bytes, url: str) -> np.ndarray:
        name = url.partition("?")[0].rpartition("/")[2][-100:] or "The image"
        if url.startswith("data:"):
            name = "The task's data URI"
        try:
            return images.read(name, content=content, max_pixels=self._settings.max_pixels)
        except ImageTooLargeError as error:
            remedy = "raise the limit with SAMLET_MAX_PIXELS"
            raise ImageTooLargeError(error.fault, remedy) from error
