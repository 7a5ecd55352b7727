"""A cache of embeddings, in memory and on disk, within limits, shared by threads."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from samlet.errors import UserError
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor
from samlet.predict.zoom import MAX_CACHED_ROIS
from samlet.utils.files import TEMPORARY_PREFIX
from samlet.utils.single_flight import SingleFlightCache

ABANDONED_S = 3600
"""Seconds after which a temporary file is left over from a killed process."""

STATE_SHARE = 10
"""A predictor's state of an image in use takes about so many times its embedding's memory."""


class EmbeddingCache:
    """Embeddings by image, encoder and precision; safe to use from any number of threads.

    Those who ask for the same image at the same time wait for one encoding. The least recently
    used leave memory first, and then the disk.

    Args:
        folder: where they are kept on disk; made if need be.
        memory_bytes: limit of those in memory.
        disk_bytes: limit of those on disk.
    """

    def __init__(self, folder: Path, memory_bytes: int, disk_bytes: int) -> None:
        self.folder = folder
        self.disk_bytes = disk_bytes
        self._kept = SingleFlightCache[ImageEmbedding](memory_bytes, bytes_in_use)
        self._disk_lock = threading.Lock()

    def get(
        self, predictor: Predictor, image_hash: str, read: Callable[[], np.ndarray]
    ) -> ImageEmbedding:
        """Get an image's embedding from memory or disk, or compute it.

        Args:
            predictor: whose encoder.
            image_hash: identifies the image; becomes part of a file name.
            read: returns the image, RGB uint8, H x W x 3; called only if it must be encoded, or
                the predictor zooms.

        Raises:
            UserError: what `read` raises.
        """
        key = f"{predictor.model_id}-{predictor.engine.precision}-{image_hash}"
        # On disk all are alike; in memory those of predictors that zoom have their image.
        return self._kept.get(
            key if predictor.zoom is None else f"{key} with image",
            lambda: self._from_disk(predictor, key, read) or self._encoded(predictor, key, read),
        )

    def _encoded(
        self, predictor: Predictor, key: str, read: Callable[[], np.ndarray]
    ) -> ImageEmbedding:
        embedding = predictor.encode(read())
        # If the disk is full, the embedding is still kept in memory.
        with suppress(UserError):
            embedding.save(self._path(key))
            self._tidy()
        return embedding

    def _from_disk(
        self, predictor: Predictor, key: str, read: Callable[[], np.ndarray]
    ) -> ImageEmbedding | None:
        path = self._path(key)
        try:
            embedding = ImageEmbedding.load(path)
            os.utime(path)
        except (UserError, OSError):
            return None
        return embedding if predictor.zoom is None else predictor.with_image(embedding, read())

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _tidy(self) -> None:
        """Delete the least recently used files, and temporary files of killed processes.

        Other threads and processes write and delete files here at the same time.
        """
        with self._disk_lock:
            files: list[tuple[Path, os.stat_result]] = []
            for path in self.folder.glob("*.safetensors"):
                with suppress(FileNotFoundError):
                    files.append((path, path.stat()))
            unfinished = [item for item in files if item[0].name.startswith(TEMPORARY_PREFIX)]
            finished = [item for item in files if not item[0].name.startswith(".")]
            for path, stat in unfinished:
                if time.time() - stat.st_mtime > ABANDONED_S:
                    path.unlink(missing_ok=True)
            total = sum(stat.st_size for _, stat in finished)
            for path, stat in sorted(finished, key=lambda item: item[1].st_mtime):
                if total <= self.disk_bytes:
                    break
                path.unlink(missing_ok=True)
                total -= stat.st_size


def bytes_in_use(embedding: ImageEmbedding) -> int:
    """Memory in bytes that an image takes about while prompts on it are decoded."""
    own = embedding.features.nbytes * (1 + STATE_SHARE)
    if embedding.image is None:
        return own
    # A view has a quarter of the tokens.
    return own + embedding.image.nbytes + MAX_CACHED_ROIS * own // 4
