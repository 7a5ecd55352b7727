"""A finetuning job in a process of its own, for programs that go on working meanwhile.

`FinetuneJob` starts `python -m samlet.training.job FOLDER`, which reads FOLDER/job.json, trains in
FOLDER/run as `samlet finetune` does, prints to FOLDER/log.txt, and writes FOLDER/result.json:

    job.json     {"settings": {"images": "...", "steps": 200, ...}, "measure": true}
    result.json  {"model": "FOLDER/run/model.safetensors", "images": 9, "held_out": 1,
                  "before": {"click": 0.71, "random click": 0.65, "box": 0.83, ...},
                  "after": {...}, "skipped": {"FOLDER/images/3.png": ["It ..."]},
                  "notes": ["..."], "warnings": [], "is_stopped": false, "error": null}

A training that crashes does not harm the program that started it, and one that was stopped can be
resumed. Importing this module does not import torch.
"""

import _thread
import argparse
import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from samlet.errors import UserError
from samlet.training.run_files import LOG, TRAIN
from samlet.utils.files import atomic_path

JOB = "job.json"
RESULT = "result.json"
OUTPUT = "log.txt"
RUN = "run"

NICENESS = 10
"""Of the process, where the system knows that: the program that started it comes first."""

_STOP = b"stop\n"


class Progress(NamedTuple):
    """A row of the log: seconds of training up to a step, and the mean of the loss before it."""

    step: int
    seconds: float
    loss: float


@dataclass(frozen=True)
class FinetuneResult:
    """What a finetuning job has come to.

    Attributes:
        model: checkpoint of the finetuned model; None if there is none.
        images: number of labelled images that it was trained on.
        held_out: number of labelled images that it is measured on; 0 if there was but one image.
        before, after: mean IoU on the held-out images before and after, by prompt ("click",
            "random click", "box"), with "objects" and "IoU error" (see `summarize_prompts` in
            `samlet.evaluation.single_prompts`); None if it was not measured, or no object is held
            out.
        skipped: by image, what was left out of the labels, and why.
        notes: paragraphs on the labels, warnings included.
        warnings: sentences about labels that are used, but look wrong.
        is_stopped: it was stopped before its last step, and can be resumed.
        error: one sentence that says why there is no model, or no measurement; else None.
    """

    model: Path | None = None
    images: int = 0
    held_out: int = 0
    before: dict[str, float] | None = None
    after: dict[str, float] | None = None
    skipped: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    is_stopped: bool = False
    error: str | None = None

    def write(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            UserError: the file cannot be written.
        """
        values = dataclasses.asdict(self)
        values["model"] = None if self.model is None else str(self.model)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "FinetuneResult":
        """Read what `write` has written.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not such a file.
        """
        values = json.loads(path.read_text(encoding="utf-8"))
        model = values.pop("model")
        return cls(model=None if model is None else Path(model), **values)


class FinetuneJob:
    """A finetuning in a process that ends with this one, even if this one is killed.

    Args:
        folder: of the job; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        """None before the first start."""

    def start(self, settings: Mapping[str, Any], measure: bool = True) -> None:
        """Start the process; a job that was stopped is resumed.

        Args:
            settings: values of `samlet.training.settings.FinetuneSettings` by name; "images" and
                "labels" at least. To resume, only "steps" and the like may differ from before.
            measure: measure the model on held-out images before and after.

        Raises:
            UserError: the folder cannot be written, or the process cannot be started.
        """
        with atomic_path(self.folder / JOB) as temporary:
            job = {"settings": dict(settings), "measure": measure}
            temporary.write_text(json.dumps(job, indent=1), encoding="utf-8")
        # -P: the working folder may have a folder "samlet", which -m alone would import from.
        # -u: what is printed is in the log at once.
        command = [
            *(sys.executable, "-P", "-u", "-m", "samlet.training.job"),
            *(str(self.folder), "--obey-stdin"),
        ]
        try:
            (self.folder / RESULT).unlink(missing_ok=True)
            with (self.folder / OUTPUT).open("wb") as output:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
                )
        except OSError as error:
            raise UserError(f"The training cannot be started: {error}.") from error

    @property
    def is_running(self) -> bool:
        """Whether the process is at work."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Ask it to end after the current step, with its state saved; `result` tells when it has.

        Once the model is trained, it is not measured any further.
        """
        # Through its standard input, since Windows has no signal that asks.
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError, ValueError):
                self.process.stdin.write(_STOP)
                self.process.stdin.flush()

    def kill(self) -> None:
        """End the process at once, and wait until it has ended."""
        if self.process is not None:
            self.process.kill()
            self._wait()

    def progress(self) -> list[Progress]:
        """All rows of the log so far, also of the sessions before; a row in the making is not."""
        try:
            text = (self.folder / RUN / TRAIN / LOG).read_text(encoding="utf-8")
        except OSError:
            return []
        rows = []
        for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):
            step, seconds = int(row.pop("step")), float(row.pop("seconds"))
            del row["waiting"]
            rows.append(Progress(step, seconds, sum(map(float, row.values()))))
        return rows

    def result(self) -> FinetuneResult | None:
        """The result; None while there is none."""
        return None if self.process is None or self.is_running else self.wait()

    def wait(self) -> FinetuneResult:
        """The result, once the process has ended.

        It has an error also if the process was killed.

        Raises:
            RuntimeError: it was never started.
        """
        status = self._wait()
        try:
            return FinetuneResult.read(self.folder / RESULT)
        except (OSError, ValueError):
            log = self.folder / OUTPUT
            return FinetuneResult(error=f"It ended with status {status}; {log} may tell why.")

    def _wait(self) -> int:
        if self.process is None:
            raise RuntimeError("The job was not started.")
        status = self.process.wait()
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        return status


