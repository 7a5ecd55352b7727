"""Whole images with their teacher's embeddings, as a stream that can be resumed."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from samlet import images
from samlet.errors import UserError
from samlet.modeling.efficientvit import EfficientViT
from samlet.modeling.sam import reduce_images
from samlet.training.distillation.embedding_store import EmbeddingStore, content_hash
from samlet.training.distillation.sources import Item, Source
from samlet.training.stream import Batches, Position
from samlet.utils.prefetch import prefetch

MAX_BROKEN_SHARE = 0.01
"""Largest share of broken images; with more, a run stops."""


@dataclass(frozen=True)
class DistillBatch:
    """Images that are ready for an encoder, with the embeddings to reproduce.

    Attributes:
        images: B x 3 x S x S, RGB in 0..255, uint8 or float32; each at the upper left.
        valid: bool, B x S x S: where there is image rather than padding.
        embeddings: the teacher's, B x C x S/16 x S/16, float16; None if they are not on disk.
    """

    images: Tensor
    valid: Tensor
    embeddings: Tensor | None

    def to(self, device: torch.device) -> "DistillBatch":
        """The batch on another device."""
        return DistillBatch(
            self.images.to(device, non_blocking=True),
            self.valid.to(device, non_blocking=True),
            None if self.embeddings is None else self.embeddings.to(device, non_blocking=True),
        )


def without_labels(crops: Batches) -> Batches:
    """Batches of labelled crops (`CropBatch`) as batches for distillation, without the labels."""

    def stream(position: Position) -> Iterator[tuple[DistillBatch, Position]]:
        for crop, after in crops(position):
            yield DistillBatch(crop.images, crop.valid, None), after

    return stream


class Embedder(Protocol):
    """An image encoder, and mean and deviation of pixels, in units of 0..255."""

    image_encoder: nn.Module
    pixel_mean: Tensor
    pixel_std: Tensor


def normalize_images(model: Embedder, images: Tensor, valid: Tensor) -> Tensor:
    """Normalise images for the encoder of `model`, and set them to zero outside of `valid`.

    They become smaller if the encoder's input is smaller than what prompts refer to.
    """
    pixels = (images.float() - model.pixel_mean) / model.pixel_std * valid.unsqueeze(1)
    encoder = model.image_encoder
    if isinstance(encoder, EfficientViT) and encoder.reduction > 1:
        pixels = reduce_images(pixels, [side // encoder.reduction for side in pixels.shape[-2:]])
    return pixels.contiguous(memory_format=torch.channels_last)


@dataclass
class SkippedImages:
    """Images that could not be used, with the reason for each; shared by threads.

    Args:
        total: images in all, or None where that is not known.
    """

    total: int | None
    reasons: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, key: str, reason: str) -> None:
        """Add an image; it counts once, however often it is added."""
        with self._lock:
            self.reasons[key] = reason

    def check(self, seen: int) -> None:
        """Stop if too many are broken.

        Args:
            seen: number of images read so far; it counts where the total is not known, from a
                thousand on.

        Raises:
            UserError: more than 1 % are.
        """
        of = self.total if self.total is not None else max(seen, 1000)
        if len(self.reasons) > MAX_BROKEN_SHARE * of:
            key, reason = next(iter(self.reasons.items()))
            raise UserError(
                f"{len(self.reasons)} of {of} images cannot be used, more than 1 %; the first is "
                f"{key}: {reason} Repair them or take them out, and run the same command again."
            )


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image.

    Attributes:
        key: see `Item`.
        sha256: see `content_hash`.
        pixels: uint8, h x w x 3, the longest side at the model's input size.
    """

    key: str
    sha256: str
    pixels: np.ndarray


def load_image(item: Item, image_size: int, skipped: SkippedImages) -> LoadedImage | None:
    """Read, decode and resize; None for a broken image, which is added to `skipped`."""
    try:
        content = item.read()
        pixels = images.resize_longest(images.read(item.key, content=content), image_size)
    except OSError as error:
        skipped.add(item.key, f"It cannot be read ({error.strerror or error}).")
    except UserError as error:
        skipped.add(item.key, str(error))
    else:
        return LoadedImage(item.key, content_hash(content), pixels)
    return None


def collate(
    loaded: list[LoadedImage], image_size: int, embeddings: list[np.ndarray] | None = None
) -> DistillBatch:
    """Pad images to squares and stack them."""
    stacked = torch.zeros(len(loaded), 3, image_size, image_size, dtype=torch.uint8)
    valid = torch.zeros(len(loaded), image_size, image_size, dtype=torch.bool)
    for i, image in enumerate(loaded):
        h, w = image.pixels.shape[:2]
        stacked[i, :, :h, :w] = torch.from_numpy(image.pixels).permute(2, 0, 1)
        valid[i, :h, :w] = True
    targets = None if embeddings is None else torch.from_numpy(np.stack(embeddings))
    return DistillBatch(stacked, valid, targets)


@dataclass(frozen=True)
class DistillStream:
    """Batches for one process, as `samlet.training.loop.train` takes them.

    Args:
        source: the images.
        image_size: input size of student and teacher.
        batch_size: images a batch of this process.
        store: embeddings on disk; images that are not in it are skipped. None if the
            learner computes them.
        held_out: keys that are kept for validation.
        skipped: takes the broken images.
        seed: decides the order.
        rank: number of this process.
        world: number of processes.
        threads: that read and decode.
    """

    source: Source
    image_size: int
    batch_size: int
    store: EmbeddingStore | None
    held_out: frozenset[str]
    skipped: SkippedImages
    seed: int = 0
    rank: int = 0
    world: int = 1
    threads: int = 2

    def __call__(self, position: Position) -> Iterator[tuple[DistillBatch, Position]]:
        """Batches from a position on, each with the position after it.

        Raises:
            UserError: too many images are broken, or none is left.
        """
        stream = self.source.shuffled(self.seed, position, self.rank, self.world)
        batch: list[tuple[LoadedImage, np.ndarray | None]] = []
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
                padded = [image for image, _ in batch]
                embeddings = [e for _, e in batch if e is not None]
                yield collate(padded, self.image_size, embeddings or None), after
                batch = []

    def _load(
        self, drawn: tuple[Item, Position]
    ) -> tuple[tuple[LoadedImage, np.ndarray | None] | None, Position]:
        item, after = drawn
        if item.key in self.held_out:
            return None, after
        image = load_image(item, self.image_size, self.skipped)
        if image is None:
            return None, after
        if self.store is None:
            return (image, None), after
        if image.sha256 not in self.store:
            self.skipped.add(item.key, "It changed after it was embedded.")
            return None, after
        return (image, self.store.read(image.sha256)), after
