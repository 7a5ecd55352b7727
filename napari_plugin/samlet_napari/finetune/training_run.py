"""Finetuning on the layers of a viewer, in a process of its own; see `samlet.training.job`."""

import atexit
import os
import secrets
import shutil
import time
from pathlib import Path

import platformdirs

from samlet.errors import UserError
from samlet.training.job import FinetuneJob, FinetuneResult
from samlet_napari.finetune.training_data import IMAGES, LABELS


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


class TrainingRun:
    """A training of the mask decoder, in a process that does not outlive this one.

    Args:
        folder: of the run, from `new_folder`, with what `export` has written.
        model: the model to start from, as `samlet.load` takes it.

    Attributes:
        job: the process, and its log.
        is_stopping: whether it was asked to stop since it was started.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        self.model = model
        self.job = FinetuneJob(folder)
        self.is_stopping = False
        atexit.register(self.close)

    def start(self, steps: int) -> None:
        """Start, or resume after a stop.

        Args:
            steps: in all.

        Raises:
            UserError: the process cannot be started.
        """
        self.is_stopping = False
        self.job.start(
            {
                "images": str(self.folder / IMAGES),
                "labels": str(self.folder / LABELS),
                "model": self.model,
                "train": "decoder",
                "steps": steps,
                # Objects are used as the user has drawn them, with a warning if they look wrong.
                "split": False,
            }
        )

    def stop(self) -> None:
        """Ask it to end after the current step, with its state saved."""
        self.is_stopping = True
        self.job.stop()

    def result(self) -> FinetuneResult | None:
        """The result, with a model; None while it is running.

        Raises:
            UserError: it was stopped, or has failed.
        """
        result = self.job.result()
        if result is None or result.model is not None:
            return result
        error = result.error or "there is no model"
        raise UserError(error if result.is_stopped else f"The training has failed: {error}")

    def close(self) -> None:
        """End the process at once, and remove the run's folder."""
        atexit.unregister(self.close)
        self.job.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
