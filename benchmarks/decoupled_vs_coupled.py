"""MobileSAM's claim in miniature: decoupled against semi-coupled and coupled distillation.

    python benchmarks/decoupled_vs_coupled.py data/bbbc038 --minutes 30 --out runs/miniature

Trains the same narrow TinyViT three times, from the same random weights, on the same crops in the
same order and for the same time; only the loss differs. Then measures all on the same validation
images: agreement with the teacher, and IoU with the labels. Run nothing beside it. If interrupted,
it resumes when it is started again; docs/distill.md has the result.
"""

import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
import typer
from common import Data
from torch import nn
from validation import names as validation_names

import samlet
from samlet.datasets.examples import Example, load_examples
from samlet.evaluation.agreement import summarize_agreement
from samlet.evaluation.measure import measure_agreement, measure_prompts
from samlet.evaluation.single_prompts import summarize_prompts
from samlet.evaluation.tables import Table, format_table
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.tiny_vit import TINY_VITS
from samlet.training.accelerator import open_accelerator
from samlet.training.distillation.batches import without_labels
from samlet.training.distillation.coupled import MaskDistiller
from samlet.training.distillation.decoupled import (
    Distiller,
    EmbeddingDistiller,
    assemble_student,
    teacher_embed_fn,
)
from samlet.training.finetuning.crops import Crops
from samlet.training.loop import train
from samlet.training.settings import LoopSettings
from samlet.training.stream import Batches
from samlet.utils.files import atomic_path

MODES = ("decoupled", "semi-coupled", "coupled")
TRIAL_STEPS = 30
LEARNING_RATES = {"decoupled": 2e-3, "semi-coupled": 1e-3, "coupled": 1e-3}


def main(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the three runs.")] = Path("runs/miniature"),
    teacher: Annotated[str, typer.Option(help="A name, or a checkpoint.")] = "microscopy",
    minutes: Annotated[float, typer.Option(help="Training time of each run.")] = 30,
    images: Annotated[int, typer.Option(help="Validation images to measure.")] = 20,
) -> None:
    """Train three models, measure them, and print the table."""
    names = set(validation_names())
    training = load_examples(data, without=names)
    validation = load_examples(data, only=names)[:images]
    teacher_model = samlet.load(teacher)
    reference = samlet.Predictor(teacher_model, "torch")
    runs = {mode: Run(mode, teacher_model, training, out / mode) for mode in MODES}
    # Time all before training any, so that all have the same conditions.
    steps = {mode: run.steps_within(minutes) for mode, run in runs.items()}
    table: Table = {}
    for mode, run in runs.items():
        path = run.out / "figures.json"
        if not path.exists():
            model = run.distil(steps[mode])
            figures = _measure(reference, samlet.Predictor(model, "torch"), validation) | {
                "steps": steps[mode]
            }
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(figures))
        table[mode] = json.loads(path.read_text())
    scores = summarize_prompts(measure_prompts(reference, validation))["all"]
    table["teacher"] = {f"IoU, {k}": scores[k] for k in ("click", "box")}
    print(f"{minutes:g} minutes each, {torch.get_num_threads()} threads\n")
    print(format_table(table, "mode"))


@dataclass(frozen=True)
class Run:
    """A training run of one mode.

    Attributes:
        mode: one of `MODES`.
        teacher: the model whose embeddings or masks are learnt.
        training: labelled images, whose labels are not used.
        out: folder of its state and model.
    """

    mode: str
    teacher: Sam
    training: list[Example]
    out: Path

    def steps_within(self, minutes: float) -> int:
        """Number of steps in that time, which the learning-rate schedule needs beforehand."""
        plan = self.out / "steps.json"
        if not plan.exists():
            self._train(TRIAL_STEPS // 3, self.out / "warm-up")
            start = time.monotonic()
            self._train(TRIAL_STEPS, self.out / "trial")
            seconds = (time.monotonic() - start) / TRIAL_STEPS
            with atomic_path(plan) as temporary:
                temporary.write_text(json.dumps(round(minutes * 60 / seconds)))
        steps: int = json.loads(plan.read_text())
        return steps

    def distil(self, steps: int) -> Sam:
        """Train, and assemble a complete model."""
        averaged, student = self._train(steps, self.out / "train")
        model = assemble_student(averaged, student, self.teacher, self._batches)
        samlet.save(model, self.out / "model.safetensors")
        return model

    @cached_property
    def _batches(self) -> Batches:
        size = self.teacher.config.image_size
        return without_labels(Crops(self.training, size, crop_size=256, batch_size=8, seed=1))

    def _train(self, steps: int, folder: Path) -> tuple[nn.Module, Sam]:
        torch.manual_seed(0)
        config = SamConfig(
            image_size=self.teacher.config.image_size, tiny_vit=TINY_VITS["tiny_vit_2m"]
        )
        student, teacher_embed = Sam(config), teacher_embed_fn(self.teacher)
        learner: Distiller = EmbeddingDistiller(student, teacher_embed)
        if self.mode != "decoupled":
            coupled = self.mode == "coupled"
            learner = MaskDistiller(
                student, self.teacher, coupled, clicks=4, teacher_embed=teacher_embed
            )
        settings = LoopSettings(steps=steps, learning_rate=LEARNING_RATES[self.mode], seed=1)
        return train(learner, self._batches, settings, folder, open_accelerator()), student


def _measure(
    teacher: samlet.Predictor, student: samlet.Predictor, validation: list[Example]
) -> dict[str, float]:
    images = ((example.name, example.image) for example in validation)
    agreement = summarize_agreement(measure_agreement(teacher, student, images, len(validation)))
    scores = summarize_prompts(measure_prompts(student, validation))["all"]
    return {f"agreement, {k}": agreement[k]["mIoU"] for k in ("point", "box")} | {
        f"IoU, {k}": scores[k] for k in ("click", "box")
    }


if __name__ == "__main__":
    typer.run(main)
