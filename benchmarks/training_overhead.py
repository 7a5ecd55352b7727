"""Overhead of training: waiting for data, and reading and writing embeddings.

    python benchmarks/training_overhead.py data/bbbc038/images --images 400

Embeds copies of real images with a teacher, then distils from the embeddings on disk, once with a
folder of files and once with tar shards. Prints embeddings written and read per second, the share
of time that steps waited for data, and the peak memory. Run nothing beside it.
"""

import csv
import shutil
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from common import peak_megabytes
from PIL import Image

import samlet
from samlet.evaluation.tables import Table, format_table
from samlet.training.distillation.distill import distill
from samlet.training.distillation.embed_images import embed_images
from samlet.training.distillation.embedding_store import content_hash
from samlet.training.settings import DistillSettings

IMAGES_PER_SHARD = 100


def main(
    images: Annotated[Path, typer.Argument(help="Folder of images.")],
    count: Annotated[int, typer.Option("--images", help="Number of images.")] = 400,
    size: Annotated[int, typer.Option(help="Longest side of the copies, in pixels.")] = 512,
    student: Annotated[str, typer.Option(help="Architecture of the student.")] = "tiny_vit_2m",
    steps: Annotated[int, typer.Option(help="Training steps per run.")] = 60,
) -> None:
    """Measure, and print the table."""
    table: Table = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        folder, shards = _copies(images, count, size, root)
        for kind, source in (("folder", folder), ("shards", shards)):
            start = time.monotonic()
            store, _ = embed_images(str(source), "microscopy", root / kind, None, 4, 2)
            writing = time.monotonic() - start
            settings = DistillSettings(
                images=str(source),
                teacher="microscopy",
                student=student,
                steps=steps,
                batch_size=8,
                embeddings=str(root / kind),
            )
            distill(settings, root / kind)
            with (root / kind / "train" / "log.csv").open() as file:
                rows = list(csv.DictReader(file))[1:]
            trained = float(rows[-1]["seconds"])
            hashes = [content_hash(p.read_bytes()) for p in sorted(folder.iterdir())]
            known = [h for h in hashes if h in store]
            start = time.monotonic()
            for sha256 in known:
                store.read(sha256)
            table[kind] = {
                "waiting for data": float(np.mean([float(row["waiting"]) for row in rows])),
                "steps per second": steps / trained,
                "embeddings written per second": len(store) / writing,
                "embeddings read per second": len(known) / (time.monotonic() - start),
            }
            shutil.rmtree(root / kind)
    peak = peak_megabytes() / 1e3
    print(f"{count} images of {size} px, {student}, peak memory {peak:.1f} GB\n")
    print(format_table(table, "source"))


def _copies(images: Path, count: int, size: int, root: Path) -> tuple[Path, Path]:
    """Write JPEG copies, all different, into a folder and into tar shards."""
    folder, shards = root / "files", root / "tars"
    folder.mkdir()
    shards.mkdir()
    paths = samlet.images.find(images)
    for first in range(0, count, IMAGES_PER_SHARD):
        with tarfile.open(shards / f"sa_{first // IMAGES_PER_SHARD:06d}.tar", "w") as tar:
            for i in range(first, min(first + IMAGES_PER_SHARD, count)):
                copy, index = divmod(i, len(paths))
                image = Image.fromarray(samlet.images.read(paths[index]))
                image = image.rotate(90 * (copy % 4), expand=True).resize((size, size))
                path = folder / f"sa_{i}.jpg"
                image.save(path, "JPEG", quality=95 - copy // 4)
                tar.add(path, path.name)
    return folder, shards


if __name__ == "__main__":
    typer.run(main)
