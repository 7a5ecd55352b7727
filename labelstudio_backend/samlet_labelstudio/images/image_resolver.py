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
from samlet.errors import UserError
from samlet_labelstudio.images.fetching import fetch
from samlet_labelstudio.settings import Settings

FRESH_SECONDS = 600
"""For so long a URL is taken to mean the same image."""
REMEMBERED = 10_000


@dataclass(frozen=True)
class Picture:
    """An image that may not have been read yet.

    Attributes:
        hash: SHA-256 of its file.
        read: gives it as RGB uint8, H x W x 3; raises UserError if it cannot.
    """

    hash: str
    read: Callable[[], np.ndarray]


def open_file(path: Path, max_pixels: int) -> Picture:
    """A picture of a file on this machine.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}. Check the file.") from error
    found = hashlib.sha256(content).hexdigest()
    return Picture(found, lambda: images.read(path, content=content, max_pixels=max_pixels))


class Pictures:
    """Opens the images of tasks; safe to use from any number of threads.

    Args:
        settings: see `samlet_labelstudio.images.fetching.fetch`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hashes: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, url: str, task_id: Any) -> Picture:
        """Tell which image a URL means; it is fetched only if that is not known.

        Raises:
            UserError: see `samlet_labelstudio.images.fetching.fetch`.
        """
        with self._lock:
            known, seen = self._hashes.get(url, ("", 0.0))
        if known and time.monotonic() - seen < FRESH_SECONDS:
            return Picture(known, lambda: self._decoded(fetch(url, task_id, self._settings), url))
        content = fetch(url, task_id, self._settings)
        found = hashlib.sha256(content).hexdigest()
        if url.startswith("data:"):
            # It holds the image itself: there is nothing to save, and it is long.
            return Picture(found, lambda: self._decoded(content, url))
        with self._lock:
            self._hashes[url] = (found, time.monotonic())
            self._hashes.move_to_end(url)
            while len(self._hashes) > REMEMBERED:
                self._hashes.popitem(last=False)
        return Picture(found, lambda: self._decoded(content, url))

    def _decoded(self, content: bytes, url: str) -> np.ndarray:
        name = url.partition("?")[0].rpartition("/")[2][-100:] or "The image"
        if url.startswith("data:"):
            name = "The task's data URI"
        return images.read(name, content=content, max_pixels=self._settings.max_pixels)
