"""`samlet models`, `convert` and `export`: what models there are, and other formats of them."""

import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

import samlet
from samlet.cli.common import EngineName, Out, PrecisionName
from samlet.errors import UserError
from samlet.utils.console import console

if TYPE_CHECKING:
    from samlet import Predictor

SPEED_RUNS = 5

app = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")


@app.callback()
def models(context: typer.Context) -> None:
    """List the models, bundled, downloaded and available for download; `get` and `speed`.

    The environment variable SAMLET_MODELS names a folder of model files, or the address of a
    mirror, to be used in place of their publishers' servers.
    """
    if context.invoked_subcommand is not None:
        return
    from samlet.checkpoints.catalogue import catalogue, format_millions
    from samlet.checkpoints.mirror import mirror
    from samlet.utils.cache_folder import cache_dir

    entries = list(catalogue())
    widths = [max(len(entry.name) for entry in entries), 10, 8]
    widths.append(max(len(entry.licence) for entry in entries))

    def print_row(name: str, parameters: str, size: str, licence: str, place: str) -> None:
        a, b, c, d = widths
        console.print(f"{name:{a}}  {parameters:>{b}}  {size:>{c}}  {licence:{d}}  {place}")

    print_row("name", "parameters", "file", "licence", "here")
    for entry in entries:
        count = format_millions(entry.parameters)
        print_row(entry.name, count, entry.size, entry.licence, entry.place)
        console.print(f"    {entry.summary} ({entry.publisher})")
    source = mirror() or "their publishers (`samlet models get NAME` fetches one ahead)"
    console.print(f"\nKept in {cache_dir()}. Downloaded from {source}.")


@app.command()
def get(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="From `samlet models`.")],
) -> None:
    """Download models ahead, to work without a network later."""
    from samlet.checkpoints.loading import resolve_path
    from samlet.checkpoints.registry import MODELS

    # Unknown names come first, and no download begins.
    for name in sorted(names, key=MODELS.__contains__):
        if name not in MODELS and Path(name).exists():
            raise UserError(f"{name} is here already: give names from `samlet models`.")
        console.print(f"{name}: {resolve_path(name)}")


@app.command()
def speed(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME...]",
            help="Names or files; by default, all models that are on this machine.",
            show_default=False,
        ),
    ] = None,
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
) -> None:
    """Measure how long models take here to encode an image, which is done once per image."""
    from samlet.checkpoints.catalogue import catalogue

    entries = {entry.name: entry for entry in catalogue()}
    for name in names or []:
        if name in entries and entries[name].file is None:
            raise samlet.UserError(
                f"{name} is not on this machine: download it with `samlet models get {name}`."
            )
    for name in names or [name for name, entry in entries.items() if entry.file is not None]:
        predictor = samlet.Predictor(samlet.load(name), engine, precision=precision)
        side, running = predictor.model.config.image_size, predictor.engine
        console.print(
            f"{name}: {_encode_seconds(predictor):.2f} s for {side} x {side} pixels "
            f"({running.name}, {running.precision})"
        )


def _encode_seconds(predictor: "Predictor") -> float:
    """The median of several runs, after one that prepares the model."""
    import numpy as np

    side = predictor.model.config.image_size
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    predictor.encode(image)
    seconds = []
    for _ in range(SPEED_RUNS):
        start = time.perf_counter()
        predictor.encode(image)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def convert(
    source: Annotated[str, typer.Argument(help="Model name or checkpoint file.")],
    target: Annotated[
        Path, typer.Argument(help="NAME.safetensors (ours), or NAME.pt (the official layout).")
    ],
) -> None:
    """Convert a checkpoint between samlet's format and MobileSAM's or SAM's official layout."""
    samlet.save(samlet.load(source), target)
    console.print(f"Wrote {target}")


def export(
    model: Annotated[str, typer.Argument(help="Model name or checkpoint file.")],
    out: Out,
    format: Annotated[str, typer.Option(help="onnx or openvino.")],
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Quantise most of the encoder to 8 bits."),
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images like yours for --int8.", show_default="the bundled samples"
        ),
    ] = None,
) -> None:
    """Export a model as ONNX or OpenVINO graphs, for programs without samlet and PyTorch."""
    from samlet.export.exporting import export as run

    for path in run(samlet.load(model), format, out, int8, calibration):
        console.print(f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
