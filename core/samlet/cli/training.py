"""The command line of training: `samlet embed | distill | finetune | evaluate`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from samlet.cli.common import (
    Channels,
    EngineName,
    PrecisionName,
    Series,
    Slice,
    check_folder,
    graceful_exit,
    parse_channels,
)
from samlet.cli.settings_command import field_help, settings_command
from samlet.cluster.options import RayAddress, WorkerCores, Workers, check_ray_options
from samlet.errors import UserError
from samlet.images import SliceChoice
from samlet.training.settings import DistillSettings, FinetuneSettings
from samlet.utils.messages import pluralize

if TYPE_CHECKING:
    from samlet.evaluation.report import Report

IS_MAIN_PROCESS = os.environ.get("RANK", "0") == "0"
console = Console(
    highlight=False,
    markup=False,
    emoji=False,
    soft_wrap=True,
    # Of several processes only the first one prints.
    quiet=not IS_MAIN_PROCESS,
)

_DISTILL = DistillSettings.model_fields
_FINETUNE = FinetuneSettings.model_fields


@settings_command(DistillSettings, arguments=("images",))
def distill(settings: DistillSettings, out: Path) -> None:
    """Distil a large model's image encoder into a small one, evaluate it, and write a report.

    The teacher's prompt encoder and mask decoder fit the small encoder unchanged. Run the same
    command again to resume an interrupted run. With several GPUs:
    accelerate launch --no_python samlet-distill IMAGES --teacher NAME --out RUN
    """
    with _training_extra():
        from samlet.training.distillation.distill import distill as run
        from samlet.training.distillation.report import write_report
    with graceful_exit(console):
        distilled = run(settings, out)
        if IS_MAIN_PROCESS:
            console.print(f"Wrote {distilled.path}")
            console.print(f"Wrote {write_report(distilled, settings, out)}")


def embed(
    images: Annotated[str, typer.Argument(help=field_help(_DISTILL["images"]))],
    teacher: Annotated[str, typer.Option(help=field_help(_DISTILL["teacher"]))],
    out: Annotated[Path, typer.Option(help="Folder of the embeddings.", callback=check_folder)],
    image_size: Annotated[int | None, typer.Option(help=field_help(_DISTILL["image_size"]))] = None,
    batch_size: Annotated[
        int, typer.Option(help=field_help(_DISTILL["embed_batch_size"]), min=1)
    ] = _DISTILL["embed_batch_size"].default,
    threads: Annotated[int, typer.Option(help=field_help(_DISTILL["threads"]), min=0)] = _DISTILL[
        "threads"
    ].default,
    channels: Channels = None,
    slices: Slice = None,
    series: Series = None,
    ray: RayAddress = None,
    workers: Workers = None,
    worker_cores: WorkerCores = None,
) -> None:
    """Store a teacher's image embeddings, for `samlet distill --embeddings`.

    With --ray, any number of machines compute them: see docs/scale.md. Images are read and
    embeddings are written by this machine alone.
    """
    check_ray_options(ray, workers=workers, worker_cores=worker_cores)
    with _training_extra():
        from samlet.training.distillation.embed_images import embed_images
    connect = None
    if ray is not None:
        from samlet.cluster.run import ray_run

        connect = partial(ray_run, ray, workers, worker_cores)
    with graceful_exit(console):
        store, skipped = embed_images(
            images,
            teacher,
            out,
            image_size,
            batch_size,
            threads,
            SliceChoice.parse(slices, series),
            parse_channels(channels),
            connect,
        )
    for key, reason in skipped.items():
        console.print(f"Skipped {key}: {reason}")
    console.print(
        f"{pluralize(len(store), 'embedding')} {'is' if len(store) == 1 else 'are'} in "
        f"{store.folder}"
    )


@settings_command(FinetuneSettings, arguments=("images", "labels"))
def finetune(settings: FinetuneSettings, out: Path) -> None:
    """Finetune a model on labelled images.

    Labels are checked first, and faulty ones are skipped. A tenth of the images is held out, and
    the model is measured on these before and after.
    """
    with _training_extra():
        from samlet.evaluation.tables import format_table
        from samlet.training.finetuning.finetune import finetune as run
        from samlet.training.finetuning.finetune import measure_held_out
        from samlet.training.run_files import SKIPPED
    with graceful_exit(console):
        finetuned = run(settings, out)
        console.print(f"Wrote {finetuned.path}")
        if finetuned.skipped:
            console.print(f"The labels that were skipped are listed in {out / SKIPPED}")
        if len(finetuned.held_out) and IS_MAIN_PROCESS:
            before, after = measure_held_out(finetuned)
            if not before or not after:
                console.print("Nothing was measured: the held-out images have no objects.")
                return
            count = pluralize(len(finetuned.held_out), "held-out image")
            console.print(f"\nMean IoU on {count}:\n")
            console.print(format_table({"before": before, "after": after}, "model"))


def evaluate(
    model: Annotated[str, typer.Argument(help="Model to evaluate: a name or a checkpoint file.")],
    data: Annotated[
        Path, typer.Argument(help="Folder of images, or a folder with images/ and labels/.")
    ],
    labels: Annotated[Path | None, typer.Option(help=field_help(_FINETUNE["labels"]))] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Also measure the agreement with this model.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="prompts, clicks, everything or agreement; repeatable."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Measure on only this many images.", min=1)
    ] = None,
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    split: Annotated[bool | None, typer.Option(help=field_help(_FINETUNE["split"]))] = None,
    channels: Channels = None,
    slices: Slice = None,
    series: Series = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the figures (JSON, CSV) and plots.", callback=check_folder),
    ] = None,
) -> None:
    """Measure mask quality: one click, box, corrective clicks (NoC), everything mode, agreement.

    Without labels, only the agreement with a --teacher can be measured.
    """
    with _training_extra():
        from samlet.evaluation.measure import run_evaluation
    if labels is None and (data / "labels").is_dir() and (data / "images").is_dir():
        data, labels = data / "images", data / "labels"
    with graceful_exit(console):
        report: Report = run_evaluation(
            model,
            data,
            labels,
            teacher,
            only,
            limit,
            engine,
            split,
            precision,
            SliceChoice.parse(slices, series),
            parse_channels(channels),
        )
    console.print(report.text())
    if out is not None:
        for path in report.write(out):
            console.print(f"Wrote {path}")


@contextmanager
def _training_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is missing: install the dependencies of training with "
            'pip install "samlet[train]"'
        ) from error


def distill_main() -> None:
    """`samlet-distill`: the command for `accelerate launch` and `torchrun`."""
    from samlet.utils.console import run_app

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(distill)
    run_app(app)
