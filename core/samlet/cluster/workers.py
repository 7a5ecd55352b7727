"""Work on items by worker processes, which keep what they need in memory, and are replaced.

Ray chooses the machines and starts and watches the processes. Of a million items only a few per
worker are with Ray at any time: one that is worked on, one that is read ahead and one that is
written.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from samlet.cluster.capacity import WorkerSize, count_places, is_machine_alive
from samlet.errors import UserError

ITEMS_PER_WORKER = 3
"""Items that a worker has at a time."""
MAX_DEATHS = 2
"""An item is given up when so many workers have died on it, the last with no other item."""
MAX_FAILED_STARTS = 4
"""The run ends when so many workers in a row have died before they were ready."""
GROWTH_S = 30.0
"""Seconds after which it is looked for machines that have come."""
SILENCE_S = 60.0
"""Seconds without any worker after which that is said."""
STOP_S = 60.0
"""Seconds in which workers may finish what they are writing when the run is stopped."""

Work = Callable[[Any, Callable[[], None]], Any]
"""Works on an item, in any thread, and calls its second argument now and then, which raises
`Stopped` once the run has been stopped."""

log = logging.getLogger(__name__)


class Stopped(Exception):  # noqa: N818
    """The run has been stopped, so that the item is not needed any more."""


class Died(NamedTuple):
    """In place of an item's result: workers have died on it.

    Attributes:
        reason: what Ray knows of it, in a few words.
    """

    reason: str


def run_on_workers(
    open_work: Callable[[int], Work],
    items: Iterable[Any],
    size: WorkerSize,
    count: int | None = None,
    say: Callable[[str], None] = log.info,
) -> Generator[tuple[Any, Any], None, None]:
    """Work on items, on the cluster that this process is connected to.

    A worker that dies is replaced, on another machine if its own has left, and its items are worked
    on again. Close the iterator (`contextlib.closing`) to stop early: workers then finish what they
    are writing.

    Args:
        open_work: is called once in each worker, with the number of its cores. What it raises ends
            the run.
        items: are drawn only as fast as they are worked on; picklable. None means that there is
            nothing to do before another result has been yielded.
        size: of a worker.
        count: of workers; None for as many as fit, also on machines that come later.
        say: is told what the user may want to know.

    Yields:
        each item with its result, or with `Died`, in the order in which they are finished.

    Raises:
        UserError: from `open_work` or an item's work; or no worker can be started.
    """
    pool = _Pool(open_work, size, count, say)
    try:
        yield from pool.run(iter(items))
    finally:
        pool.close()


class _Process:
    """A worker, in its own process."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._work: Work | None = None

    def open(self, open_work: Callable[[int], Work], cores: int) -> str:
        """Get ready; return the id of the machine."""
        import ray

        self._work = open_work(cores)
        return ray.get_runtime_context().get_node_id()

    def process(self, item: Any) -> Any:
        assert self._work is not None
        return self._work(item, self._check)

    def stop(self) -> None:
        self._stopped.set()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Stopped


@dataclass
class _Task:
    item: Any
    deaths: int = 0


@dataclass(eq=False)
class _Worker:
    actor: Any
    node: str = ""
    tasks: dict[Any, _Task] = field(default_factory=dict)
    is_reserved: bool = False
    """Whether it works on an item that may have killed a worker, and on nothing else."""


