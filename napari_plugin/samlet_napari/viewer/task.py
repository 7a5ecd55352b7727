"""Work on an image that takes seconds or minutes: what runs in a thread, and what after it."""

from collections.abc import Callable, Iterator
from typing import Protocol

from samlet_napari.inference.objects import FoundObject


class Task(Protocol):
    """Work whose result is written to the labels batch by batch, as it is found."""

    def run(self, progress: Callable[[float], None]) -> Iterator[list[FoundObject]]:
        """Find objects, in a thread other than the GUI's.

        Args:
            progress: called with the fraction done, 0 to 1; what it raises ends the work.

        Raises:
            UserError: it cannot be done.
        """

    def write(self, found: list[FoundObject]) -> None:
        """Write a batch, in the GUI thread.

        Raises:
            UserError: the labels cannot be written, or the work cannot go on.
        """

    def finish(self) -> str:
        """Write what is left once all is found, in the GUI thread.

        Returns:
            a sentence on the result.

        Raises:
            UserError: the labels cannot be written.
        """
