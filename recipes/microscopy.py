"""Make the bundled model `microscopy` from the model `nuclei` and three sets of open data.

    python -m recipes.microscopy train   runs/nuclei.safetensors kinds   DATA runs/kinds
    python -m recipes.microscopy train   runs/kinds              general DATA runs/general
    python -m recipes.microscopy train   runs/general            dense   DATA runs/dense
    python -m recipes.microscopy average runs                    average
    python -m recipes.microscopy train   runs/average            long    DATA runs/long
    python -m recipes.microscopy average runs                    second-average
    python -m recipes.microscopy train   runs/second-average     head    DATA runs/head
    python -m recipes.microscopy measure DATA runs/head
    python -m recipes.microscopy bundle  runs

DATA holds the folders `bbbc038`, `usiigaci` and `axons_sem`, each with images/ and labels/, and
`sprites`, written by `python -m recipes.scenes.sprites`. `make microscopy DATA=...` runs them one
after the other. Each can be stopped and run again with the same words, and is resumed.
`docs/developers/microscopy-training-log.md` says what each gave.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

import samlet
from recipes import nuclei
from recipes.nuclei import DETAIL_SIZE, FIGURES, history, train_prompts, validation_names
from recipes.scenes.dataset import Scenes
from samlet.checkpoints.loading import BUNDLED
from samlet.datasets.examples import Example, load_examples, microscopy_kind
from samlet.evaluation.measure import WITH_LABELS, measure_with_labels
from samlet.training.accelerator import open_accelerator
from samlet.training.finetuning.crops import Crops
from samlet.training.finetuning.prompt_trainer import PromptPlan, PromptTrainer
from samlet.training.settings import LoopSettings
from samlet.utils.files import atomic_path

MODEL = "model.safetensors"
"""The file of a run that holds its model."""

CROP_SIZE = 512
BATCH_SIZE = 4

VALIDATION = Path(__file__).with_name("microscopy-validation.txt")

SETS = ("bbbc038", "usiigaci", "axons_sem")
KINDS = {"usiigaci": "cells", "axons_sem": "axons"}
"""The kinds of the sets that have only one; nuclei differ by how they were taken."""


@dataclass(frozen=True)
class Stage:
    """What a stage trains on, four crops a step, and how.

    Attributes:
        shares: of the crops of real images, by what they show.
        scenes: share of synthetic scenes among all crops.
        plan: the prompts.
        steps: how many.
        learning_rate: at its peak.
        ema: decay of the averaged weights.
        seed: of crops and prompts.
        train: all of the model, or its proposal head alone.
        weight_decay: of the optimizer.
        scale_jitter, zoom_share: see `Crops`.
    """

    shares: dict[str, float]
    scenes: float
    plan: PromptPlan
    steps: int
    learning_rate: float
    ema: float
    seed: int
    train: Literal["all", "head"] = "all"
    weight_decay: float = 0.02
    scale_jitter: tuple[float, float] = (0.45, 1.4)
    zoom_share: float = 0.6


PLAN = replace(
    nuclei.CROWD_PLAN,
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
DENSE_PLAN = replace(PLAN, objects=6, correction_share=0.08, corrections=3)
"""More prompts a crop, and hardly any corrective clicks: more is learnt in the same time."""

StageName = Literal["kinds", "general", "dense", "long", "head"]

STAGES: dict[StageName, Stage] = {
    "kinds": Stage(
        {"fluorescence": 0.2, "stained": 0.21, "brightfield": 0.17, "cells": 0.27, "axons": 0.15},
        0, PLAN, steps=1880, learning_rate=2.5e-4, ema=0.999, seed=21,
    ),
    "general": Stage(
        {"fluorescence": 0.16, "stained": 0.17, "brightfield": 0.12, "cells": 0.36, "axons": 0.19},
        0.32, PLAN, steps=2300, learning_rate=2.5e-4, ema=0.999, seed=22,
    ),
    "dense": Stage(
        {"fluorescence": 0.19, "stained": 0.16, "brightfield": 0.15, "cells": 0.33, "axons": 0.17},
        0.25, DENSE_PLAN, steps=220, learning_rate=8e-4, ema=0.999, seed=22,
    ),
    "long": Stage(
        {"fluorescence": 0.17, "stained": 0.15, "brightfield": 0.14, "cells": 0.35, "axons": 0.19},
        0.18, DENSE_PLAN, steps=1450, learning_rate=8e-4, ema=0.999, seed=51,
    ),
    "head": Stage(
        {"fluorescence": 0.18, "stained": 0.16, "brightfield": 0.16, "cells": 0.3, "axons": 0.2},
        0.15, PLAN, steps=450, learning_rate=2e-3, ema=0.99, seed=41, train="head",
        weight_decay=0.01, scale_jitter=(0.3, 1.6), zoom_share=0.5,
    ),
}  # fmt: skip

CARD = {
    "summary": "microscopy: nuclei, phase-contrast cells, axons, and similar objects, 1024 px",
    "architecture": "TinyViT (dims 32/64/128/192, depths 2/2/8/4), SAM's prompt encoder and mask "
    "decoder, proposal head",
    "data": "BBBC038v1 (506 images of nuclei), Usiigaci (36 of phase-contrast cells), "
    "data_axondeepseg_sem (6 of axons), and synthetic scenes with pictures of "
    "@lobehub/fluent-emoji-3d; 68 more images for validation, never trained on",
    "data licence": "CC0 (BBBC038v1), MIT (the others)",
    "licence": "Apache-2.0",
    "recipe": "recipes/microscopy.py: the model of recipes/nuclei.py, which was distilled from a "
    "light teacher, finetuned with masks on all sets and on synthetic scenes in several runs, and "
    "averaged over these",
    "limits": "Made for microscopy; on photographs a click often gives a part of the object. "
    "Images of one experiment are in training and validation, so new experiments may do worse.",
    # Answer from a part of the image that shows the object large: see samlet.predict.zoom.
    "zoom": True,
    # What everything mode uses by default: with its proposals, and with points.
    "proposals": {
        "pred_iou_thresh": 0.65,
        "stability_score_thresh": 0.5,
        "max_covered": 0.5,
    },
    "everything": nuclei.EVERYTHING | {"stability_score_thresh": 0.4},
}

AverageName = Literal["average", "second-average"]

AVERAGES: dict[AverageName, dict[str, float]] = {
    "average": {"kinds": 0.4, "general": 0.3, "dense": 0.3},
    "second-average": {"average": 0.5, "long": 0.5},
}
"""How much of each run is in an average."""

app = typer.Typer(no_args_is_help=True, add_completion=False)
Data = Annotated[Path, typer.Argument(help="Folder of the three sets.")]
Out = Annotated[Path, typer.Argument(help="Folder of this run.")]
Runs = Annotated[Path, typer.Argument(help="Folder that holds the runs.")]


def model_of(run: Path) -> Path:
    """The checkpoint of a run's folder, or a checkpoint as it is."""
    return run / MODEL if run.is_dir() else run


