"""Batch commands on Ray: a run under a progress bar."""

import os
import socket
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.progress import Progress
from torch import nn

import samlet
from samlet import Predictor
from samlet.cluster.capacity import WorkerSize, choose_size
from samlet.cluster.connection import connected
from samlet.cluster.workers import Died, run_on_workers
from samlet.errors import UserError
from samlet.images import split_slice
from samlet.storage.locations import Location
from samlet.storage.run_mark import check_mark, check_visible, marked_run
from samlet.utils.console import console

BASE_BYTES = 1_000_000_000
"""Memory of a worker beside its model: PyTorch, OpenVINO, and images on their way."""
MODEL_COPIES = 3
"""Memory of a model in copies of its weights in float32: as loaded, in the engine, and as fed."""


class Opens(Protocol):
    """What is sent to the workers."""

    def open(self, device: str) -> Callable[[Any, Callable[[], None]], Any]:
        """Load what the work needs; return what works on an item, see `run_on_workers`."""


@dataclass(frozen=True)
class _OnWorker:
    """Opens the work in a worker, after a look at its machine.

    Attributes:
        work: see `Opens`.
        device: where the model runs.
        version: of samlet where the run was started.
        cwd: the current folder there, to which paths are relative.
        first: an item's file, which the machine has to see; None if items are no files.
        out: the folder of the results, which it has to see as well; None if it writes none.
        run: the mark in it.
    """

    work: Opens
    device: str
    version: str
    cwd: Path
    first: Location | None
    out: Location | None
    run: str

    def __call__(self, cores: int) -> Callable[[Any, Callable[[], None]], Any]:
        if samlet.__version__ != self.version:
            raise UserError(
                f"{socket.gethostname()} has samlet {samlet.__version__}, and this run was started "
                f"with {self.version}: install the same version on all machines."
            )
        torch.set_num_threads(cores)
        # Where all paths are absolute, it need not exist.
        with suppress(OSError):
            os.chdir(self.cwd)
        if self.out is not None:
            check_mark(self.out, self.run)
        if self.first is not None:
            check_visible(self.first)
        return self.work.open(self.device)


@dataclass(frozen=True)
class Numbered:
    """Work on pairs of a number and an item, which tell where a result belongs."""

    work: Opens

    def open(self, device: str) -> Callable[[tuple[int, Any], Callable[[], None]], Any]:
        """See `Opens`."""
        process = self.work.open(device)
        return lambda item, check: process(item[1], check)


@dataclass(frozen=True)
class RayRun:
    """A connection to a cluster, and the workers that are wanted there."""

    size: WorkerSize
    workers: int | None

    @property
    def device(self) -> str:
        """Where models run."""
        return "cuda" if self.size.gpus else "cpu"

    def choices(self, predictor: Predictor, engine: str) -> dict[str, Any]:
        """Engine and precision of all workers: what "auto" has chosen here, not what each would.

        Args:
            predictor: in this process, on its processor.
            engine: as the user has given it.
        """
        name = engine if self.size.gpus else predictor.engine.name
        return {"engine": name, "precision": predictor.engine.precision}

    def process(
        self,
        work: Opens,
        items: Sequence[Any],
        first: Location,
        out: Location | None,
        progress: Progress,
        description: str,
    ) -> Generator[tuple[Any, Any], None, None]:
        """Work on items, in the order in which they are finished; see `run_on_workers`.

        Close it (`contextlib.closing`) to stop early.

        Args:
            work: see `Opens`.
            items: what it works on.
            first: a file that all machines have to see, or a slice in it.
            out: the folder to which workers write, which is held for this run; None if they write
                nothing.
            progress: gets a task.
            description: of the task.
        """
        task = progress.add_task(description, total=len(items))
        first, _ = split_slice(first)
        with nullcontext("") if out is None else marked_run(out) as run:
            results = self._results(work, items, first, out, run, progress.console.print)
            with closing(results):
                for item, result in results:
                    yield item, result
                    progress.advance(task)

    def process_in_order(
        self, work: Opens, items: Iterable[Any], max_waiting: int, say: Callable[[str], None]
    ) -> Generator[tuple[Any, Any], None, None]:
        """Work on items that are no files, and yield their results in the order of the items.

        Close it (`contextlib.closing`) to stop early.

        Args:
            work: see `Opens`.
            items: what it works on; see `run_on_workers`.
            max_waiting: number of results that wait for an earlier one. Once there are as many, no
                further item is handed out.
            say: see `run_on_workers`.
        """
        waiting: dict[int, tuple[Any, Any]] = {}

        def numbered() -> Iterator[tuple[int, Any] | None]:
            for number, item in enumerate(items):
                while len(waiting) >= max_waiting:
                    yield None
                yield number, item

        expected = 0
        with closing(self._results(Numbered(work), numbered(), None, None, "", say)) as results:
            for (number, item), result in results:
                waiting[number] = item, result
                while expected in waiting:
                    yield waiting.pop(expected)
                    expected += 1

    def _results(
        self,
        work: Opens,
        items: Iterable[Any],
        first: Location | None,
        out: Location | None,
        run: str,
        say: Callable[[str], None],
    ) -> Generator[tuple[Any, Any], None, None]:
        opens = _OnWorker(work, self.device, samlet.__version__, Path.cwd(), first, out, run)
        return run_on_workers(opens, items, self.size, self.workers, say)


@contextmanager
def ray_run(
    address: str, workers: int | None, cores: int | None, model: nn.Module | None
) -> Iterator[RayRun]:
    """Connect to a cluster for a block.

    Args:
        address: see `samlet.cluster.connection.connected`.
        workers: number of workers; None for as many as fit.
        cores: of each; None for what suits the machines.
        model: that each worker has in memory; None without one.

    Raises:
        UserError: see `samlet.cluster.connection.connected`, or no worker fits.
    """
    parameters = () if model is None else model.parameters()
    weights = sum(each.numel() * 4 for each in parameters)
    with connected(address, console.print):
        yield RayRun(choose_size(cores, BASE_BYTES + MODEL_COPIES * weights), workers)


def check_same_model(there: str, here: str) -> None:
    """Make sure that a worker has the same model as the process that started the run.

    Args:
        there: fingerprint of the model in that process.
        here: and in this one.

    Raises:
        UserError: it has another one.
    """
    if there != here:
        raise UserError(
            f"The model on {socket.gethostname()} is not the one that the run was started with: "
            "put the same file on all machines."
        )


def died_message(name: object, died: Died) -> str:
    """A sentence about an item on which workers have died."""
    return (
        f"{name}: two workers died while they worked on it ({died.reason}): its memory may not "
        "suffice; try it alone on a larger machine."
    )
