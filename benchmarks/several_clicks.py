"""Several clicks at once, as from a scribble, against one.

    python benchmarks/several_clicks.py data/bbbc038 --images 12

On some nuclei of at least 60 pixels in each validation image. The prompts are the deepest point of
a nucleus, some random points of it, or six points in a row across it. Prints the mean IoU with the
label; docs/developers/nuclei-training-log.md has the result.
"""

from collections import defaultdict
from typing import Annotated

import numpy as np
import typer
from common import Data, ModelName
from validation import spread

import samlet
from samlet.datasets.examples import load_examples
from samlet.datasets.layers import iter_objects
from samlet.evaluation.tables import format_table
from samlet.masks import deepest_point, iou

MIN_AREA = 60
RANDOM_CLICKS = (2, 3, 6)


def main(
    data: Data,
    images: Annotated[int, typer.Option(help="Number of validation images.")] = 12,
    count: Annotated[int, typer.Option("--objects", help="Objects per image, at most.")] = 6,
    name: ModelName = "microscopy",
) -> None:
    """Measure, and print the table."""
    examples = load_examples(data, only=spread(images))
    predictor = samlet.Predictor(samlet.load(name))
    rng = np.random.default_rng(0)
    ious: dict[str, list[float]] = defaultdict(list)
    for example in examples:
        embedding = predictor.encode(example.image)
        masks = [mask for _, mask in iter_objects(example.labels) if mask.sum() >= MIN_AREA]
        for mask in (masks[i] for i in rng.permutation(len(masks))[:count]):
            for clicks, points in _prompts(mask, rng).items():
                prediction = predictor.segment(
                    embedding, points, np.ones(len(points)), multimask_output=len(points) == 1
                )
                ious[clicks].append(iou(prediction.best, mask))
    table = {
        clicks: {"objects": len(some), "IoU": float(np.mean(some))} for clicks, some in ious.items()
    }
    print(format_table(table, "clicks"))


def _prompts(mask: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Clicks, N x 2 of (x, y) in pixels, by name."""
    x, y = deepest_point(mask)
    ys, xs = np.nonzero(mask)
    prompts = {"deepest point": np.array([[x, y]])}
    for count in RANDOM_CLICKS:
        chosen = rng.integers(len(xs), size=count)
        prompts[f"{count} random points"] = np.stack([xs[chosen], ys[chosen]], axis=1)
    half = mask[y].sum() / 6
    row = np.round(np.linspace(x - half, x + half, 6))
    prompts["6 points in a row"] = np.stack([row, np.full(6, y)], axis=1)
    return prompts


if __name__ == "__main__":
    typer.run(main)
