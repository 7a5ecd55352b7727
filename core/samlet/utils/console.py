"""What the command lines of samlet and its backend share: the console, and error handling."""

import logging
import sys
import warnings
from typing import TextIO

import typer
from rich.console import Console

from samlet.errors import UserError

# Paths and messages are printed unchanged: brackets in them are not markup.
console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def run_app(commands: typer.Typer) -> None:
    """Run the command line; a UserError ends it with its message and exit code 1."""
    warnings.showwarning = _show_warning
    try:
        commands()
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


class _LogPrinter(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # Looked up each time, as progress bars and tests replace it.
        print(record.getMessage(), file=sys.stderr)


_log_printer = _LogPrinter()


def print_log() -> None:
    """Print what samlet's modules log, from now on, on standard error."""
    log = logging.getLogger("samlet")
    log.setLevel(logging.INFO)
    log.addHandler(_log_printer)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print only the message, without the line of code that it comes from."""
    print(f"Warning: {message}", file=sys.stderr)
