"""Make the model `nuclei`, with which `microscopy` begins, from BBBC038's images and labels.

    python recipes/nuclei.py teacher  DATA runs/teacher
    python recipes/nuclei.py student  DATA runs/student  --teacher runs/teacher/model.safetensors
    python recipes/nuclei.py finetune DATA runs/finetune --student runs/student/model.safetensors
    python recipes/nuclei.py native   DATA runs/native   --finetuned runs/finetune/model.safetensors
    python recipes/nuclei.py detail   DATA runs/detail   --native runs/native/model.safetensors
    python recipes/nuclei.py zoom     DATA runs/zoom     --detail runs/detail/model.safetensors
    python recipes/nuclei.py deepen   DATA runs/deepen   --zoom runs/zoom/model.safetensors
    python recipes/nuclei.py proposals DATA runs/proposals --deepen runs/deepen/model.safetensors
    python recipes/nuclei.py measure  DATA runs/teacher runs/student runs/proposals
    python recipes/nuclei.py bundle   runs

`make nuclei DATA=...` runs them one after the other. Each can be stopped and run again with the
same words, and is resumed. `docs/developers/nuclei-training-log.md` says what each gave.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from accelerate import Accelerator

import samlet
from samlet.datasets.examples import Example, load_examples, microscopy_kind
from samlet.evaluation.measure import measure_with_labels
from samlet.modeling.efficientnet import EfficientNetEncoder, load_imagenet_weights
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.tiny_vit import TINY_VITS
from samlet.training.accelerator import open_accelerator
from samlet.training.distillation.batches import without_labels
from samlet.training.distillation.decoupled import (
    EmbeddingDistiller,
    assemble_student,
    teacher_embed_fn,
)
from samlet.training.distillation.deepen import deepen_encoder
from samlet.training.distillation.distill import at_size
from samlet.training.finetuning.crops import Crops
from samlet.training.finetuning.prompt_trainer import PromptPlan, PromptTrainer
from samlet.training.loop import train
from samlet.training.run_state import STATE
from samlet.training.settings import LoopSettings
from samlet.utils.files import atomic_path

IMAGE_SIZE = 512
"""Input size of the stages before, in pixels."""

DETAIL_SIZE = 1024
"""Input size of the last three stages, and of the bundled model."""

DEPTHS = (2, 2, 8, 4)
"""Blocks of the bundled model's encoder; until the last stage it has 2, 2, 4 and 2."""

VALIDATION = Path(__file__).with_name("nuclei-validation.txt")
FIGURES = "figures.json"
PLAN = PromptPlan(objects=6)
CROWD_PLAN = PromptPlan(loser_weight=0.5, decoder_crop=256, whole_share=0.5)

EVERYTHING = {
    "points_per_side": 24,
    "pred_iou_thresh": 0.65,
    "stability_score_thresh": 0.6,
    "max_covered": 0.5,
}
"""What everything mode uses by default with points."""

CARD = {
    "summary": "nuclei in fluorescence, stained tissue and brightfield, 1024 px",
    "architecture": "TinyViT (dims 32/64/128/192, depths 2/2/8/4), SAM's prompt encoder and mask "
    "decoder",
    "data": "BBBC038v1, stage 1 training set, 506 images; 60 more for validation, never trained on",
    "data licence": "CC0",
    "licence": "Apache-2.0",
    "teacher": "EfficientNet-Lite0 (ImageNet) with SAM's prompt encoder and mask decoder, trained "
    "with masks on the same images",
    "recipe": "recipes/nuclei.py: decoupled distillation of the teacher's embedding into the "
    "TinyViT (MobileSAM, arXiv 2306.14289), the teacher's decoder plugged on, then finetuned with "
    "masks",
    "limits": "Made for nuclei; not a general model. Images of one experiment are in training and "
    "validation, so new experiments may do worse. Everything mode misses a third of the "
    "nuclei in brightfield.",
    # Answer from a part of the image that shows the object large: see samlet.predict.zoom.
    "zoom": True,
    # What everything mode uses by default with its proposals.
    "proposals": {
        "pred_iou_thresh": 0.75,
        "stability_score_thresh": 0.6,
        "max_covered": 0.5,
    },
    "everything": EVERYTHING,
}

app = typer.Typer(no_args_is_help=True, add_completion=False)
Data = Annotated[Path, typer.Argument(help="Folder with images/ and labels/.")]
Out = Annotated[Path, typer.Argument(help="Folder of this run.")]


def validation_names() -> set[str]:
    """The names that are never trained on."""
    lines = VALIDATION.read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def training_examples(data: Path) -> list[Example]:
    """Everything but the validation images."""
    return load_examples(data, without=validation_names())


