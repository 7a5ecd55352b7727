"""The command line of training: `samlet embed | distill | finetune | evaluate`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from samlet.errors import UserError
from samlet.utils.messages import pluralize

if TYPE_CHECKING:
    from samlet.evaluation.report import Report

console = Console(
    highlight=False,
    markup=False,
    emoji=False,
    soft_wrap=True,
    # Of several processes the first one talks.
    quiet=os.environ.get("RANK", "0") != "0",
)

Images = Annotated[
    str | None,
    typer.Argument(
        help="A folder, a text file of paths, or tar shards like SA-1B's (path or URL)."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder of the run; the same command goes on there.")]
Config = Annotated[
    Path | None, typer.Option(help="YAML file with the same names as these options.")
]
Steps = Annotated[int | None, typer.Option(help="Steps in all, in place of --epochs.", min=1)]
Epochs = Annotated[float | None, typer.Option(help="How often each image is seen.")]
BatchSize = Annotated[
    int | None, typer.Option(help="Images a step, over all processes together.", min=1)
]
Accumulate = Annotated[
    int | None, typer.Option(help="Parts of the batch, one after the other, to save memory.", min=1)
]
LearningRate = Annotated[float | None, typer.Option(help="Its peak.")]
Warmup = Annotated[int | None, typer.Option(help="Steps until the peak.", min=0)]
WeightDecay = Annotated[float | None, typer.Option(help="Of AdamW.")]
Clip = Annotated[float | None, typer.Option(help="Largest norm of the gradient.")]
Ema = Annotated[float | None, typer.Option(help="Decay of the averaged weights; 0 for none.")]
Precision = Annotated[str | None, typer.Option(help="auto, no (float32), bf16 or fp16.")]
Threads = Annotated[int | None, typer.Option(help="That read images, a process.", min=0)]
SaveMinutes = Annotated[float | None, typer.Option(help="How often the state is saved.")]
Seed = Annotated[int | None, typer.Option(help="Decides everything random.")]
ImageSize = Annotated[
    int | None, typer.Option(help="Input size in pixels; the teacher's own if not given.")
]
Split = Annotated[
    bool | None,
    typer.Option(
        "--split/--no-split",
        help="Each connected part of a number is an object of its own, as for masks of 0 and 255; "
        "or all of them are one. Asked for where labels look like such masks.",
    ),
]
Embeddings = Annotated[
    Path | None, typer.Option(help="Folder of the embeddings, for several runs to share.")
]


def distill(
    out: Out,
    images: Images = None,
    teacher: Annotated[str | None, typer.Option(help="A model's name, or its file.")] = None,
    student: Annotated[
        str | None,
        typer.Option(help="tiny_vit_2m, 5m, 11m or 21m for a fresh one; or a model to go on from."),
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="decoupled, semi-coupled or coupled (MobileSAM, 3.2).")
    ] = None,
    image_size: ImageSize = None,
    on_the_fly: Annotated[
        bool | None, typer.Option("--on-the-fly", help="Store no embeddings; ask at every step.")
    ] = None,
    embeddings: Embeddings = None,
    embed_batch_size: Annotated[
        int | None, typer.Option(help="Images a batch of the teacher.", min=1)
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="Images to judge by; else a few of IMAGES are kept back.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Of the images that are kept back: measures against them, too."),
    ] = None,
    clicks: Annotated[int | None, typer.Option(help="An image, in the coupled modes.")] = None,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    accumulate: Accumulate = None,
    learning_rate: LearningRate = None,
    warmup: Warmup = None,
    weight_decay: WeightDecay = None,
    clip: Clip = None,
    ema: Ema = None,
    precision: Precision = None,
    threads: Threads = None,
    save_minutes: SaveMinutes = None,
    seed: Seed = None,
    config: Config = None,
) -> None:
    """Distil a big model's encoder into a small one, judge it, and write a report.

    The teacher's prompt encoder and mask decoder then fit the small encoder unchanged. Run the same
    command again, and it goes on where it was. With several GPUs:
    accelerate launch --no_python samlet-distill IMAGES --teacher NAME --out RUN
    """
    flags = locals()
    with _training_extra():
        from samlet.training.distillation.distill import distill as run
        from samlet.training.distillation.report import write_report
        from samlet.training.settings import DistillSettings, resolve
    settings = resolve(DistillSettings, config, _given(flags))
    with _may_stop():
        made = run(settings, out)
        if os.environ.get("RANK", "0") == "0":
            console.print(f"Wrote {made.path}")
            console.print(f"Wrote {write_report(made, settings, out)}")


def embed(
    images: Images,
    teacher: Annotated[str, typer.Option(help="A model's name, or its file.")],
    out: Annotated[Path, typer.Option(help="Folder of the embeddings.")],
    image_size: ImageSize = None,
    batch_size: Annotated[int, typer.Option(help="Images at once.", min=1)] = 4,
    threads: Annotated[int, typer.Option(help="That read images, a process.", min=0)] = 2,
) -> None:
    """Write a teacher's embeddings of images, for `samlet distill --embeddings` to read."""
    with _training_extra():
        from samlet.training.distillation.distill import embed_images
    with _may_stop():
        store, skipped = embed_images(str(images), teacher, out, image_size, batch_size, threads)
    for key, reason in skipped.items():
        console.print(f"Skipped {key}: {reason}")
    console.print(
        f"{pluralize(len(store), 'embedding')} {'is' if len(store) == 1 else 'are'} "
        f"in {store.folder}"
    )


