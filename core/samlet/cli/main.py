"""The command `samlet`: its commands, each from its own module."""

from pathlib import Path
from typing import Annotated

import typer

import samlet
from samlet.cli import classify, encode, everything, measure, models, segment, training
from samlet.cli.common import check_folder
from samlet.utils.console import print_log, run_app

app = typer.Typer(
    help="A small Segment Anything: from clicks and boxes to masks, offline, on a laptop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def main() -> None:
    """The command `samlet`."""
    print_log()
    run_app(app)


@app.callback(invoke_without_command=True)
def _about(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        print(f"samlet {samlet.__version__}")
        raise typer.Exit


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures.", callback=check_folder)
    ] = Path("demo_output"),
) -> None:
    """Segment the bundled sample images and compare with their labels."""
    from samlet.cli.demo import run

    run(out)


for command in (
    segment.segment,
    everything.everything,
    encode.encode,
    measure.measure,
    classify.classify,
    demo,
    models.convert,
    models.export,
    training.embed,
    training.distill,
    training.finetune,
    training.evaluate,
):
    app.command()(command)
app.add_typer(models.app, name="models")