@app.command()
def teacher(data: Data, out: Out, steps: int = 1400, learning_rate: float = 6e-4) -> None:
    """Train the teacher with masks: ImageNet's EfficientNet-Lite0 and a fresh SAM decoder."""
    torch.manual_seed(0)
    config = SamConfig(
        image_encoder="efficientnet_lite0",
        image_size=IMAGE_SIZE,
        tiny_vit=None,
        pixel_mean=(127.0, 127.0, 127.0),
        pixel_std=(128.0, 128.0, 128.0),
    )
    model = Sam(config)
    assert isinstance(model.image_encoder, EfficientNetEncoder)
    load_imagenet_weights(model.image_encoder)
    learner = PromptTrainer(model, PLAN, encoder_autocast=False)
    settings = LoopSettings(steps=steps, learning_rate=learning_rate)
    train_prompts(learner, _crops(data, seed=1), out, settings)


@app.command()
def student(
    data: Data,
    out: Out,
    teacher: Annotated[Path, typer.Option(help="The teacher's checkpoint.")],
    steps: int = 1800,
    learning_rate: float = 2e-3,
) -> None:
    """Distil the teacher's embedding into a narrow TinyViT; plug the teacher's decoder on."""
    torch.manual_seed(1)
    teacher_model = samlet.load(teacher)
    model = Sam(SamConfig(image_size=IMAGE_SIZE, tiny_vit=TINY_VITS["tiny_vit_2m"]))
    batches = without_labels(_crops(data, seed=2))
    averaged = train(
        EmbeddingDistiller(model, teacher_embed_fn(teacher_model)),
        batches,
        LoopSettings(steps=steps, learning_rate=learning_rate, seed=1),
        out,
        open_accelerator(),
    )
    samlet.save(
        assemble_student(averaged, model, teacher_model, batches), out / "model.safetensors"
    )


@app.command()
def finetune(
    data: Data,
    out: Out,
    student: Annotated[Path, typer.Option(help="The student's checkpoint.")],
    steps: int = 600,
    learning_rate: float = 5e-4,
) -> None:
    """Train the distilled student further with masks, encoder and decoder."""
    torch.manual_seed(2)
    learner = PromptTrainer(samlet.load(student), PLAN)
    settings = LoopSettings(steps=steps, learning_rate=learning_rate, seed=2)
    train_prompts(learner, _crops(data, seed=3), out, settings)


@app.command()
def native(
    data: Data,
    out: Out,
    finetuned: Annotated[Path, typer.Option(help="The finetuned checkpoint.")],
    steps: int = 8000,
    learning_rate: float = 5e-4,
) -> None:
    """Finetune at the size at which the model will be used.

    In crops of 256 pixels the decoder never meets a distractor farther away than that, and in whole
    images it then marks bits of far objects.
    """
    torch.manual_seed(3)
    plan = replace(CROWD_PLAN, objects=7, correction_share=0.25, corrections=3)
    settings = LoopSettings(steps=steps, learning_rate=learning_rate, seed=3, ema=0.999)
    _train_on_crowded_images(
        samlet.load(finetuned), plan, data, out, settings, scale_jitter=(0.7, 1.6)
    )


@app.command()
def detail(
    data: Data,
    out: Out,
    native: Annotated[Path, typer.Option(help="The checkpoint trained at 512 pixels.")],
    steps: int = 6450,
    learning_rate: float = 5e-4,
) -> None:
    """Finetune at twice the input size, on crops of half the image.

    At 512 a small nucleus is two or three pixels wide in the decoder's masks, which then cannot
    be right. Crops keep a step as cheap as before.
    """
    torch.manual_seed(3)
    plan = replace(CROWD_PLAN, objects=6, box_share=0.45, correction_share=0.5, corrections=5)
    settings = LoopSettings(steps=steps, learning_rate=learning_rate, seed=3, ema=0.999)
    model = at_size(samlet.load(native), DETAIL_SIZE)
    _train_on_crowded_images(model, plan, data, out, settings, scale_jitter=(0.45, 1.4))


@app.command()
def zoom(
    data: Data,
    out: Out,
    detail: Annotated[Path, typer.Option(help="The checkpoint trained at 1024 pixels.")],
    steps: int = 4350,
    learning_rate: float = 2e-4,
) -> None:
    """Finetune on what is seen when zoomed in, and go on with what is seen when not."""
    torch.manual_seed(4)
    plan = replace(
        CROWD_PLAN,
        objects=6,
        box_share=0.45,
        box_jitter=0.05,
        correction_share=0.3,
        corrections=4,
        roi_share=0.6,
    )
    settings = LoopSettings(steps=steps, learning_rate=learning_rate, seed=4, ema=0.999)
    _train_on_crowded_images(
        samlet.load(detail), plan, data, out, settings, (0.45, 1.4), zoom_share=0.65
    )


@app.command()
def deepen(
    data: Data,
    out: Out,
    zoom: Annotated[Path, typer.Option(help="The checkpoint that zooms in.")],
    steps: int = 1850,
    learning_rate: float = 2.5e-4,
) -> None:
    """Give the encoder twice the blocks where the image is small, and learn on.

    Several clicks at once are new to the model, too. Up to eight corrective clicks on a quarter of
    the prompts, so that clicking on makes no mask worse.
    """
    torch.manual_seed(11)
    plan = replace(
        CROWD_PLAN,
        objects=4,
        box_share=0.35,
        box_jitter=0.05,
        correction_share=0.25,
        corrections=8,
        roi_share=0.7,
        whole_share=0.35,
    )
    settings = LoopSettings(steps=steps, learning_rate=learning_rate, seed=11, ema=0.999)
    model = deepen_encoder(samlet.load(zoom), DEPTHS)
    _train_on_crowded_images(
        model, plan, data, out, settings, (0.45, 1.4), zoom_share=0.72, crops=4
    )


