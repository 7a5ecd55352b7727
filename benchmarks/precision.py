"""The image encoder in float32 and in bfloat16: mean IoU by kind of image, and seconds.

    python benchmarks/precision.py data/bbbc038
    python benchmarks/precision.py data/bbbc038 --everything

On the validation images of the `nuclei` recipe. Both precisions take turns, image by image, so that
a slow minute of the machine affects both. Needs a processor that computes in bfloat16. The IoU does
not depend on what else runs; the seconds do, so run nothing beside it for those. docs/speed.md has
the result, and `speed.py` compares the encoder with the official package's.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated

import torch
import typer
from common import Data, ModelName
from rich.progress import track
from validation import names as validation_names

import samlet
from samlet.datasets.examples import Example, load_examples, microscopy_kind
from samlet.evaluation.everything_mode import evaluate_everything, summarize_everything
from samlet.evaluation.single_prompts import evaluate_prompts, summarize_prompts
from samlet.evaluation.tables import Table, format_table

SINGLE, HALF = "float32", "bfloat16"
PRECISIONS = (SINGLE, HALF)


def main(
    data: Data,
    count: Annotated[int | None, typer.Option("--images", help="Images; default: all.")] = None,
    name: ModelName = "microscopy",
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    everything: Annotated[
        bool, typer.Option("--everything", help="Measure everything mode, not clicks and boxes.")
    ] = False,
) -> None:
    """Measure, and print the tables."""
    model = samlet.load(name)
    predictors = {
        precision: samlet.Predictor(model, engine, precision=precision) for precision in PRECISIONS
    }
    examples = load_examples(data, only=set(validation_names()))[:count]
    used = predictors[SINGLE].engine.name
    print(f"{name}, {used}, {len(examples)} images, {torch.get_num_threads()} threads\n")
    measure = _everything if everything else _prompts
    print(format_table(_side_by_side(measure(predictors, examples))))
    print(f"\n{format_table(_seconds(predictors, examples), 'encode')}")


def _prompts(
    predictors: dict[str, samlet.Predictor], examples: Sequence[Example]
) -> dict[str, Table]:
    """Clicks and boxes."""
    runs = [evaluate_prompts(p, examples, group_of=microscopy_kind) for p in predictors.values()]
    scores = defaultdict(list)
    for image in track(zip(*runs, strict=True), "Clicks and boxes", len(examples)):
        for precision, own in zip(predictors, image, strict=True):
            scores[precision] += own
    return {precision: summarize_prompts(own) for precision, own in scores.items()}


def _everything(
    predictors: dict[str, samlet.Predictor], examples: Sequence[Example]
) -> dict[str, Table]:
    runs = [evaluate_everything(p, examples, group_of=microscopy_kind) for p in predictors.values()]
    scores = defaultdict(list)
    for image in track(zip(*runs, strict=True), "Everything", len(examples)):
        for precision, own in zip(predictors, image, strict=True):
            scores[precision].append(own)
    return {precision: summarize_everything(own) for precision, own in scores.items()}


def _side_by_side(tables: dict[str, Table]) -> Table:
    """A row for each kind and precision, and one for the difference of the two."""
    joined: Table = {}
    for kind, single in tables[SINGLE].items():
        half = tables[HALF][kind]
        joined[f"{kind}, {SINGLE}"], joined[f"{kind}, {HALF}"] = single, half
        joined[f"{kind}, difference"] = {
            column: half[column] - single[column]
            for column in single
            if not isinstance(single[column], int)
        }
    return joined


def _seconds(predictors: dict[str, samlet.Predictor], examples: Sequence[Example]) -> Table:
    """Median seconds per image, and the median ratio of float32 to each."""
    times: dict[str, list[float]] = {precision: [] for precision in predictors}
    for example in track(examples, "Encoding"):
        for precision, predictor in predictors.items():
            start = time.perf_counter()
            predictor.encode(example.image)
            times[precision].append(time.perf_counter() - start)
    return {
        precision: {
            "seconds": statistics.median(own),
            "speed-up": statistics.median(
                single / each for single, each in zip(times[SINGLE], own, strict=True)
            ),
        }
        for precision, own in times.items()
    }


if __name__ == "__main__":
    typer.run(main)
