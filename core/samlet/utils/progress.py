"""Progress: bars with rate and remaining time, fractions of parts, and status messages."""

import os
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

MIN_RATE_SECONDS = 1.0
"""Seconds of work before a rate is shown."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Items per second, or seconds per item where that is the larger number."""
        speed = task.finished_speed or task.speed
        if not speed or (task.elapsed or 0) < MIN_RATE_SECONDS:
            return Text("")
        if speed >= 100:
            return Text(f"{speed:,.0f}/s")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


def progress_bar() -> Progress:
    """A progress bar on standard error, shown only in a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True),
    )


def progress_of_part(
    progress: Callable[[float], None], number: int, count: int
) -> Callable[[float], None]:
    """The progress of one of several equal parts, from that of all of them.

    Args:
        progress: is called with the fraction done of all parts.
        number: of the part, from 0.
        count: of parts.
    """
    return lambda share: progress((number + share) / count)


def print_status(text: str) -> None:
    """Print a line on standard output; with several training processes, only in the first."""
    if os.environ.get("RANK", "0") == "0":
        Console(highlight=False, markup=False, emoji=False, soft_wrap=True).print(text)
