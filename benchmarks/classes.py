"""Classes learned from a few examples of each: how many of the other objects get the right one.

    python -m benchmarks.classes ../shared/data --images 3

On validation images of the sets of `recipes/microscopy.py`, each by itself, with examples that are
drawn with fixed seeds. The classes are: labelled objects and parts of the rest of the image that
are about as large (superpixels); and the two fifths of the objects that have the highest area,
eccentricity or intensity, and the two fifths that have the lowest. Prints the share of the other
objects that get the right class, as a mean of images and draws. Half would be right by chance.
"""

from collections import defaultdict
from typing import Annotated

import numpy as np
import typer
from benchmarks.common import ModelName
from benchmarks.similar import Sets, choose_examples, upper_left
from skimage.measure import label as connected
from skimage.segmentation import slic

import samlet
from recipes.microscopy import SETS
from samlet.datasets.examples import Example
from samlet.evaluation.tables import format_table
from samlet.masks import from_label_map
from samlet.measurements import measure_objects

EXAMPLES = (1, 3, 10)
DRAWS = 5
MIN_OBJECTS = 40
MAX_OBJECTS = 150
"""Of each class and image."""
MIN_AREA = 30
QUANTILES = (0.4, 0.6)


def main(
    data: Sets,
    model: ModelName = "microscopy",
    images: Annotated[int, typer.Option(help="Images of each kind, at most.")] = 3,
) -> None:
    """Measure, and print a table for each kind."""
    predictor = samlet.Predictor(samlet.load(model), precision="float32")
    right: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for name in SETS:
        for kind, example in choose_examples(data / name, name, 3 * images, training=False):
            if len(example.boxes) >= MIN_OBJECTS and len(right[kind]["images"][0]) < images:
                right[kind]["images"][0].append(1.0)
                for task, (features, classes) in _tasks(predictor, upper_left(example)).items():
                    for count in EXAMPLES:
                        right[kind][task][count] += _share_right(features, classes, count)
    for kind, by_task in right.items():
        used = len(by_task.pop("images")[0])
        rows = {
            task: {f"{count} each": float(np.mean(by_count[count])) for count in EXAMPLES}
            for task, by_count in by_task.items()
        }
        print(f"\n{kind}: {used} images\n\n{format_table(rows, 'classes')}", flush=True)


def _tasks(
    predictor: samlet.Predictor, example: Example
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features and classes of objects of an image, by what the classes are."""
    rng = np.random.default_rng(0)
    labels = example.labels.max(axis=0)
    objects = _masks(labels, rng)
    sizes = [mask.sum() for mask in objects]
    parts = slic(example.image, int(labels.size / np.median(sizes)), start_label=1)
    others = _masks(connected(np.where(labels > 0, 0, parts)), rng)
    features = samlet.object_features(predictor, example.image, objects)
    of_others = samlet.object_features(predictor, example.image, others)
    names = np.array(["object"] * len(objects) + ["rest"] * len(others))
    tasks = {"objects, the rest": (np.concatenate([features, of_others]), names)}
    grey = example.image.mean(axis=2)
    measured = [measure_objects(mask.astype(np.uint8), grey) for mask in objects]
    for task, column in (
        ("large, small", "area_px"),
        ("long, round", "eccentricity"),
        ("bright, dark", "mean"),
    ):
        values = np.array([one[column][0] for one in measured])
        low, high = np.quantile(values, QUANTILES)
        kept = (values <= low) | (values >= high)
        tasks[task] = features[kept], np.where(values >= high, "high", "low")[kept]
    return tasks


def _masks(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    masks = [mask for _, mask in from_label_map(labels) if mask.sum() >= MIN_AREA]
    return [masks[i] for i in rng.permutation(len(masks))[:MAX_OBJECTS]]


def _share_right(features: np.ndarray, classes: np.ndarray, count: int) -> list[float]:
    shares = []
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(classes))
        known = np.concatenate(
            [[i for i in order if classes[i] == name][:count] for name in np.unique(classes)]
        )
        rest = np.setdiff1d(order, known)
        classifier = samlet.ObjectClassifier().fit(features[known], classes[known].tolist())
        predicted = np.array(classifier.predict(features[rest]).classes)
        shares.append(float((predicted == classes[rest]).mean()))
    return shares


if __name__ == "__main__":
    typer.run(main)
