"""What every command line shares: its console, and how a user's mistake ends it."""

import sys
import warnings
from typing import TextIO

import typer
from rich.console import Console

from samlet.errors import UserError

# Paths and messages are printed as they are: brackets in them are no markup.
console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def run_app(commands: typer.Typer) -> None:
    """Run a command; a user's mistake ends it with one sentence and exit code 1."""
    warnings.showwarning = _show_warning
    try:
        commands()
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """As a sentence, without the line of code that it comes from."""
    print(f"Warning: {message}", file=sys.stderr)
