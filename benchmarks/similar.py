"""Find all like these: three labelled objects of each image are examples for the others.

    python -m benchmarks.similar ../shared/data
    python -m benchmarks.similar ../shared/data --training --images 3

On validation images of the sets of `recipes/microscopy.py`, with examples that are drawn with a
fixed seed. All objects of an image are of one kind. Prints precision, recall and F1 of the others
at an IoU of 0.5, by kind, for some likenesses as thresholds, and as reference the same for
everything mode, whose masks on examples are left out. With --training, images that were trained on
are used in their place, to choose the default threshold; large ones only in part.
"""

from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from benchmarks.common import ModelName

import samlet
from recipes.microscopy import SETS, kept_out, kind_of
from samlet import images as image_files
from samlet.datasets.examples import Example, load_examples
from samlet.datasets.layers import iter_objects
from samlet.evaluation.tables import format_table
from samlet.masks import iou_matrix, to_rle

THRESHOLDS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
EXAMPLES = 3
LARGEST = 768
"""Side of the part of an image that is used of larger ones, with --training or --part."""

Sets = Annotated[Path, typer.Argument(help="Folder of the sets, each with images/ and labels/.")]


class Count(NamedTuple):
    """Masks, objects, and how many objects were found."""

    masks: int
    objects: int
    found: int


def main(
    data: Sets,
    model: ModelName = "microscopy",
    images: Annotated[int, typer.Option(help="Images of each kind, at most.")] = 6,
    training: Annotated[bool, typer.Option("--training", help="Use training images.")] = False,
    part: Annotated[bool, typer.Option("--part", help="Use a part of large images.")] = False,
) -> None:
    """Measure, and print a table for each kind."""
    predictor = samlet.Predictor(samlet.load(model), precision="float32")
    counts: dict[str, dict[str, list[Count]]] = defaultdict(lambda: defaultdict(list))
    for name in SETS:
        for kind, example in choose_examples(data / name, name, images, training):
            _measure(predictor, upper_left(example) if part or training else example, counts[kind])
    for kind, by_way in counts.items():
        print(f"\n{kind}: {len(next(iter(by_way.values())))} images\n")
        print(format_table({way: _figures(some) for way, some in by_way.items()}, "likeness"))
    ways = next(iter(counts.values()))
    means = {
        way: {"F1": float(np.mean([_figures(by_way[way])["F1"] for by_way in counts.values()]))}
        for way in ways
    }
    print(f"\nmean of the kinds\n\n{format_table(means, 'likeness')}")


def choose_examples(
    folder: Path, name: str, count: int, training: bool
) -> list[tuple[str, Example]]:
    """So many images of each kind, evenly spread over those that there are."""
    validation = kept_out(name)
    names = [path.stem for path in image_files.find(folder / "images")]
    names = [one for one in names if (one in validation) != training]
    order = np.random.default_rng(0).permutation(len(names))
    chosen: list[tuple[str, Example]] = []
    seen: dict[str, int] = defaultdict(int)
    for i in order[: 20 * count]:
        (example,) = load_examples(folder, only={names[i]})
        kind = kind_of(name, example)
        if seen[kind] < count and len(example.boxes) > 2 * EXAMPLES:
            seen[kind] += 1
            chosen.append((kind, example))
    return chosen


def upper_left(example: Example) -> Example:
    """A part of an image that is encoded quickly."""
    image, labels = example.image[:LARGEST, :LARGEST], example.labels[:, :LARGEST, :LARGEST]
    return Example(example.name, np.ascontiguousarray(image), labels)


def _measure(predictor: samlet.Predictor, example: Example, counts: dict[str, list[Count]]) -> None:
    objects = [mask for _, mask in iter_objects(example.labels)]
    drawn = np.random.default_rng(len(objects)).choice(len(objects), EXAMPLES, replace=False)
    chosen = [objects[i] for i in drawn]
    others = [to_rle(mask) for i, mask in enumerate(objects) if i not in drawn]
    found = samlet.find_similar(predictor, example.image, chosen, likeness=0)
    for threshold in THRESHOLDS:
        kept = [record for record in found if record["likeness"] >= threshold]
        counts[f"{threshold:.1f}"].append(_count(kept, others))
    records = samlet.segment_everything(predictor, example.image)
    of_examples = iou_matrix(
        [record["segmentation"] for record in records], list(map(to_rle, chosen))
    )
    rest = [r for r, shared in zip(records, of_examples > 0.5, strict=True) if not shared.any()]
    counts["everything"].append(_count(rest, others))


def _count(records: list[dict[str, Any]], truth: list[dict[str, Any]]) -> Count:
    matrix = iou_matrix([record["segmentation"] for record in records], truth)
    return Count(*matrix.shape, int((matrix > 0.5).any(axis=0).sum()))


def _figures(counts: list[Count]) -> dict[str, float]:
    masks, objects, found = np.sum(counts, axis=0).tolist()
    return {
        "masks": masks,
        "objects": objects,
        "precision": found / max(masks, 1),
        "recall": found / objects,
        "F1": 2 * found / (masks + objects),
    }


if __name__ == "__main__":
    typer.run(main)
