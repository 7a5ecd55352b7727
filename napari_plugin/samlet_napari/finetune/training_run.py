"""Training on the layers of a viewer, in a process of its own: `samlet finetune`.

A training that crashes harms no viewer, and one that is stopped goes on where it was.
"""

import atexit
import csv
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import platformdirs

from samlet.errors import UserError
from samlet.training.run_files import LOG, MODEL
from samlet_napari.finetune.training_data import IMAGES, LABELS

RUN, OUTPUT = "run", "log.txt"

COMMAND = """
import os, threading

def end_with_the_viewer():
    os.read(0, 1)
    os._exit(1)

threading.Thread(target=end_with_the_viewer, daemon=True).start()
from samlet.cli import main
main()
"""
"""`samlet`, which ends when its standard input does: with the viewer, even if that is killed."""


def new_folder() -> Path:
    """Make the folder of a run: below SAMLET_NAPARI_RUNS, or in the user's data folder.

    Raises:
        UserError: it cannot be written.
    """
    chosen = os.environ.get("SAMLET_NAPARI_RUNS")
    if chosen:
        folder = Path(chosen).expanduser()
    else:
        folder = Path(platformdirs.user_data_dir("samlet")) / "finetuning"
    try:
        run = folder / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{secrets.token_hex(3)}"
        run.mkdir(parents=True)
        return run
    except OSError as error:
        raise UserError(
            f"Cannot write {folder}: {error.strerror}. Free space, or set SAMLET_NAPARI_RUNS to "
            "another folder."
        ) from error


class Row(NamedTuple):
    """A row of the log: the mean loss, and seconds since the beginning, up to a step."""

    step: int
    seconds: float
    loss: float


class Finetuning:
    """A training of the mask decoder, in a process that does not outlive this one.

    Args:
        folder: of the run, from `new_folder`, with what `export` has written.
        model: what to go on from, as `samlet.load` takes it.

    Attributes:
        is_stopping: whether it was asked to stop since it was started.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        self.model = model
        self.is_stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def start(self, steps: int) -> None:
        """Begin, or go on where it was stopped.

        Args:
            steps: in all.

        Raises:
            UserError: the process cannot be started.
        """
        self.is_stopping = False
        # The viewer comes first where the two compete.
        polite = ["nice", "-n", "5"] if shutil.which("nice") else []
        command = [
            *(*polite, sys.executable, "-c", COMMAND, "finetune"),
            *(str(self.folder / IMAGES), str(self.folder / LABELS), "--model", self.model),
            *("--train", "decoder", "--steps", str(steps), "--out", str(self.folder / RUN)),
            # Objects are as the user has drawn them; what looks wrong is told.
            "--no-split",
        ]
        try:
            with (self.folder / OUTPUT).open("wb") as output:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
                )
        except OSError as error:
            raise UserError(f"The training cannot be started: {error}.") from error

    def stop(self) -> None:
        """Ask it to end after this step, with its state saved (on Windows: at once)."""
        if self._process is not None and not self.is_stopping:
            self.is_stopping = True
            # Not Ctrl-C, which processes ignore that a shell has started in the background.
            self._process.terminate()

    def progress(self) -> list[Row]:
        """What the log holds so far; a row that is being written is left out."""
        try:
            text = (self.folder / RUN / "train" / LOG).read_text(encoding="utf-8")
        except OSError:
            return []
        whole = text[: text.rfind("\n") + 1]
        rows = []
        for line in csv.DictReader(whole.splitlines()):
            step, seconds = int(line.pop("step")), float(line.pop("seconds"))
            del line["waiting"]
            rows.append(Row(step, seconds, sum(map(float, line.values()))))
        return rows

    def outcome(self) -> Path | None:
        """The trained model's checkpoint; None while it is being made.

        Raises:
            UserError: it ended without one: the last line of what it said.
        """
        if self._process is None or self._process.poll() is None:
            return None
        self._end()
        checkpoint = self.folder / RUN / MODEL
        if checkpoint.exists():
            return checkpoint
        said = self._said()
        if self.is_stopping:
            told = [line for line in said if line.startswith("Stopped")]
            raise UserError(told[-1] if told else "Stopped before the first step was done.")
        # A list of faults has several lines.
        errors = [i for i, line in enumerate(said) if line.startswith("Error: ")]
        last = " ".join(said[errors[-1] :] if errors else said[-1:]).removeprefix("Error: ")
        raise UserError(f"The training has failed: {last or 'it was killed, and said nothing.'}")

    def judgement(self) -> str:
        """Mean IoU on what was kept back, before and now; "" if it was not measured."""
        rows = [line.strip("| ").split(" | ") for line in self._said() if line.startswith("| ")]
        if len(rows) != 3:
            return ""
        before, after = (dict(zip(rows[0], row, strict=True)) for row in rows[1:])
        return "; ".join(
            f"{prompt} {before[prompt]} before, {after[prompt]} after"
            for prompt in ("click", "box")
        )

    def warnings(self) -> list[str]:
        """What it said about labels that look wrong."""
        said = (line.partition("Warning: ") for line in self._said())
        return [told for before, warned, told in said if warned and not before]

    def close(self) -> None:
        """End the process at once, and remove the run's folder."""
        atexit.unregister(self.close)
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()

    def _said(self) -> list[str]:
        """The lines of its output that are not empty."""
        text = (self.folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]
