"""A detector's boxes on a large image, as Label Studio sends them: time and peak memory.

    python -m benchmarks.labelstudio_boxes --boxes 200

The image is a mosaic of the bundled ones, and the boxes are those of their labels.
"""

import tempfile
import time
from itertools import count, islice, product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from benchmarks.common import peak_megabytes
from tests.labelstudio import payloads

from samlet_labelstudio.label_studio.labeling_config import parse
from samlet_labelstudio.service import RequestContext, Service
from samlet_labelstudio.settings import Settings

NAMES = ("fluorescence_2", "fluorescence_3", "stained_1", "stained_2")


def main(
    boxes: Annotated[int, typer.Option(help="Number of boxes.")] = 200,
    width: Annotated[int, typer.Option(help="Width of the image in pixels.")] = 4000,
    height: Annotated[int, typer.Option(help="Height of the image in pixels.")] = 3000,
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
) -> None:
    """Request masks for one box, then for all, and print the figures."""
    image, found = mosaic(width, height)
    content = payloads.png(image)
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Settings(engine=engine, folder=Path(folder), max_regions=10_000))
        context = RequestContext("", parse(payloads.config()), service.settings)
        for number in (1, boxes):
            predictions = [{"model_version": "detector", "result": found[:number]}]
            start = time.monotonic()
            task = payloads.task(content, predictions=predictions)
            prepared = service.preannotator.prepare(context, task)
            response = service.preannotator.preannotate(prepared)
            print(
                f"{len(response['result'])} boxes on {width * height / 1e6:.0f} megapixels: "
                f"{time.monotonic() - start:.0f} s, peak memory {peak_megabytes():.0f} MB"
            )


def mosaic(width: int, height: int) -> tuple[np.ndarray, list[payloads.Region]]:
    """RGB uint8, height x width x 3, and the boxes of its objects in random order."""
    image = np.zeros((height, width, 3), np.uint8)
    objects = []
    tiles = [(payloads.rgb(name), payloads.label_map(name)) for name in NAMES]
    side = min(min(labels.shape) for _, labels in tiles)
    corners_of_tiles = product(range(0, height - side + 1, side), range(0, width - side + 1, side))
    for (y, x), (pixels, labels) in zip(
        corners_of_tiles, (tiles[n % len(tiles)] for n in count()), strict=False
    ):
        image[y : y + side, x : x + side] = pixels[:side, :side]
        for number in islice(np.unique(labels[:side, :side])[1:], 20):
            rows, columns = np.nonzero(labels[:side, :side] == number)
            corners = (x + columns.min(), y + rows.min(), x + columns.max() + 1, y + rows.max() + 1)
            objects.append(payloads.box(corners, (height, width)))
    order = np.random.default_rng(0).permutation(len(objects))
    return image, [objects[i] for i in order]


if __name__ == "__main__":
    typer.run(main)
