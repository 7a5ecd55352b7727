"""Whole images with their teacher's embeddings, as a stream that can go on from where it was."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from samlet import images
from samlet.errors import UserError
from samlet.training.distillation.embedding_store import EmbeddingStore, content_hash
from samlet.training.distillation.sources import Item, Source
from samlet.training.stream import Batches, Position
from samlet.utils.prefetch import prefetch

TOLERATED = 0.01
"""Share of images that may be broken before a run stops."""


@dataclass(frozen=True)
class TeachingBatch:
    """Images that are ready for an encoder, and what it is to make of them.

    Attributes:
        images: B x 3 x S x S, RGB in 0..255, uint8 or float32; each at the upper left.
        valid: bool, B x S x S: where there is image rather than padding.
        embeddings: the teacher's, B x C x S/16 x S/16, float16; None if they are not on disk.
    """

    images: Tensor
    valid: Tensor
    embeddings: Tensor | None

    def to(self, device: torch.device) -> "TeachingBatch":
        """The batch on another device."""
        return TeachingBatch(
            self.images.to(device, non_blocking=True),
            self.valid.to(device, non_blocking=True),
            None if self.embeddings is None else self.embeddings.to(device, non_blocking=True),
        )


def unlabelled(crops: Batches) -> Batches:
    """Labelled crops (`data.Batch`) as lessons: their labels are left out."""

    def lessons(position: Position) -> Iterator[tuple[TeachingBatch, Position]]:
        for crop, after in crops(position):
            yield TeachingBatch(crop.images, crop.valid, None), after

    return lessons


class Normalising(Protocol):
    """Anything with a normalisation of its images, in units of 0..255."""

    pixel_mean: Tensor
    pixel_std: Tensor


def normalised(model: Normalising, images: Tensor, valid: Tensor) -> Tensor:
    """Images as the encoder of `model` takes them: normalised, and zero where `valid` is not."""
    pixels = (images.float() - model.pixel_mean) / model.pixel_std * valid.unsqueeze(1)
    return pixels.contiguous(memory_format=torch.channels_last)


@dataclass
class Skipped:
    """Images that could not be used, with the reason for each; shared by threads.

    Args:
        total: images in all, or None where that is not known.
    """

    total: int | None
    reasons: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, key: str, reason: str) -> None:
        """Note an image; once, however often it comes by."""
        with self._lock:
            self.reasons[key] = reason

    def check(self, seen: int) -> None:
        """Stop if too many are broken.

        Args:
            seen: images that came by so far; it counts where the total is not known, from a
                thousand on.

        Raises:
            UserError: more than 1 % are.
        """
        of = self.total if self.total is not None else max(seen, 1000)
        if len(self.reasons) > TOLERATED * of:
            key, reason = next(iter(self.reasons.items()))
            raise UserError(
                f"{len(self.reasons)} of {of} images cannot be used, more than 1 %; the first is "
                f"{key}: {reason} Repair them or take them out, and run the same command again."
            )


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        key, sha256: see `Item` and `content_hash`.
        pixels: uint8, h x w x 3, the longest side at the model's input size.
    """

    key: str
    sha256: str
    pixels: np.ndarray


def load_picture(item: Item, image_size: int, skipped: Skipped) -> Picture | None:
    """Read, decode and resize; None, with a note in `skipped`, for a broken image."""
    try:
        content = item.read()
        pixels = images.resize_longest(images.read(item.key, content=content), image_size)
    except OSError as error:
        skipped.add(item.key, f"It cannot be read ({error.strerror or error}).")
    except UserError as error:
        skipped.add(item.key, str(error))
    else:
        return Picture(item.key, content_hash(content), pixels)
    return None


def collate(
    pictures: list[Picture], image_size: int, embeddings: list[np.ndarray] | None = None
) -> TeachingBatch:
    """Pad pictures to squares and stack them."""
    stacked = torch.zeros(len(pictures), 3, image_size, image_size, dtype=torch.uint8)
    valid = torch.zeros(len(pictures), image_size, image_size, dtype=torch.bool)
    for i, picture in enumerate(pictures):
        h, w = picture.pixels.shape[:2]
        stacked[i, :, :h, :w] = torch.from_numpy(picture.pixels).permute(2, 0, 1)
        valid[i, :h, :w] = True
    taught = None if embeddings is None else torch.from_numpy(np.stack(embeddings))
    return TeachingBatch(stacked, valid, taught)


@dataclass(frozen=True)
class Lessons:
    """Batches for one process, as `loop.train` wants them.

    Args:
        source: the images.
        image_size: input size of student and teacher.
        batch_size: images a batch of this process.
        store: embeddings on disk; images that are not in it are passed over. None to leave the
            teaching to the learner.
        held_out: keys that are kept for validation.
        skipped: takes the broken images.
        seed: decides the order.
        rank, world: number of this process, and how many there are.
        threads: that read and decode.
    """

    source: Source
    image_size: int
    batch_size: int
    store: EmbeddingStore | None
    held_out: frozenset[str]
    skipped: Skipped
    seed: int = 0
    rank: int = 0
    world: int = 1
    threads: int = 2

    def __call__(self, position: Position) -> Iterator[tuple[TeachingBatch, Position]]:
        """Batches from a position on, each with the position after it.

        Raises:
            UserError: too many images are broken, or none is left.
        """
        stream = self.source.shuffled(self.seed, position, self.rank, self.world)
        batch: list[tuple[Picture, np.ndarray | None]] = []
        seen = used = 0
        loaded = prefetch(stream, self._load, self.threads, depth=2 * self.batch_size)
        for found, after in loaded:
            seen += 1
            if found is None:
                self.skipped.check(seen)
                if used == 0 and after.get("epoch", 0) > position.get("epoch", 0) + 1:
                    raise UserError(
                        f"No image of {self.source.name} has an embedding: run the same command "
                        "again, and what changed is embedded anew."
                    )
                continue
            used += 1
            batch.append(found)
            if len(batch) == self.batch_size:
                pictures = [picture for picture, _ in batch]
                taught = [e for _, e in batch if e is not None]
                yield collate(pictures, self.image_size, taught or None), after
                batch = []

    def _load(
        self, drawn: tuple[Item, Position]
    ) -> tuple[tuple[Picture, np.ndarray | None] | None, Position]:
        item, after = drawn
        if item.key in self.held_out:
            return None, after
        picture = load_picture(item, self.image_size, self.skipped)
        if picture is None:
            return None, after
        if self.store is None:
            return (picture, None), after
        if picture.sha256 not in self.store:
            self.skipped.add(item.key, "It changed after it was embedded.")
            return None, after
        return (picture, self.store.read(picture.sha256)), after
