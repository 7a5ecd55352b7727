"""Items processed by several threads under a progress bar; failures are collected."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.progress import Progress

from samlet.errors import UserError
from samlet.utils.prefetch import prefetch
from samlet.utils.progress import progress_bar

log = logging.getLogger(__name__)

T = TypeVar("T")


def run_all(items: Sequence[T], work: Callable[[T], str | None], workers: int) -> list[str]:
    """Process items.

    Args:
        items: what to process.
        work: processes one, and gives None or a sentence that says why it failed.
        workers: threads.

    Returns:
        The sentences of those that failed.
    """
    with progress_bar() as progress:
        return [failure for failure in _outcomes(progress, items, work, workers) if failure]


def failure_message(error: Exception) -> str:
    """Why an item failed, in a sentence; errors of the program are logged with their traceback."""
    if isinstance(error, UserError):
        return str(error)
    log.error("Not pre-annotated", exc_info=error)
    return f"samlet failed ({type(error).__name__}); the traceback is above. Please report it."


def _outcomes(
    progress: Progress, items: Sequence[T], work: Callable[[T], str | None], workers: int
) -> Iterator[str | None]:
    outcomes = prefetch(items, work, threads=workers, depth=2 * workers)
    yield from progress.track(outcomes, total=len(items), description="Pre-annotating")
