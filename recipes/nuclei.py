"""Make the bundled model `nuclei` again, from the folder of BBBC038 images and labels.

    python recipes/nuclei.py teacher  DATA runs/teacher
    python recipes/nuclei.py student  DATA runs/student  --teacher runs/teacher/model.safetensors
    python recipes/nuclei.py finetune DATA runs/finetune --student runs/student/model.safetensors
    python recipes/nuclei.py measure  DATA runs/finetune/model.safetensors

Each can be stopped and run again with the same words, and goes on where it was.
`docs/model-nuclei.md` says what each gave.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track

import samlet
from samlet.distill.data import Crops, Example, load_examples
from samlet.distill.embedding_training import embedding_losses, plug_in
from samlet.distill.loop import LoopSettings, train
from samlet.distill.mask_training import MaskLearner, PromptPlan, mask_losses
from samlet.evaluate import evaluate, format_table, summary
from samlet.modeling.image_encoder import TINY_VITS
from samlet.modeling.sam import Sam, SamConfig
from samlet.teachers.efficientnet import EfficientNetEncoder, load_imagenet_weights

IMAGE_SIZE = 512
VALIDATION = Path(__file__).with_name("nuclei-validation.txt")

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
def teacher(data: Data, out: Out, steps: int = 2000, learning_rate: float = 6e-4) -> None:
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
    learner = MaskLearner(model, encoder_autocast=False)
    _learn_masks(learner, data, out, LoopSettings(steps, learning_rate), crops_seed=1)


@app.command()
def student(
    data: Data,
    out: Out,
    teacher: Annotated[Path, typer.Option(help="The teacher's checkpoint.")],
    steps: int = 2000,
    learning_rate: float = 2e-3,
) -> None:
    """Distil the teacher's embedding into a narrow TinyViT; plug the teacher's decoder on."""
    torch.manual_seed(1)
    teacher_model = samlet.load(teacher)
    teacher_model.image_encoder.to(memory_format=torch.channels_last)
    model = Sam(SamConfig(image_size=IMAGE_SIZE, tiny_vit=TINY_VITS["tiny_vit_2m"]))
    encoder = model.image_encoder.to(memory_format=torch.channels_last)
    batch_of = Crops(training_examples(data), IMAGE_SIZE, 256, 8, seed=2).sampler()
    averaged = train(
        encoder,
        lambda step: embedding_losses(encoder, model, teacher_model, batch_of(step)),
        LoopSettings(steps, learning_rate, seed=1),
        out,
    )
    encoder.load_state_dict(averaged.state_dict())
    samlet.save(plug_in(teacher_model, model), out / "model.safetensors")


@app.command()
def finetune(
    data: Data,
    out: Out,
    student: Annotated[Path, typer.Option(help="The student's checkpoint.")],
    steps: int = 2000,
    learning_rate: float = 4e-4,
) -> None:
    """Train the distilled student further with masks, encoder and decoder."""
    torch.manual_seed(2)
    learner = MaskLearner(samlet.load(student))
    _learn_masks(learner, data, out, LoopSettings(steps, learning_rate, seed=2), crops_seed=3)


def _learn_masks(
    learner: MaskLearner, data: Path, out: Path, settings: LoopSettings, crops_seed: int
) -> None:
    learner.model.image_encoder.to(memory_format=torch.channels_last)
    plan = PromptPlan(objects=6)
    batch_of = Crops(training_examples(data), IMAGE_SIZE, 256, 8, seed=crops_seed).sampler()
    averaged = train(
        learner, lambda step: mask_losses(learner, batch_of(step), plan), settings, out
    )
    assert isinstance(averaged, MaskLearner)
    samlet.save(averaged.model, out / "model.safetensors")


@app.command()
def measure(
    data: Data,
    model: Annotated[str, typer.Argument(help="A checkpoint or a name.")],
    only: Annotated[int | None, typer.Option(help="Measure this many images alone.")] = None,
) -> None:
    """Print the IoU on the validation images, by kind of image and of prompt."""
    examples = load_examples(data, only=validation_names())[:only]
    scores = evaluate(samlet.Predictor(samlet.load(model)), examples)
    print(format_table(summary([s for image in track(scores, total=len(examples)) for s in image])))


if __name__ == "__main__":
    app()
