"""MobileSAM's claim in miniature: decoupled against semi-coupled and coupled distillation.

    python benchmarks/decoupled_vs_coupled.py data/bbbc038 --minutes 30 --out runs/miniature

The same narrow TinyViT begins from the same random weights, learns from the same crops in the same
order, and has the same time, three times; only the loss differs. Then all are measured on the same
validation images: agreement with the teacher, and IoU with the labels. Run nothing beside it. It
goes on where it was when it is started again; docs/distill.md has the result.
"""

import json
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

import samlet
from samlet.distill.coupled_training import MaskPupil
from samlet.distill.data import Crops, load_examples
from samlet.distill.embedding_training import EmbeddingLearner, Pupil, finish, teaching_of
from samlet.distill.loop import LoopSettings, train
from samlet.distill.precision import open_accelerator
from samlet.distill.teaching import unlabelled
from samlet.evaluation import agreement, prompts
from samlet.evaluation.measure import measure_agreement, measure_prompts
from samlet.evaluation.tables import Table, format_table
from samlet.files import atomic_path
from samlet.modeling.image_encoder import TINY_VITS
from samlet.modeling.sam import Sam, SamConfig

MODES = ("decoupled", "semi-coupled", "coupled")
VALIDATION = Path(__file__).parents[1] / "recipes" / "nuclei-validation.txt"
TRIAL_STEPS = 30
LEARNING_RATES = {"decoupled": 2e-3, "semi-coupled": 1e-3, "coupled": 1e-3}


def main(
    data: Annotated[Path, typer.Argument(help="Folder with images/ and labels/ of BBBC038.")],
    out: Annotated[Path, typer.Option(help="Folder of the three runs.")] = Path("runs/miniature"),
    teacher: Annotated[str, typer.Option(help="A model's name or file.")] = "nuclei",
    minutes: Annotated[float, typer.Option(help="For each of the three.")] = 30,
    images: Annotated[int, typer.Option(help="Validation images to measure.")] = 20,
) -> None:
    """Train the three, measure them, print the table."""
    names = {line for line in VALIDATION.read_text().splitlines() if not line.startswith("#")}
    training = load_examples(data, without=names)
    validation = load_examples(data, only=names)[:images]
    teacher_model = samlet.load(teacher)
    table: Table = {}
    for mode in MODES:
        path = out / mode / "figures.json"
        if not path.exists():
            model, steps = _distil(mode, teacher_model, training, minutes, out / mode)
            figures = _measure(teacher_model, model, validation) | {"steps": steps}
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(figures))
        table[mode] = json.loads(path.read_text())
    scores = prompts.summary(measure_prompts(teacher_model, validation))["all"]
    table["teacher"] = {f"IoU, {k}": scores[k] for k in ("click", "box")}
    print(f"{minutes:g} minutes each, {torch.get_num_threads()} threads\n")
    print(format_table(table, "mode"))


def _distil(mode: str, teacher: Sam, training: list, minutes: float, out: Path) -> tuple[Sam, int]:
    size = teacher.config.image_size
    lessons = unlabelled(Crops(training, size, crop_size=256, batch_size=8, seed=1))

    def learn(steps: int, folder: Path) -> tuple[nn.Module, Sam]:
        torch.manual_seed(0)
        student = Sam(SamConfig(image_size=size, tiny_vit=TINY_VITS["tiny_vit_2m"]))
        teach = teaching_of(teacher)
        learner: Pupil = EmbeddingLearner(student, teach)
        if mode != "decoupled":
            learner = MaskPupil(student, teacher, mode == "coupled", clicks=4, teach=teach)
        settings = LoopSettings(steps, LEARNING_RATES[mode], seed=1)
        return train(learner, lessons, settings, folder, open_accelerator()), student

    plan = out / "steps.json"
    if not plan.exists():
        # The schedule has to know how many steps fit into the time.
        learn(TRIAL_STEPS // 3, out / "warm-up")
        begun = time.monotonic()
        learn(TRIAL_STEPS, out / "trial")
        seconds = (time.monotonic() - begun) / TRIAL_STEPS
        with atomic_path(plan) as temporary:
            temporary.write_text(json.dumps(round(minutes * 60 / seconds)))
    steps: int = json.loads(plan.read_text())
    averaged, student = learn(steps, out / "train")
    model = finish(averaged, student, teacher, lessons)
    samlet.save(model, out / "model.safetensors")
    return model, steps


def _measure(teacher: Sam, model: Sam, validation: list) -> dict[str, float]:
    pictures = ((example.name, example.image) for example in validation)
    agreed = agreement.summary(measure_agreement(teacher, model, pictures, len(validation)))
    scores = prompts.summary(measure_prompts(model, validation))["all"]
    return {f"agreement, {k}": agreed[k]["mIoU"] for k in ("point", "box")} | {
        f"IoU, {k}": scores[k] for k in ("click", "box")
    }


if __name__ == "__main__":
    typer.run(main)
