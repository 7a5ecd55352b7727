"""Everything mode over stacks in files: slice by slice, resumed where it was interrupted."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from samlet.errors import UserError
from samlet.everything.batch import Outcome
from samlet.images.stacks import ImageStack
from samlet.outputs.results import check_owner, is_same_work
from samlet.stacks.files import (
    CTC_SUFFIX,
    LABELS_SUFFIX,
    TABLE_SUFFIX,
    write_label_stack,
    write_res_track,
    write_table,
)
from samlet.stacks.journal import SUFFIX, JournalState, SliceJournal
from samlet.stacks.linking import SliceLinker
from samlet.stacks.segment import records_to_label_map
from samlet.storage.staging import StagedImage, staged_image
from samlet.utils.messages import pluralize
from samlet.utils.prefetch import prefetch

MAX_SHORT = np.iinfo(np.uint16).max
"""The largest label of a file with 16 bits."""


def segment_stacks(
    outcome: Outcome,
    open_stack: Callable[[Path], ImageStack],
    segment: Callable[..., list[dict[str, Any]]],
    progress: Progress,
    replace: bool = False,
) -> None:
    """Find and link the objects of the stacks that `segment_images` has left out.

    A stack is segmented slice by slice, with two slices in memory; a thread reads the next one. The
    objects of a finished slice are on disk, so that a run goes on with the next slice; but where
    results go to a URL, only those of finished stacks do.

    Args:
        outcome: of `segment_images`, which is brought up to date.
        open_stack: opens a file.
        segment: from a slice, with `progress=` as in `samlet.segment_everything`, to its records.
        progress: gets a task per stack that advances slice by slice.
        replace: start anew, and write over results of another stack of the same name.
    """
    for file in outcome.stacks:
        try:
            with (
                staged_image(file.path, file.folder, last=(SUFFIX,)) as here,
                open_stack(here.path) as stack,
            ):
                _StackRun(here, file.info, stack, progress).run(outcome, segment, replace)
        except UserError as error:
            outcome.failed.append(str(error))


class _StackRun:
    """One stack on its way to its results: NAME.slices.jsonl, and what is made of that."""

    def __init__(
        self, here: StagedImage, info: dict[str, Any], stack: ImageStack, progress: Progress
    ) -> None:
        self._here = here
        self._info = info
        self._stack = stack
        self._progress = progress
        self._name = here.path.name
        self._journal = SliceJournal(self._result(SUFFIX))

    def run(
        self, outcome: Outcome, segment: Callable[..., list[dict[str, Any]]], replace: bool
    ) -> None:
        before = None if replace else self._journal.read()
        if before is not None:
            check_owner(before.info, self._info, self._here.path, self._here.folder)
        if before is not None and not is_same_work(before.info, self._info):
            before = None
        if before is not None and self._is_done(before):
            outcome.skipped += 1
            return
        if not self._stack.is_axis_known:
            self._print(
                f"does not tell what its {len(self._stack)} pages are: taken as slices along z "
                "(--axis time if they are time points, --channels if they are channels)"
            )
        self._segment(before, segment)
        count = self._write_results(*self._stack.size)
        slices = pluralize(len(self._stack), "slice")
        self._print(f"{pluralize(count, 'object')} in {slices} along {self._stack.axis}")

    def _segment(
        self, before: JournalState | None, segment: Callable[..., list[dict[str, Any]]]
    ) -> None:
        """Segment the slices that are missing."""
        journal, stack = self._journal, self._stack
        if before is None:
            journal.start(self._info)
        else:
            journal.resume(before)
        first = 0 if before is None else before.slices
        if 0 < first < len(stack):
            self._print(f"resumed at slice {first} of {len(stack)}")
        task = self._progress.add_task(self._name, total=len(stack), completed=first)
        slices = prefetch(range(first, len(stack)), stack.__getitem__, threads=1, depth=2)
        for number, image in enumerate(slices, start=first):

            def advance(share: float, number: int = number) -> None:
                self._progress.update(task, completed=number + share)

            journal.append(segment(image, progress=advance), image.shape[:2])
            self._progress.update(task, completed=number + 1)

    def _write_results(self, height: int, width: int) -> int:
        """Link the slices; return the number of objects."""
        axis = self._stack.axis
        state = self._journal.read()
        assert state is not None
        highest = state.objects
        if highest > MAX_SHORT:
            # Linked objects are far fewer, and other programs prefer 16 bits.
            linker = SliceLinker(axis)
            for _ in linker.link(self._label_maps(height, width)):
                pass
            highest = len(linker.tracks)
        linker = SliceLinker(axis)
        planes = linker.link(self._label_maps(height, width))
        shape = (len(self._stack), height, width)
        write_label_stack(self._result(LABELS_SUFFIX), planes, shape, axis, highest)
        write_table(self._result(TABLE_SUFFIX), linker.tracks)
        if axis == "time":
            write_res_track(self._result(CTC_SUFFIX), linker.tracks)
        else:
            self._result(CTC_SUFFIX).unlink(missing_ok=True)
        self._journal.set_linked(axis)
        return len(linker.tracks)

    def _label_maps(self, height: int, width: int) -> Iterator[np.ndarray]:
        for records in self._journal.slices():
            yield records_to_label_map(records, (height, width))

    def _is_done(self, state: JournalState) -> bool:
        suffixes: Sequence[str] = (LABELS_SUFFIX, TABLE_SUFFIX)
        if self._stack.axis == "time":
            suffixes = (*suffixes, CTC_SUFFIX)
        is_linked = state.slices == len(self._stack) and state.linked == self._stack.axis
        return is_linked and all(self._result(suffix).exists() for suffix in suffixes)

    def _result(self, suffix: str) -> Path:
        return self._here.folder / f"{self._name}{suffix}"

    def _print(self, text: str) -> None:
        self._progress.console.print(f"{self._name}: {text}")
