"""Clicks with and without zooming in: how long each takes, with the bundled model.

    python benchmarks/zoom.py --objects 10

On each bundled image: encode it, then click on some objects, each once without zooming, once
zooming for the first time, and once again. Medians of all, with the whole image's encoding to
compare with. Run nothing beside it; docs/speed.md has the result.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated

import numpy as np
import typer

import samlet
from samlet import images, samples
from samlet.masks import deepest_point, from_label_map
from samlet.outputs import read_label_map

CLICKS = {
    "a click without zooming": False,
    "a click, first in its place": True,
    "another click there": True,
}


def main(
    count: Annotated[int, typer.Option("--objects", help="Of each image.")] = 10,
    name: Annotated[str, typer.Option("--model", help="A name, or a checkpoint.")] = "nuclei",
    engine: Annotated[str, typer.Option(help="As of `samlet segment`.")] = "auto",
) -> None:
    """Measure, and print the table."""
    predictor = samlet.Predictor(samlet.load(name), engine, zoom=True)
    predictor.segment(predictor.encode(np.zeros((64, 64, 3), np.uint8)), [[32, 32]], [1])
    seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        seconds[what].append(time.perf_counter() - begun)

    for sample in samples.NAMES:
        image = images.read(samples.IMAGES / f"{sample}.png")
        with timed("encoding the image"):
            embedding = predictor.encode(image)
        labels = read_label_map(samples.LABELS / f"{sample}.png")
        for _, mask in islice(from_label_map(labels), count):
            for what, zoom in CLICKS.items():
                with timed(what):
                    predictor.segment(embedding, [deepest_point(mask)], [1], zoom=zoom)
    print("| | median | 95th percentile | count |\n|---|---|---|---|")
    for what, some in seconds.items():
        median, high = 1000 * statistics.median(some), 1000 * np.quantile(some, 0.95)
        print(f"| {what} | {median:.0f} ms | {high:.0f} ms | {len(some)} |")


if __name__ == "__main__":
    typer.run(main)