class _Pool:
    """The workers, what each of them has, and what has to be worked on again."""

    def __init__(
        self,
        open_work: Callable[[int], Work],
        size: WorkerSize,
        count: int | None,
        say: Callable[[str], None],
    ) -> None:
        import ray

        self._ray = ray
        # One more at a time than it has items, for `stop`.
        self._process: Any = ray.remote(_Process).options(
            num_cpus=size.cores,
            num_gpus=size.gpus,
            memory=size.memory,
            max_concurrency=ITEMS_PER_WORKER + 1,
        )
        self._open_work = ray.put(open_work)
        self._size, self._count, self._say = size, count, say
        self._opening: dict[Any, _Worker] = {}
        self._ready: list[_Worker] = []
        self._again: deque[_Task] = deque()
        self._suspects: deque[_Task] = deque()
        self._failed_starts = 0
        self._last_growth = float("-inf")
        self._alone_since: float | None = None

    def run(self, items: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        tasks = (None if item is None else _Task(item) for item in items)
        while True:
            self._grow()
            self._hand_out(tasks)
            if self._ready and not any(worker.tasks for worker in self._ready):
                return
            yield from self._collect()

    def close(self) -> None:
        """Let workers finish what they are writing, and end them."""
        ray = self._ray
        running = [ref for worker in self._ready for ref in worker.tasks]
        if running:
            for worker in self._ready:
                worker.actor.stop.remote()
            ray.wait(running, num_returns=len(running), timeout=STOP_S)
        for worker in [*self._ready, *self._opening.values()]:
            ray.kill(worker.actor)

    def _grow(self) -> None:
        if time.monotonic() - self._last_growth < GROWTH_S:
            return
        self._last_growth = time.monotonic()
        wanted = count_places(self._size) if self._count is None else self._count
        for _ in range(wanted - len(self._ready) - len(self._opening)):
            self._start()

    def _start(self) -> None:
        actor = self._process.remote()
        self._opening[actor.open.remote(self._open_work, self._size.cores)] = _Worker(actor)

    def _hand_out(self, tasks: Iterator[_Task | None]) -> None:
        for worker in self._ready:
            while (task := self._task_for(worker, tasks)) is not None:
                worker.tasks[worker.actor.process.remote(task.item)] = task

    def _task_for(self, worker: _Worker, tasks: Iterator[_Task | None]) -> _Task | None:
        if worker.is_reserved or len(worker.tasks) >= ITEMS_PER_WORKER:
            return None
        if self._suspects:
            # As soon as it has finished what it has.
            if worker.tasks:
                return None
            worker.is_reserved = True
            return self._suspects.popleft()
        return self._again.popleft() if self._again else next(tasks, None)

    def _collect(self) -> Iterator[tuple[Any, Any]]:
        """What has been finished; waits until something is, or for a minute."""
        running = {ref: worker for worker in self._ready for ref in worker.tasks}
        refs = [*self._opening, *running]
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=GROWTH_S)
        if ready:
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        for ref in ready:
            if ref in self._opening:
                self._finish_opening(ref)
            # Those of a worker that has died are dealt with together.
            elif ref in running[ref].tasks:
                yield from self._finish(running[ref], ref)
        self._say_if_alone()

    def _finish_opening(self, ref: Any) -> None:
        errors = self._ray.exceptions
        worker = self._opening.pop(ref)
        try:
            worker.node = self._ray.get(ref)
        except errors.RayTaskError as error:
            raise _cause(error) from error
        except errors.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise UserError(
                    f"Workers die before they are ready ({_reason(error)}): check the memory of "
                    "the cluster's machines, and Ray's logs there."
                ) from error
            self._start()
        else:
            self._failed_starts = 0
            self._ready.append(worker)

    def _finish(self, worker: _Worker, ref: Any) -> Iterator[tuple[Any, Any]]:
        errors = self._ray.exceptions
        task = worker.tasks.pop(ref)
        try:
            result = self._ray.get(ref)
        except errors.RayTaskError as error:
            raise _cause(error) from error
        except errors.RayError as error:
            yield from self._replace(worker, task, error)
        else:
            worker.is_reserved = False
            yield task.item, result

    def _replace(self, worker: _Worker, task: _Task, error: Exception) -> Iterator[tuple[Any, Any]]:
        """Put another worker in the place of one that has died on a task, among others."""
        errors = self._ray.exceptions
        self._ready.remove(worker)
        # One that is only out of reach would go on.
        self._ray.kill(worker.actor)
        lost = [task]
        for ref, other in worker.tasks.items():
            try:
                yield other.item, self._ray.get(ref)
            except errors.RayTaskError as failed:
                raise _cause(failed) from failed
            except errors.RayError:
                lost.append(other)
        worker.tasks.clear()
        died = isinstance(error, (errors.ActorDiedError, errors.OutOfMemoryError))
        if not died or not is_machine_alive(worker.node):
            self._again.extend(lost)
        elif len(lost) == 1 and task.deaths + 1 >= MAX_DEATHS:
            yield task.item, Died(_reason(error))
        else:
            for each in lost:
                each.deaths += 1
            self._suspects.extend(lost)
        self._start()

    def _say_if_alone(self) -> None:
        if self._ready:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > SILENCE_S:
            self._alone_since = float("inf")
            size = self._size
            self._say(
                f"Waiting for a machine with {size.cores} free cores and {size.memory / 1e9:.1f} "
                "GB of memory for the first worker: `ray status` shows what the cluster has."
            )


def _cause(error: Any) -> Exception:
    return error.cause if isinstance(error.cause, UserError) else error


def _reason(error: Exception) -> str:
    """The line of Ray's message that says most, without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "exit" in line.lower() or "memory" in line.lower()]
    return (telling or lines or [type(error).__name__])[0].rstrip(".")[:200]
