"""Latency of clicks with and without zooming in.

    python benchmarks/zoom.py --objects 10

On each bundled image: encode it, then click on some objects, each three times: without zooming,
with an ROI that has to be encoded, and with the same ROI again. For comparison, the time to encode
the whole image. Run nothing beside it; docs/speed.md has the result.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated

import numpy as np
import typer
from common import ModelName, print_times

import samlet
from samlet import images, samples
from samlet.masks import deepest_point, from_label_map
from samlet.outputs import read_label_map

CLICKS = {
    "click without zooming": False,
    "first click in an ROI": True,
    "another click in that ROI": True,
}


def main(
    count: Annotated[int, typer.Option("--objects", help="Objects per image.")] = 10,
    name: ModelName = "microscopy",
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
) -> None:
    """Measure, and print the table."""
    predictor = samlet.Predictor(samlet.load(name), engine, zoom=True)
    predictor.segment(predictor.encode(np.zeros((64, 64, 3), np.uint8)), [[32, 32]], [1])
    seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[step].append(time.perf_counter() - start)

    for sample in samples.NAMES:
        image = images.read(samples.IMAGES / f"{sample}.png")
        with timed("encode the whole image"):
            embedding = predictor.encode(image)
        labels = read_label_map(samples.LABELS / f"{sample}.png")
        for _, mask in islice(from_label_map(labels), count):
            for step, zoom in CLICKS.items():
                with timed(step):
                    predictor.segment(embedding, [deepest_point(mask)], [1], zoom=zoom)
    print_times(seconds)


if __name__ == "__main__":
    typer.run(main)
