"""Several clicks at once, as a scribble gives them, against one.

    python benchmarks/several_clicks.py data/bbbc038 --images 12

Of each validation image some nuclei of at least 60 pixels. Each is asked for by its deepest point,
by some random points of it, and by six in a row across its middle; mean IoU with the label.
docs/developers/nuclei-training-log.md has the result.
"""

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from validation import spread

import samlet
from samlet.datasets.examples import load_examples
from samlet.datasets.layers import objects
from samlet.evaluation.tables import format_table
from samlet.masks import deepest_point, iou

SMALLEST = 60
COUNTS = (2, 3, 6)


def main(
    data: Annotated[Path, typer.Argument(help="Folder with images/ and labels/ of BBBC038.")],
    images: Annotated[int, typer.Option(help="How many validation images.")] = 12,
    count: Annotated[int, typer.Option("--objects", help="Of each image, at most.")] = 6,
    name: Annotated[str, typer.Option("--model", help="A name, or a checkpoint.")] = "nuclei",
) -> None:
    """Measure, and print the table."""
    examples = load_examples(data, only=spread(images))
    predictor = samlet.Predictor(samlet.load(name))
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = defaultdict(list)
    for example in examples:
        embedding = predictor.encode(example.image)
        masks = [mask for _, mask in objects(example.labels) if mask.sum() >= SMALLEST]
        for mask in (masks[i] for i in rng.permutation(len(masks))[:count]):
            for how, points in _prompts(mask, rng).items():
                answer = predictor.segment(
                    embedding, points, np.ones(len(points)), multimask_output=len(points) == 1
                )
                found[how].append(iou(answer.best, mask))
    table = {how: {"objects": len(ious), "IoU": np.mean(ious)} for how, ious in found.items()}
    print(format_table(table, "clicks"))


def _prompts(mask: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Clicks, N x 2, (x, y) in pixels, by what they are called."""
    x, y = deepest_point(mask)
    ys, xs = np.nonzero(mask)
    prompts = {"the deepest": np.array([[x, y]])}
    for count in COUNTS:
        chosen = rng.integers(len(xs), size=count)
        prompts[f"{count} random ones"] = np.stack([xs[chosen], ys[chosen]], axis=1)
    half = mask[y].sum() / 6
    row = np.round(np.linspace(x - half, x + half, 6))
    prompts["6 in a row"] = np.stack([row, np.full(6, y)], axis=1)
    return prompts


if __name__ == "__main__":
    typer.run(main)