def main(arguments: list[str] | None = None) -> None:
    """The process: do the job of a folder."""
    parser = argparse.ArgumentParser(prog="python -m samlet.training.job", description=main.__doc__)
    parser.add_argument("folder", type=Path, help=f"Folder with {JOB}.")
    parser.add_argument(
        "--obey-stdin",
        action="store_true",
        help="Stop at the line `stop` on standard input, and end at once where that ends.",
    )
    given = parser.parse_args(arguments)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    # Until the training loop catches it, and stops between steps.
    signal.signal(signal.SIGTERM, _interrupt)
    if given.obey_stdin:
        threading.Thread(target=_obey_stdin, daemon=True).start()
    _do(given.folder).write(given.folder / RESULT)


def _do(folder: Path) -> FinetuneResult:
    result = FinetuneResult()
    try:
        # Torch takes seconds to import, and the program that starts a job does not need it.
        from samlet.training.finetuning.finetune import finetune, measure_held_out
        from samlet.training.settings import FinetuneSettings, resolve_settings

        job = json.loads((folder / JOB).read_text(encoding="utf-8"))
        settings = resolve_settings(FinetuneSettings, None, job["settings"])
        finetuned = finetune(settings, folder / RUN)
        result = FinetuneResult(
            model=finetuned.path,
            images=finetuned.images,
            held_out=len(finetuned.held_out),
            skipped=finetuned.skipped,
            notes=list(finetuned.notes),
            warnings=list(finetuned.warnings),
        )
        if job["measure"]:
            before, after = measure_held_out(finetuned)
            result = dataclasses.replace(result, before=before, after=after)
    except KeyboardInterrupt as stop:
        if result.model is None:
            error = str(stop) or "Stopped before the first step was done."
            result = dataclasses.replace(result, is_stopped=True, error=error)
    except UserError as error:
        result = dataclasses.replace(result, error=str(error))
    except Exception as error:
        traceback.print_exc()
        result = dataclasses.replace(result, error=f"{type(error).__name__}: {error}")
    return result


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _obey_stdin() -> None:
    # Not through sys.stdin, whose lock this thread would hold when the interpreter ends.
    while received := os.read(0, len(_STOP)):
        if received == _STOP:
            _thread.interrupt_main(signal.SIGTERM)
    os._exit(1)


if __name__ == "__main__":
    main()
