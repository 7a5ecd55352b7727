"""`samlet embed`: only the first stage of distillation, in this process or in workers on Ray."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from torch import nn

import samlet
from samlet.cluster.run import Opens, RayRun, check_same_model
from samlet.cluster.workers import Died
from samlet.errors import UserError
from samlet.images import SliceChoice
from samlet.modeling.fingerprint import encoder_fingerprint
from samlet.storage.run_mark import marked_run
from samlet.training.accelerator import open_accelerator
from samlet.training.distillation.batches import SkippedImages
from samlet.training.distillation.distill import at_size
from samlet.training.distillation.embed import (
    Batch,
    Embedded,
    compute_embeddings,
    embed,
    open_store,
)
from samlet.training.distillation.embedding_store import EmbeddingStore
from samlet.training.distillation.sources import open_source
from samlet.training.settings import Precision
from samlet.utils.progress import print_status

MAX_WAITING = 32
"""Batches that wait for an earlier one, of which each embedding takes 2 MB."""


def embed_images(
    images: str,
    teacher: str,
    out: Path,
    image_size: int | None,
    batch_size: int,
    threads: int,
    slices: SliceChoice | None = None,
    channels: Sequence[int] | None = None,
    connect: Callable[[nn.Module], AbstractContextManager[RayRun]] | None = None,
) -> tuple[EmbeddingStore, dict[str, str]]:
    """Store a teacher's embeddings of images.

    On Ray this process reads the images and writes the embeddings, and workers compute them.

    Args:
        images: see `samlet.training.distillation.sources.open_source`.
        teacher: a model's name or file.
        out: folder of the embeddings.
        image_size: see `at_size`.
        batch_size: images per batch.
        threads: that read and decode.
        slices: of stacks; None for all.
        channels: to show, see `samlet.images.read`.
        connect: to Ray, for a model that each worker has, see `samlet.cluster.run.ray_run`; None to
            compute in this process.

    Returns:
        the store, and the images that were skipped, with the reasons.

    Raises:
        UserError: see `samlet.training.distillation.embed.embed`, or no worker can work.
    """
    accelerator = open_accelerator()
    if connect is not None and accelerator.num_processes > 1:
        raise UserError("--ray has workers of its own: run the command without accelerate.")
    source = open_source(images, out, slices, channels)
    device = accelerator.device if connect is None else "cpu"
    model = at_size(samlet.load(teacher, device), image_size)
    store, skipped = open_store(out, model), SkippedImages(source.count())
    run_here = partial(embed, source, model, store, skipped, accelerator, batch_size, threads)
    if connect is None:
        run_here()
        return store, skipped.reasons
    with connect(model) as run, marked_run(out):
        # Each GPU has its own fastest precision; processors are to give the digits of this one.
        precision = "auto" if run.device == "cuda" else accelerator.mixed_precision
        worker = TeacherWorker(
            teacher, image_size, cast(Precision, precision), encoder_fingerprint(model)
        )
        run_here(embed_elsewhere=partial(embed_on_ray, run, worker, skipped))
    return store, skipped.reasons


@dataclass(frozen=True)
class TeacherWorker:
    """Embeds batches in a worker; is sent there, and then opened.

    Attributes:
        teacher: a model's name or file.
        image_size: see `at_size`.
        precision: see `open_accelerator`.
        encoder: fingerprint of the teacher's encoder where the run was started.
    """

    teacher: str
    image_size: int | None
    precision: Precision
    encoder: str

    def open(self, device: str) -> Callable[[Batch, Callable[[], None]], np.ndarray]:
        """Load the teacher; see `samlet.cluster.run.RayRun`."""
        accelerator = open_accelerator(self.precision)
        model = at_size(samlet.load(self.teacher, accelerator.device), self.image_size)
        check_same_model(self.encoder, encoder_fingerprint(model))
        computing = threading.Lock()

        def embed_batch(batch: Batch, check: Callable[[], None]) -> np.ndarray:
            with computing:
                check()
                return compute_embeddings(model, [image for _, image in batch], accelerator)

        return embed_batch


def embed_on_ray(
    run: RayRun, work: Opens, skipped: SkippedImages, batches: Iterator[Batch]
) -> Embedded:
    """Embed batches in workers.

    Args:
        run: the workers.
        work: from a batch to embeddings, see `TeacherWorker`.
        skipped: takes the images of batches on which workers die.
        batches: with few images each.
    """
    with closing(run.process_in_order(work, batches, MAX_WAITING, print_status)) as made:
        for batch, embeddings in made:
            if isinstance(embeddings, Died):
                reason = (
                    f"Two workers died while they embedded its batch ({embeddings.reason}): give a "
                    "smaller --batch-size or a larger --worker-cores."
                )
                for entry, _ in batch:
                    skipped.add(entry.key, reason)
                continue
            # Copied, since Ray's own memory holds few of them.
            yield from zip([entry for entry, _ in batch], np.array(embeddings), strict=True)
