"""A cache of embeddings, in memory and on disk, within limits, shared by threads and programs.

On disk an embedding goes by its encoder, precision and pixels, so that `samlet encode`, napari and
the Label Studio backend find what any of them has encoded.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from pathlib import Path

import numpy as np

from samlet.errors import UserError
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor
from samlet.predict.zoom import MAX_CACHED_ROIS
from samlet.utils.files import TEMPORARY_PREFIX
from samlet.utils.messages import pluralize
from samlet.utils.single_flight import SingleFlightCache

PATCH_SIDE, EMBEDDING_CHANNELS = 16, 256
"""Of SAM's embeddings: pixels along the side of what one position stands for, and its values."""
HEADER_BYTES = 1024
ABANDONED_S = 3600
"""Seconds after which a temporary file is left over from a killed process."""

STATE_SHARE = 10
"""A predictor's state of an image in use takes about so many times its embedding's memory."""


def pixel_digest(image: np.ndarray) -> str:
    """32 hexadecimal digits that identify an image by its pixels.

    Args:
        image: RGB uint8, H x W x 3.
    """
    content = repr(image.shape).encode() + image.tobytes()
    return hashlib.sha256(content).hexdigest()[:32]


class EmbeddingCache:
    """Embeddings by image, encoder and precision; safe to use from any number of threads.

    Those who ask for the same image at the same time wait for one encoding. The least recently
    used leave memory first, and then the disk.

    Args:
        folder: where they are kept on disk; made if need be.
        memory_bytes: limit of those in memory.
        disk_bytes: limit of those on disk.

    Attributes:
        removed: number of embeddings that were deleted from the disk to stay within its limit.
    """

    def __init__(self, folder: Path, memory_bytes: int, disk_bytes: int) -> None:
        self.folder = folder
        self.disk_bytes = disk_bytes
        self.removed = 0
        self._kept = SingleFlightCache[ImageEmbedding](memory_bytes, bytes_in_use)
        self._disk_lock = threading.Lock()

    def get(
        self, predictor: Predictor, image_hash: str | None, read: Callable[[], np.ndarray]
    ) -> ImageEmbedding:
        """Get an image's embedding from memory or disk, or compute it.

        Args:
            predictor: whose encoder.
            image_hash: identifies the image in memory, so that it need not be read; None to
                identify it by its pixels.
            read: returns the image, RGB uint8, H x W x 3; called only if its embedding is not in
                memory, or without a hash.

        Raises:
            UserError: what `read` raises.
        """
        if image_hash is None:
            image = read()
            digest = pixel_digest(image)
            return self._kept.get(
                _memory_key(predictor, digest), lambda: self._find(predictor, image, digest)
            )

        def read_and_find() -> ImageEmbedding:
            image = read()
            return self._find(predictor, image, pixel_digest(image))

        return self._kept.get(_memory_key(predictor, image_hash), read_and_find)

    def fill(self, predictor: Predictor, image: np.ndarray) -> bool:
        """Put an image's embedding on disk, unless it is there; it does not enter memory.

        Args:
            predictor: whose encoder.
            image: RGB uint8, H x W x 3.

        Returns:
            whether it had to be encoded.

        Raises:
            UserError: the file cannot be written.
        """
        path = self._path(predictor, pixel_digest(image))
        if _load(path) is not None:
            return False
        predictor.encode(image).save(path)
        self._tidy()
        return True

    def _find(self, predictor: Predictor, image: np.ndarray, digest: str) -> ImageEmbedding:
        path = self._path(predictor, digest)
        embedding = _load(path)
        if embedding is not None:
            return predictor.with_image(embedding, image)
        embedding = predictor.encode(image)
        # If the disk is full, the embedding is still kept in memory.
        with suppress(UserError):
            embedding.save(path)
            self._tidy()
        return embedding

    def _path(self, predictor: Predictor, digest: str) -> Path:
        return self.folder / f"{_key(predictor, digest)}.safetensors"

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        files = []
        for path in self.folder.glob("*.safetensors"):
            with suppress(FileNotFoundError):
                files.append((path, path.stat()))
        return files

    def _tidy(self) -> None:
        """Delete the least recently used files, and temporary files of killed processes.

        Other threads and processes write and delete files here at the same time.
        """
        with self._disk_lock:
            files = self._files()
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
                self.removed += 1
                total -= stat.st_size


def check_room(cache: EmbeddingCache, predictor: Predictor, count: int) -> None:
    """Make sure that a cache can hold the embeddings of so many images at once.

    Raises:
        UserError: writing the last of them would remove the first.
    """
    side = predictor.model.config.image_size // PATCH_SIDE
    needed = count * (EMBEDDING_CHANNELS * side**2 * 4 + HEADER_BYTES)
    if needed > cache.disk_bytes:
        raise UserError(
            f"The embeddings of {pluralize(count, 'image')} take {ceil(needed / 1e6):,} MB, and "
            f"the cache holds {cache.disk_bytes / 1e6:,.0f} MB, so that the last would remove the "
            f"first: set SAMLET_DISK_MB={ceil(needed / 1e6)} here, and for napari or Label "
            "Studio's backend as well, or give fewer images."
        )


def _key(predictor: Predictor, image_hash: str) -> str:
    return f"{predictor.model_id}-{predictor.engine.precision}-{image_hash}"


def _memory_key(predictor: Predictor, image_hash: str) -> str:
    """On disk all are alike; in memory those of predictors that zoom have their image."""
    key = _key(predictor, image_hash)
    return key if predictor.zoom is None else f"{key} with image"


def _load(path: Path) -> ImageEmbedding | None:
    """Load an embedding, and mark it as used; None if there is none, or it is damaged."""
    try:
        embedding = ImageEmbedding.load(path)
        os.utime(path)
    except (UserError, OSError):
        return None
    return embedding


def bytes_in_use(embedding: ImageEmbedding) -> int:
    """Memory in bytes that an image takes about while prompts on it are decoded."""
    own = embedding.features.nbytes * (1 + STATE_SHARE)
    if embedding.image is None:
        return own
    # A view has a quarter of the tokens.
    return own + embedding.image.nbytes + MAX_CACHED_ROIS * own // 4
