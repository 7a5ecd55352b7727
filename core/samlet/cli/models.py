"""`samlet models`, `convert` and `export`: what models there are, and other formats of them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import samlet
from samlet.cli.common import Out
from samlet.utils.console import console


def models() -> None:
    """List the models, bundled, downloaded and available for download."""
    from samlet.checkpoints.downloads import REMOTE_FILES
    from samlet.checkpoints.loading import BUNDLED, read_card
    from samlet.utils.cache_folder import cache_dir

    table = Table("name", "description", "MB", box=None, pad_edge=False)
    table.add_column("where", overflow="fold")
    for name, path in BUNDLED.items():
        summary = read_card(path).get("summary", "")
        table.add_row(name, summary, f"{path.stat().st_size / 1e6:.0f}", "bundled")
    for name, remote in REMOTE_FILES.items():
        size = "" if remote.size is None else f"{remote.size / 1e6:.0f}"
        here = (cache_dir() / remote.filename).exists()
        where = str(cache_dir() / remote.filename) if here else remote.url
        what = "MobileSAM, 1024 px" if name == "mobile_sam" else "SAM, 1024 px, slow without GPU"
        table.add_row(name, what, size, where)
    console.print(table)


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
