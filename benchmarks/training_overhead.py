"""What of a training step is not the model, and what the disk gives: folder and shards.

    python benchmarks/training_overhead.py data/bbbc038/images --images 400

Embeds copies of real images with a teacher, then distils from the embeddings on disk, once from a
folder of files and once from tar shards; prints embeddings a second written and read, the share of
time that steps waited for data, and the peak memory. Run nothing beside it.
"""

import csv
import resource
import shutil
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

import samlet
from samlet.evaluation.tables import Table, format_table
from samlet.training.distillation.distill import distill, embed_images
from samlet.training.distillation.embedding_store import content_hash
from samlet.training.settings import DistillSettings

PER_SHARD = 100


def main(
    images: Annotated[Path, typer.Argument(help="Folder of images.")],
    count: Annotated[int, typer.Option("--images", help="How many to use.")] = 400,
    size: Annotated[int, typer.Option(help="Longest side of the copies, in pixels.")] = 512,
    student: Annotated[str, typer.Option(help="Of the distillation.")] = "tiny_vit_2m",
    steps: Annotated[int, typer.Option(help="Of each run.")] = 60,
) -> None:
    """Measure, and print the table."""
    table: Table = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        folder, shards = _copies(images, count, size, root)
        for kind, source in (("folder", folder), ("shards", shards)):
            begun = time.monotonic()
            store, _ = embed_images(str(source), "nuclei", root / kind, None, 4, 2)
            writing = time.monotonic() - begun
            settings = DistillSettings(
                images=str(source),
                teacher="nuclei",
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
            begun = time.monotonic()
            for sha256 in known:
                store.read(sha256)
            table[kind] = {
                "waiting for data": float(np.mean([float(row["waiting"]) for row in rows])),
                "steps a second": steps / trained,
                "written a second": len(store) / writing,
                "read a second": len(known) / (time.monotonic() - begun),
            }
            shutil.rmtree(root / kind)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{count} images of {size} px, {student}, peak memory {peak:.1f} GB\n")
    print(format_table(table, "source"))


def _copies(images: Path, count: int, size: int, root: Path) -> tuple[Path, Path]:
    """JPEG copies, all different, in a folder and in shards."""
    folder, shards = root / "files", root / "tars"
    folder.mkdir()
    shards.mkdir()
    paths = samlet.images.find(images)
    for first in range(0, count, PER_SHARD):
        with tarfile.open(shards / f"sa_{first // PER_SHARD:06d}.tar", "w") as tar:
            for i in range(first, min(first + PER_SHARD, count)):
                copy, which = divmod(i, len(paths))
                picture = Image.fromarray(samlet.images.read(paths[which]))
                picture = picture.rotate(90 * (copy % 4), expand=True).resize((size, size))
                path = folder / f"sa_{i}.jpg"
                picture.save(path, "JPEG", quality=95 - copy // 4)
                tar.add(path, path.name)
    return folder, shards


if __name__ == "__main__":
    typer.run(main)
