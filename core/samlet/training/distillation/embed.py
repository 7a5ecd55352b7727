"""The first stage of distillation: store the teacher's embedding of every image."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console

from samlet.modeling.fingerprint import encoder_fingerprint
from samlet.modeling.sam import EMBED_DIM, Sam
from samlet.modeling.tiny_vit import STRIDE
from samlet.training.disk_space import check_room
from samlet.training.distillation.batches import LoadedImage, SkippedImages, collate, load_image
from samlet.training.distillation.decoupled import teacher_embed_fn
from samlet.training.distillation.embedding_store import EmbeddingStore, Entry
from samlet.training.distillation.sources import Item, Source
from samlet.utils.messages import pluralize
from samlet.utils.prefetch import prefetch
from samlet.utils.progress import progress_bar

Batch = list[tuple[Entry, LoadedImage]]
Embedded = Iterator[tuple[Entry, np.ndarray]]
"""Embeddings of images: float16, C x h x w."""


def open_store(folder: Path, teacher: Sam) -> EmbeddingStore:
    """The store of a teacher's embeddings below `folder`, empty or not."""
    size = teacher.config.image_size
    shape = (EMBED_DIM, size // STRIDE, size // STRIDE)
    return EmbeddingStore(folder, encoder_fingerprint(teacher), size, shape)


def embed(
    source: Source,
    teacher: Sam,
    store: EmbeddingStore,
    skipped: SkippedImages,
    accelerator: Accelerator,
    batch_size: int = 4,
    threads: int = 2,
    embed_elsewhere: Callable[[Iterator[Batch]], Embedded] | None = None,
) -> int:
    """Write the embeddings that are missing; every process takes its part.

    Before it starts in earnest it tells how much disk it needs and, from a timed first batch, how
    long it will take.

    Args:
        source: the images.
        teacher: in eval mode, on the accelerator's device.
        store: where to.
        skipped: takes the broken images.
        accelerator: knows the device, its precision and the processes.
        batch_size: images per batch.
        threads: that read and decode.
        embed_elsewhere: computes the embeddings, in order, in place of this process.

    Returns:
        how many embeddings this process wrote.

    Raises:
        UserError: the disk is too small or full, or too many images are broken.
        KeyboardInterrupt: Ctrl-C was pressed; what was computed is written.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    rank, world = accelerator.process_index, accelerator.num_processes
    missing = source.count()
    if missing is not None and accelerator.is_main_process:
        missing = max(0, missing - sum(source.holds(key) for key in store.entries))
        _check_space(store, missing, console)
    accelerator.wait_for_everyone()

    def load(item: Item) -> tuple[Item, LoadedImage | None]:
        return item, load_image(item, teacher.config.image_size, skipped)

    def missing_images() -> Iterator[tuple[Entry, LoadedImage]]:
        """Images whose content has no embedding yet, each content once."""
        seen: set[str] = set()
        todo = (item for item in source.once(rank, world) if not _is_known(item, store))
        for item, image in prefetch(todo, load, threads, 2 * batch_size):
            if image and image.sha256 not in store and image.sha256 not in seen:
                seen.add(image.sha256)
                yield Entry(item.key, image.sha256, item.stamp), image

    written = 0
    with progress_bar() as progress:
        task = progress.add_task("Embedding", total=None if missing is None else missing // world)

        def announce(seconds: float) -> None:
            if missing is not None and accelerator.is_main_process:
                console.print(f"Embedding will take about {_span(seconds * missing / world)}.")

        images = missing_images()
        batches = iter(lambda: list(islice(images, batch_size)), [])
        if embed_elsewhere is None:
            embedded = _embed_here(batches, teacher, accelerator, announce)
        else:
            embedded = embed_elsewhere(batches)
        with closing(store.write(embedded, rank)) as entries:
            for _ in entries:
                written += 1
                progress.update(task, completed=written)
    accelerator.wait_for_everyone()
    store.scan()
    skipped.check(len(store) + len(skipped.reasons))
    return written


def _is_known(item: Item, store: EmbeddingStore) -> bool:
    entry = store.entries.get(item.key)
    return entry is not None and entry.stamp == item.stamp != ""


def _embed_here(
    batches: Iterator[Batch],
    teacher: Sam,
    accelerator: Accelerator,
    announce: Callable[[float], None],
) -> Embedded:
    """Embeddings of images; `announce` gets the seconds per image of the first batch."""
    for number, batch in enumerate(batches):
        begun = time.monotonic()
        embeddings = compute_embeddings(teacher, [image for _, image in batch], accelerator)
        if number == 0:
            announce((time.monotonic() - begun) / len(batch))
        yield from zip([entry for entry, _ in batch], embeddings, strict=True)


def compute_embeddings(
    teacher: Sam, images: list[LoadedImage], accelerator: Accelerator
) -> np.ndarray:
    """The teacher's embeddings of some images: float16, N x C x h x w."""
    batch = collate(images, teacher.config.image_size).to(accelerator.device)
    with accelerator.autocast():
        embeddings = teacher_embed_fn(teacher)(batch)
    return embeddings.to(torch.float16).cpu().numpy()


def _check_space(store: EmbeddingStore, missing: int, console: Console) -> None:
    message = check_room(
        store.folder,
        missing * store.bytes_per_image,
        f"{pluralize(missing, 'image')} need{'s' * (missing == 1)}",
        "choose another folder with --embeddings, or distil without storing with --on-the-fly",
    )
    console.print(f"{message}.")


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