@app.command()
def proposals(
    data: Data,
    out: Out,
    deepen: Annotated[Path, typer.Option(help="The checkpoint of the deeper encoder.")],
    steps: int = 1500,
    learning_rate: float = 2e-3,
) -> None:
    """Add the head that finds objects for everything mode; masks stay as they are.

    It sees objects at all scales: small ones as in a whole image at half the input size, and large
    ones as in the regions in which they are outlined.
    """
    torch.manual_seed(12)
    settings = LoopSettings(
        steps=steps, learning_rate=learning_rate, seed=12, ema=0.99, weight_decay=0.01
    )
    _train_on_crowded_images(
        samlet.load(deepen), PromptPlan(), data, out, settings, (0.3, 1.6), 0.5, 4, "head"
    )


def _train_on_crowded_images(
    model: Sam,
    plan: PromptPlan,
    data: Path,
    out: Path,
    settings: LoopSettings,
    scale_jitter: tuple[float, float],
    zoom_share: float = 0.0,
    crops: int = 2,
    train_only: Literal["all", "head"] = "all",
) -> None:
    """Learn masks from some crops a step; crowded images are drawn more often."""
    accelerator = open_accelerator(all_used=False)
    examples = training_examples(data)
    crowds = [math.sqrt(max(1, len(np.unique(e.labels)) - 1)) for e in examples]
    weights = [a * b for a, b in zip(crowds, _balance(examples), strict=True)]
    batches = Crops(
        examples, model.config.image_size, IMAGE_SIZE, crops // accelerator.num_processes,
        settings.seed, weights, scale_jitter, zoom_share,
        rank=accelerator.process_index, world=accelerator.num_processes,
    )  # fmt: skip
    train_prompts(PromptTrainer(model, plan, train_only), batches, out, settings, accelerator)


def _balance(examples: list[Example]) -> list[float]:
    """The rarer kinds of image are drawn three times as often."""
    return [1.0 if microscopy_kind(e.image) == "fluorescence" else 3.0 for e in examples]


def _crops(data: Path, seed: int) -> Crops:
    examples = training_examples(data)
    return Crops(examples, IMAGE_SIZE, 256, 8, seed, _balance(examples))


def train_prompts(
    learner: PromptTrainer,
    crops: Crops,
    out: Path,
    settings: LoopSettings,
    accelerator: Accelerator | None = None,
) -> None:
    """Train, and write the averaged model to `out`."""
    accelerator = accelerator or open_accelerator()
    averaged = train(learner, crops, settings, out, accelerator)
    assert isinstance(averaged, PromptTrainer)
    if accelerator.is_main_process:
        samlet.save(averaged.model, out / "model.safetensors")


@app.command()
def measure(
    data: Data,
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or checkpoints.")],
    only: Annotated[int | None, typer.Option(help="Measure on only this many images.")] = None,
) -> None:
    """Print how good models are on the validation images, by kind of image, and keep it."""
    examples = load_examples(data, only=validation_names())[:only]
    for run in runs:
        path = run / "model.safetensors" if run.is_dir() else run
        # The published figures are in float32, which every processor has.
        predictor = samlet.Predictor(samlet.load(path), precision="float32")
        report = measure_with_labels(predictor, examples, microscopy_kind)
        print(f"{path}\n\n{report.text()}")
        if only is None:
            with atomic_path(path.with_name(FIGURES)) as temporary:
                temporary.write_text(json.dumps(report.tables(), indent=1))


def history(runs: Path, stages: Iterable[str]) -> dict[str, Any]:
    """What a card says of the runs of stages: the version, and the steps and minutes of each."""
    states = {
        stage: torch.load(runs / stage / STATE, map_location="cpu", weights_only=True)
        for stage in stages
    }
    return {
        "version": samlet.__version__,
        "steps": {stage: state["step"] for stage, state in states.items()},
        "minutes": {stage: round(state["seconds"] / 60) for stage, state in states.items()},
    }


@app.command()
def bundle(
    runs: Annotated[Path, typer.Argument(help="Folder that holds the eight runs.")],
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
) -> None:
    """Write the finetuned model in half precision, with its card; nuclei.safetensors in RUNS."""
    out = out or runs / "nuclei.safetensors"
    stages = ("teacher", "student", "finetune", "native", "detail", "zoom", "deepen", "proposals")
    figures = {
        stage: json.loads((runs / stage / FIGURES).read_text())
        for stage in ("teacher", "student", "proposals")
    }
    card = CARD | history(runs, stages)
    card |= {
        "figures": figures["proposals"],
        "figures of the teacher": figures["teacher"],
        "figures of the student before finetuning": figures["student"],
    }
    samlet.save(samlet.load(runs / "proposals" / "model.safetensors"), out, card, torch.float16)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    app()