def kept_out(name: str) -> set[str]:
    """The images of a set that are never trained on."""
    if name == "bbbc038":
        return validation_names()
    lines = VALIDATION.read_text().splitlines()
    return {line.split("/")[1] for line in lines if line.startswith(f"{name}/")}


def kind_of(name: str, example: Example) -> str:
    """What an image of a set shows."""
    return KINDS.get(name) or microscopy_kind(example.image)


def training_set(data: Path, shares: dict[str, float]) -> tuple[list[Example], list[float]]:
    """The images to train on, and how often to draw each, so that kinds have their shares."""
    examples, kinds = [], []
    for name in SETS:
        found = load_examples(data / name, without=kept_out(name))
        examples += found
        kinds += [kind_of(name, example) for example in found]
    # Crowded images are drawn more often.
    crowds = [math.sqrt(max(1, len(example.boxes))) for example in examples]
    totals = dict.fromkeys(shares, 0.0)
    for kind, crowd in zip(kinds, crowds, strict=True):
        totals[kind] += crowd
    return examples, [
        shares[kind] * crowd / totals[kind] for kind, crowd in zip(kinds, crowds, strict=True)
    ]


@app.command()
def train(
    start: Annotated[Path, typer.Argument(help="The run or checkpoint to begin with.")],
    stage: Annotated[StageName, typer.Argument(help="See the training log.")],
    data: Data,
    out: Out,
) -> None:
    """Train a model further with masks, and its proposal head."""
    chosen = STAGES[stage]
    examples, weights = training_set(data, chosen.shares)
    scenes = Scenes(data / "sprites")
    weights = [(1 - chosen.scenes) * weight for weight in weights]
    weights += [chosen.scenes / len(scenes)] * len(scenes)
    torch.manual_seed(chosen.seed)
    model = samlet.load(model_of(start))
    assert model.config.image_size == DETAIL_SIZE
    accelerator = open_accelerator(all_used=False)
    crops = Crops(
        _Joined(examples, scenes), DETAIL_SIZE, CROP_SIZE,
        BATCH_SIZE // accelerator.num_processes, chosen.seed, weights, chosen.scale_jitter,
        chosen.zoom_share,
        rank=accelerator.process_index, world=accelerator.num_processes,
    )  # fmt: skip
    settings = LoopSettings(
        steps=chosen.steps, learning_rate=chosen.learning_rate, seed=chosen.seed, ema=chosen.ema,
        weight_decay=chosen.weight_decay,
    )  # fmt: skip
    learner = PromptTrainer(model, chosen.plan, chosen.train)
    train_prompts(learner, crops, out, settings, accelerator)


class _Joined:
    """Examples in memory, followed by scenes that are drawn when they are needed."""

    def __init__(self, examples: list[Example], scenes: Scenes) -> None:
        self._examples, self._scenes = examples, scenes

    def __len__(self) -> int:
        return len(self._examples) + len(self._scenes)

    def __getitem__(self, index: int) -> Example:
        drawn = index - len(self._examples)
        return self._examples[index] if drawn < 0 else self._scenes[drawn]


@app.command()
def average(
    runs: Runs, name: Annotated[AverageName, typer.Argument(help="Of the run to write.")]
) -> None:
    """Average the weights of runs, which is better than each of them: arXiv 2203.05482."""
    shares = AVERAGES[name]
    states = {run: samlet.load(runs / run / MODEL).state_dict() for run in shares}
    model = samlet.load(runs / next(reversed(shares)) / MODEL)
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(sum(share * states[run][key] for run, share in shares.items()))
    out = runs / name
    out.mkdir(exist_ok=True)
    samlet.save(model, out / MODEL)


@app.command()
def measure(
    data: Data,
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or checkpoints.")],
    only: Annotated[list[str] | None, typer.Option(help="Some of the measurements.")] = None,
) -> None:
    """Print how good models are on the validation images of each set, and keep it."""
    measurements = tuple(only or WITH_LABELS)
    for run in runs:
        path = model_of(run)
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


@app.command()
def bundle(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="The file to write.")] = BUNDLED["microscopy"],
) -> None:
    """Write the model in half precision, with its card, into the package."""
    card = CARD | history(runs, STAGES)
    card["figures"] = json.loads((runs / "head" / FIGURES).read_text())
    samlet.save(samlet.load(runs / "head" / MODEL), out, card, torch.float16)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    app()
