"""What Ray costs: images per second of one process, of one worker, and of two workers.

    python -m benchmarks.ray_overhead

All compute with one thread per process, on the same crops of the bundled samples, in turns. Start
times are left out: a rate counts from the result after which every process has finished one image.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress

from samlet import images, samples
from samlet.cli.everything_work import EverythingWork, segment_on_ray
from samlet.cluster.capacity import WorkerSize
from samlet.cluster.connection import connected
from samlet.cluster.run import BASE_BYTES, RayRun
from samlet.everything.batch import segment_images
from samlet.images.listing import ImageList, list_images

CROP = 256
WARM_UP = 4
"""Results after which each process has finished one image."""


class Stopwatch(Progress):
    """A silent progress that notes when each image is reported."""

    def __init__(self) -> None:
        super().__init__(disable=True, console=Console(quiet=True))
        self.times: list[float] = []
        self.console.print = self._note  # type: ignore[method-assign]

    def _note(self, *text: object, **options: object) -> None:
        self.times.append(time.perf_counter())

    def rate(self) -> float:
        """Images per second after the first results."""
        return (len(self.times) - WARM_UP) / (self.times[-1] - self.times[WARM_UP - 1])


def main(
    count: Annotated[int, typer.Option(help="Images per run.")] = 20,
    rounds: Annotated[int, typer.Option(help="Runs of each kind, in turns.")] = 2,
    model: str = "microscopy",
) -> None:
    """Print a table of images per second."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        listed = list_images(_write_crops(Path(place) / "in", count), Path(place) / "out")
        work = _work(model, Path(place) / "out")
        opened = work.open()
        rates: dict[str, list[float]] = {
            "one process": [],
            "Ray, one worker": [],
            "Ray, two workers": [],
        }
        with connected("local", print):
            for _ in range(rounds):
                watch = Stopwatch()
                segment_images(*listed, opened.batch, watch)
                rates["one process"].append(watch.rate())
                for workers, name in ((1, "Ray, one worker"), (2, "Ray, two workers")):
                    watch = Stopwatch()
                    run = RayRun(WorkerSize(1, 0, BASE_BYTES), workers)
                    segment_on_ray(work, opened, ImageList(*listed), run, watch)
                    rates[name].append(watch.rate())
    alone = statistics.median(rates["one process"])
    print("| | images per second | of one process |\n|---|---|---|")
    for name, measured in rates.items():
        rate = statistics.median(measured)
        print(f"| {name} | {rate:.2f} | {rate / alone:.0%} |")


def _write_crops(folder: Path, count: int) -> Path:
    from PIL import Image

    folder.mkdir()
    paths = sorted(samples.IMAGES.glob("*.png"))
    for number in range(count):
        pixels = images.read(paths[number % len(paths)])
        # Other pixels each time, as far as the image reaches.
        start = 8 * (number // len(paths))
        crop = pixels[start : start + CROP, start : start + CROP]
        Image.fromarray(crop).save(folder / f"{number:03}.png")
    return folder


def _work(model: str, out: Path) -> EverythingWork:
    return EverythingWork(
        model=model,
        engine="auto",
        precision="float32",
        settings={},
        tile=None,
        overlap=None,
        examples=None,
        likeness=0.5,
        channels=None,
        axis="auto",
        max_pixels=images.DEFAULT_MAX_PIXELS,
        # Each run does all images anew.
        replace=True,
        out=out,
        categories=["object"],
        formats=[],
    )


if __name__ == "__main__":
    typer.run(main)
