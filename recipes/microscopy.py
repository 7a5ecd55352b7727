"""Train a model for microscopy from the model `nuclei` and three sets of open data; not finished.

    python -m recipes.microscopy kinds   DATA runs/kinds   --start runs/proposals/model.safetensors
    python -m recipes.microscopy general DATA runs/general --start runs/kinds/model.safetensors \
        --sprites sprites
    python -m recipes.microscopy measure DATA runs/general

DATA holds the folders `bbbc038`, `usiigaci` and `axons_sem`, each with images/ and labels/. Each
stage can be stopped and run again with the same words, and is resumed.
`docs/developers/microscopy-training-log.md` says what each gave.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

import samlet
from recipes.nuclei import CROWD_PLAN, DETAIL_SIZE, FIGURES, train_prompts, validation_names
from recipes.scenes.dataset import Scenes
from samlet.datasets.examples import Example, load_examples, microscopy_kind
from samlet.evaluation.measure import WITH_LABELS, measure_with_labels
from samlet.training.accelerator import open_accelerator
from samlet.training.finetuning.crops import Crops, IndexedExamples
from samlet.training.finetuning.prompt_trainer import PromptTrainer
from samlet.training.settings import LoopSettings
from samlet.utils.files import atomic_path

CROP_SIZE = 512
BATCH_SIZE = 4

VALIDATION = Path(__file__).with_name("microscopy-validation.txt")

SETS = ("bbbc038", "usiigaci", "axons_sem")
KINDS = {"usiigaci": "cells", "axons_sem": "axons"}
"""The kinds of the sets that have only one; nuclei differ by how they were taken."""

SHARES = {
    "fluorescence": 0.16,
    "stained": 0.17,
    "brightfield": 0.12,
    "cells": 0.36,
    "axons": 0.19,
}
"""How many of the crops show each kind."""

SCENES_SHARE = 0.32
"""How many of the crops of the second stage show synthetic scenes."""

PLAN = replace(
    CROWD_PLAN,
    objects=4,
    box_share=0.5,
    box_jitter=0.05,
    click_in_box_share=0.35,
    correction_share=0.25,
    corrections=6,
    loser_weight=0.3,
    roi_share=0.6,
    whole_share=0.35,
)

app = typer.Typer(no_args_is_help=True, add_completion=False)
Data = Annotated[Path, typer.Argument(help="Folder of the three sets.")]
Out = Annotated[Path, typer.Argument(help="Folder of this run.")]
Start = Annotated[Path, typer.Option(help="The checkpoint of the stage before.")]


def kept_out(name: str) -> set[str]:
    """The images of a set that are never trained on."""
    if name == "bbbc038":
        return validation_names()
    lines = VALIDATION.read_text().splitlines()
    return {line.split("/")[1] for line in lines if line.startswith(f"{name}/")}


def kind_of(name: str, example: Example) -> str:
    """What an image of a set shows."""
    return KINDS.get(name) or microscopy_kind(example.image)


def training_set(data: Path) -> tuple[list[Example], list[float]]:
    """The images to train on, and how often to draw each, so that kinds have their shares."""
    examples, kinds = [], []
    for name in SETS:
        found = load_examples(data / name, without=kept_out(name))
        examples += found
        kinds += [kind_of(name, example) for example in found]
    # Crowded images are drawn more often.
    crowds = [math.sqrt(max(1, len(example.boxes))) for example in examples]
    totals = dict.fromkeys(SHARES, 0.0)
    for kind, crowd in zip(kinds, crowds, strict=True):
        totals[kind] += crowd
    return examples, [
        SHARES[kind] * crowd / totals[kind] for kind, crowd in zip(kinds, crowds, strict=True)
    ]


@app.command()
def kinds(
    data: Data, out: Out, start: Start, steps: int = 120, learning_rate: float = 3e-4
) -> None:
    """Train the model for nuclei further on all three sets, with its proposal head."""
    examples, weights = training_set(data)
    _train(start, examples, weights, out, LoopSettings(
        steps=steps, learning_rate=learning_rate, seed=21, ema=0.998
    ))  # fmt: skip


@app.command()
def general(
    data: Data,
    out: Out,
    start: Start,
    sprites: Annotated[
        Path, typer.Option(help="Folder written by `python -m recipes.scenes.sprites`.")
    ],
    steps: int = 1150,
    learning_rate: float = 2.5e-4,
) -> None:
    """Add synthetic scenes, which teach what an object is where nothing was trained on."""
    examples, weights = training_set(data)
    scenes = Scenes(sprites)
    weights = [(1 - SCENES_SHARE) * weight for weight in weights]
    weights += [SCENES_SHARE / len(scenes)] * len(scenes)
    _train(start, _Joined(examples, scenes), weights, out, LoopSettings(
        steps=steps, learning_rate=learning_rate, seed=22, ema=0.999
    ))  # fmt: skip


class _Joined:
    """Examples in memory, followed by scenes that are drawn when they are needed."""

    def __init__(self, examples: list[Example], scenes: Scenes) -> None:
        self._examples, self._scenes = examples, scenes

    def __len__(self) -> int:
        return len(self._examples) + len(self._scenes)

    def __getitem__(self, index: int) -> Example:
        drawn = index - len(self._examples)
        return self._examples[index] if drawn < 0 else self._scenes[drawn]


def _train(
    start: Path,
    examples: IndexedExamples,
    weights: list[float],
    out: Path,
    settings: LoopSettings,
) -> None:
    torch.manual_seed(settings.seed)
    model = samlet.load(start)
    assert model.config.image_size == DETAIL_SIZE
    accelerator = open_accelerator(all_used=False)
    crops = Crops(
        examples, DETAIL_SIZE, CROP_SIZE, BATCH_SIZE // accelerator.num_processes,
        settings.seed, weights, scale_jitter=(0.45, 1.4), zoom_share=0.6,
        rank=accelerator.process_index, world=accelerator.num_processes,
    )  # fmt: skip
    train_prompts(PromptTrainer(model, PLAN), crops, out, settings, accelerator)


@app.command()
def measure(
    data: Data,
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or checkpoints.")],
    only: Annotated[list[str] | None, typer.Option(help="Some of the measurements.")] = None,
) -> None:
    """Print how good models are on the validation images of each set, and keep it."""
    measurements = tuple(only or WITH_LABELS)
    for run in runs:
        path = run / "model.safetensors" if run.is_dir() else run
        # The published figures are in float32, which every processor has.
        predictor = samlet.Predictor(samlet.load(path), precision="float32")
        figures = {}
        for name in SETS:
            examples = load_examples(data / name, only=kept_out(name))
            group_of = None if name in KINDS else microscopy_kind
            report = measure_with_labels(predictor, examples, group_of, measurements)
            print(f"{path}: {name}\n\n{report.text()}")
            figures[KINDS.get(name, "nuclei")] = report.tables()
        if set(measurements) == set(WITH_LABELS):
            with atomic_path(path.with_name(FIGURES)) as temporary:
                temporary.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    app()