def finetune(
    out: Out,
    images: Annotated[str | None, typer.Argument(help="Folder of images.")] = None,
    labels: Annotated[
        str | None,
        typer.Argument(help="Folder of label maps or SA-1B JSON; COCO or Label Studio .json."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="What to go on from.")] = None,
    train: Annotated[
        str | None, typer.Option(help="all, or decoder: safer with few labels.")
    ] = None,
    objects: Annotated[int | None, typer.Option(help="Prompts an image.", min=1)] = None,
    corrections: Annotated[
        int | None, typer.Option(help="Most corrective clicks after a prompt.", min=1)
    ] = None,
    split: Split = None,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    accumulate: Accumulate = None,
    learning_rate: LearningRate = None,
    warmup: Warmup = None,
    weight_decay: WeightDecay = None,
    clip: Clip = None,
    ema: Ema = None,
    precision: Precision = None,
    threads: Threads = None,
    save_minutes: SaveMinutes = None,
    seed: Seed = None,
    config: Config = None,
) -> None:
    """Teach a model your own objects, from images with labels.

    Labels are checked first, and what is faulty is left out. A tenth of the images is kept back,
    and the model is measured on it before and after.
    """
    flags = locals()
    with _training_extra():
        from samlet.evaluation.tables import format_table
        from samlet.training.finetuning.finetune import SKIPPED, measure_held_out
        from samlet.training.finetuning.finetune import finetune as run
        from samlet.training.settings import FinetuneSettings, resolve
    settings = resolve(FinetuneSettings, config, _given(flags))
    with _may_stop():
        made = run(settings, out)
        console.print(f"Wrote {made.path}")
        if made.left_out:
            console.print(f"What was left out of the labels is listed in {out / SKIPPED}")
        if len(made.validation) and os.environ.get("RANK", "0") == "0":
            before, after = measure_held_out(made)
            table = {"before": before, "after": after} if before and after else {}
            if not table:
                console.print("Nothing was measured: what was kept back has no objects.")
                return
            console.print(
                f"\nMean IoU on what was kept back ({pluralize(len(made.validation), 'image')}):\n"
            )
            console.print(format_table(table, "model"))


def evaluate(
    model: Annotated[str, typer.Argument(help="A name, or a checkpoint.")],
    data: Annotated[
        Path, typer.Argument(help="Folder of images; or one that holds images/ and labels/.")
    ],
    labels: Annotated[
        Path | None, typer.Option(help="Label maps, SA-1B JSON, COCO or Label Studio .json.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Measure the agreement with this model, too.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="prompts, clicks, everything or agreement; repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Measure so many images alone.", min=1)] = None,
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    split: Split = None,
    out: Annotated[Path | None, typer.Option(help="Folder for CSV files and plots.")] = None,
) -> None:
    """Measure masks: one click, box, corrective clicks (NoC), everything mode; or agreement.

    Without labels only the agreement with a --teacher can be measured.
    """
    with _training_extra():
        from samlet.evaluation.measure import run_evaluation
    if labels is None and (data / "labels").is_dir() and (data / "images").is_dir():
        data, labels = data / "images", data / "labels"
    with _may_stop():
        report: Report = run_evaluation(model, data, labels, teacher, only, limit, engine, split)
    console.print(report.text())
    if out is not None:
        for path in report.write(out):
            console.print(f"Wrote {path}")


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """Flags as settings take them."""
    left_out = {"out", "config"}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in flags.items()
        if name not in left_out and value is not None
    }


@contextmanager
def _training_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f'{error.name} is missing: install what training needs with pip install "samlet[train]"'
        ) from error


@contextmanager
def _may_stop() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stopped:
        # The training loop has told already.
        if not stopped.args:
            console.print("Stopped; the same command goes on where it was.")
        raise typer.Exit(130) from None


def distill_main() -> None:
    """`samlet-distill`: the one command that `accelerate launch` and `torchrun` start."""
    from samlet.utils.console import run_app

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(distill)
    run_app(app)
