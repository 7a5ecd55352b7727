"""Progress of a training run: a bar or lines, `log.csv`, and files for TensorBoard."""

import csv
import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from samlet.training.run_files import LOG
from samlet.utils.files import atomic_path
from samlet.utils.progress import progress_bar

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_INTERVAL = 10
"""Steps between rows of the log, each with the mean losses since the row before."""
PRINT_SECONDS = 20.0


class TrainLogger:
    """Averages losses, logs them and prints progress; only the main process writes.

    `log.csv` has the columns step, seconds (of training, over all sessions), waiting (the share of
    the time since the last row that went into waiting for data) and one for each loss.

    Args:
        out: folder of the run.
        steps: in all.
        step: done before this session; rows of the log beyond it, which a killed run wrote after
            its last save, are taken out.
        seconds: of training before this session.
        accelerator: knows the processes.
    """

    def __init__(
        self, out: Path, steps: int, step: int, seconds: float, accelerator: Accelerator
    ) -> None:
        self.path = out / LOG
        self.steps = steps
        self.accelerator = accelerator
        self._before = seconds
        self._first_step = step
        self._started = self._last_row = self._last_line = time.monotonic()
        self._waited = 0.0
        self._sums: dict[str, Tensor] = {}
        self._batches = 0
        self._is_cut = False
        self._bar = progress_bar()
        self._task = self._bar.add_task("", total=steps, completed=step)
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        if accelerator.is_main_process:
            self._drop_rows_after(step)
            self._tensorboard = _open_tensorboard(out, step)

    def __enter__(self) -> "TrainLogger":
        if self.accelerator.is_main_process:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.accelerator.is_main_process:
            self._bar.stop()
            with self._logging():
                self._tensorboard.close()

    @property
    def seconds(self) -> float:
        """Time spent training, over all sessions."""
        return self._before + time.monotonic() - self._started

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        begun = time.monotonic()
        yield
        self._waited += time.monotonic() - begun

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the losses of one batch, without waiting for the device."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()
        self._batches += 1

    def is_log_step(self, step: int) -> bool:
        """Whether the mean losses up to this step are checked, and logged, after it."""
        return step % LOG_INTERVAL == 0 or step == self.steps

    def end_step(self, step: int) -> bool:
        """Log a step that is done; called by every process.

        Returns:
            False if the loss is no longer a number.
        """
        if not self.is_log_step(step):
            return True
        names = list(self._sums)
        sums = torch.stack([self._sums[name] for name in names]).float() / self._batches
        means = self.accelerator.reduce(sums, "mean")
        values = dict(zip(names, means.tolist(), strict=True))
        now = time.monotonic()
        share = self._waited / max(now - self._last_row, 1e-9)
        self._sums, self._batches, self._waited, self._last_row = {}, 0, 0.0, now
        if self.accelerator.is_main_process:
            self._write(step, share, values)
        return all(math.isfinite(value) for value in values.values())

    def print(self, text: str) -> None:
        """Print a line, only from the main process."""
        if self.accelerator.is_main_process:
            self._console.print(text)

    def _write(self, step: int, share: float, values: dict[str, float]) -> None:
        row = {"step": step, "seconds": round(self.seconds, 1), "waiting": round(share, 4)}
        fresh = not self.path.exists()
        with self._logging(), self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow([*row, *values])
            writer.writerow([*row.values(), *(f"{value:.6g}" for value in values.values())])
        with self._logging():
            for name, value in values.items():
                self._tensorboard.add_scalar(f"loss/{name}", value, step)
        summary = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        self._bar.update(self._task, completed=step, description=summary)
        now = time.monotonic()
        terminal = self._bar.console.is_terminal
        if not terminal and (now - self._last_line > PRINT_SECONDS or step == self.steps):
            rate = (step - self._first_step) / (now - self._started)
            minutes = (self.steps - step) / rate / 60
            self._console.print(
                f"step {step}/{self.steps}  {summary}  {rate:.2f} steps/s  "
                f"{share:.0%} waiting for data  {minutes:.0f} min left"
            )
            self._last_line = now

    @contextmanager
    def _logging(self) -> Iterator[None]:
        """Train on without a log where it cannot be written, and say so once."""
        try:
            yield
        except OSError as error:
            if not self._is_cut:
                self.print(f"{self.path} and the other logs have gaps: {error.strerror or error}.")
            self._is_cut = True

    def _drop_rows_after(self, step: int) -> None:
        if not self.path.exists():
            return
        # A power cut can leave a row that is half written, or nothing but zeros.
        text = self.path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
        kept = [row for row in rows[1:] if len(row) == len(rows[0]) and row[0].isdecimal()]
        kept = rows[:1] + [row for row in kept if int(row[0]) <= step]
        with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows(kept)


def _open_tensorboard(out: Path, step: int) -> "SummaryWriter":
    # Imported late, as it takes a second and the other processes write nothing.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)
