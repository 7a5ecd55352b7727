"""Training on the layers of a viewer, in a process of its own: `samlet finetune`.

A training that crashes harms no viewer, and one that is stopped goes on where it was.
"""

import atexit
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
import torch
from napari.layers import Image, Labels
from PIL import Image as PillowImage

import samlet
from samlet import Predictor
from samlet.crops import Box
from samlet.distill.data import Crops, Example
from samlet.distill.journal import LOG
from samlet.distill.mask_training import MaskLearner
from samlet.distill.precision import open_accelerator
from samlet.distill.settings import FinetuneSettings
from samlet.errors import UserError
from samlet.evaluation.prompts import evaluate_prompts
from samlet.files import atomic_path
from samlet.finetune import MODEL, crop_side, held_out_count, plan_for
from samlet.modeling.sam import Sam
from samlet.outputs import write_label_map
from samlet_napari.pixels import Picture, Plane, full, told

LARGEST_PLANE = 2048
"""Pixels along a side. Larger planes are cut up, as objects would be tiny when shown whole."""
LARGEST_PIECE = 1024

IMAGES, LABELS, RUN, OUTPUT = "images", "labels", "run", "log.txt"

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


class Piece(NamedTuple):
    """A part of a plane, half open: x0, y0, x1, y1."""

    plane: Plane
    box: Box


@dataclass(frozen=True, eq=False)
class Pairs:
    """An image and its labels, plane by plane: a snapshot, for other threads to read.

    Attributes:
        picture: the image.
        labels: integers of the picture's shape; 0 is background.
        names: of the two layers, for messages.
    """

    picture: Picture
    labels: Any
    names: tuple[str, str]

    @classmethod
    def of(cls, image: Image | None, labels: Labels | None) -> "Pairs":
        """Take a snapshot of two layers.

        Raises:
            UserError: one is missing, or their shapes differ.
        """
        if image is None:
            raise UserError("Choose an image layer: there is none in the viewer yet.")
        if labels is None:
            raise UserError("Choose a labels layer: there is none in the viewer yet.")
        picture = Picture.of([image])
        array = full(labels)
        if tuple(array.shape) != picture.shape:
            raise UserError(
                f"{labels.name} is {told(array.shape)} and {image.name} is "
                f"{told(picture.shape)}: choose labels of the same size as the image."
            )
        return cls(picture, array, (image.name, labels.name))

    def pieces(self) -> Iterator[Piece]:
        """All planes along the last two axes, the large ones in pieces."""
        *leading, height, width = self.picture.shape
        axes = (len(leading), len(leading) + 1)
        is_large = max(height, width) > LARGEST_PLANE
        rows, columns = (_parts(side) if is_large else [0, side] for side in (height, width))
        for index in np.ndindex(*leading):
            plane = Plane(axes, (*index, 0, 0))
            for y0, y1 in pairwise(rows):
                for x0, x1 in pairwise(columns):
                    yield Piece(plane, (x0, y0, x1, y1))

    def labels_in(self, piece: Piece) -> np.ndarray | None:
        """The objects of a piece, numbered from 1: uint16, h x w; None if there are none.

        Raises:
            UserError: there are more than a label map can number.
        """
        values = np.asarray(self.labels[piece.plane.region(piece.box)])
        if not values.any():
            return None
        # Numbers may be negative, or beyond what a label map holds.
        objects = np.unique(values[values != 0])
        if len(objects) > np.iinfo(np.uint16).max:
            raise UserError(f"{self.names[1]} has {len(objects)} objects on a plane: check it.")
        numbers = np.searchsorted(objects, values) + 1
        return np.where(values == 0, 0, numbers).astype(np.uint16)

    def image_in(self, piece: Piece) -> np.ndarray:
        """RGB, uint8, h x w x 3.

        Raises:
            UserError: the pixels are not real numbers.
        """
        return self.picture.read(piece.plane, piece.box)

    def refuse(self) -> UserError:
        """What to raise when no piece has labels."""
        return UserError(f"{self.names[1]} has no objects: label some in {self.names[0]} first.")


@dataclass(frozen=True)
class Pace:
    """How fast this computer trains on these labels, as measured.

    Attributes:
        images: there are with labels.
        per_step: seconds.
        per_judged: seconds to measure a model on an image that was kept back.
    """

    images: int
    per_step: float
    per_judged: float

    def seconds(self, steps: int) -> float:
        """How long a training will take."""
        # Two models are measured on what is kept back.
        return steps * self.per_step + 2 * held_out_count(self.images) * self.per_judged


def measure(pairs: Pairs, model: str) -> Generator[None, None, Pace]:
    """Take a few real training steps with a model of its own, and measure a real image with it.

    Args:
        pairs: what will be trained on.
        model: what `samlet.load` takes.

    Yields:
        often, so that a thread can be stopped.

    Raises:
        UserError: there are no labels, or the model cannot be loaded.
    """
    count, example = 0, None
    for piece in pairs.pieces():
        labels = pairs.labels_in(piece)
        if labels is not None:
            count += 1
            example = example or Example("", pairs.image_in(piece), labels[None].astype(np.int32))
        yield
    if example is None:
        raise pairs.refuse()
    own = samlet.load(model)
    # Of a single image nothing is kept back.
    begun = time.monotonic()
    if count > 1:
        list(evaluate_prompts(Predictor(own, "torch"), [example]))
    per_judged = time.monotonic() - begun
    yield
    settings = FinetuneSettings(images="", labels="", model=model, train="decoder")
    without, with_one = yield from _step_seconds(own, example, settings)
    plan = plan_for(own, settings)
    rounds = plan.correct_share * (1 + plan.corrections) / 2
    return Pace(count, without + rounds * max(0.0, with_one - without), per_judged)


def _step_seconds(
    model: Sam, example: Example, settings: FinetuneSettings
) -> Generator[None, None, list[float]]:
    """Seconds of a step without corrective clicks, and of one with a single round of them.

    How many rounds a step has is drawn at random and decides how long it takes, so that the mean of
    a few steps would tell little.
    """
    accelerator = open_accelerator(settings.precision, all_used=False)
    plan = replace(plan_for(model, settings), corrections=1)
    module = MaskLearner(model, plan, settings.train)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad])
    learner, stepper = accelerator.prepare(module, optimizer)
    learner.train()
    crops = Crops([example], model.config.image_size, crop_side(model), settings.batch_size)
    seconds = []
    for share in (0.0, 1.0):
        module.plan = replace(plan, correct_share=share)
        taken = []
        for number in range(2):
            begun = time.monotonic()
            batch = crops.batch(number)
            losses = learner(batch.to(accelerator.device))
            accelerator.backward(torch.stack(list(losses.values())).sum())
            stepper.step()
            stepper.zero_grad(set_to_none=True)
            # A device that computes by itself is waited for.
            float(next(iter(losses.values())))
            taken.append(time.monotonic() - begun)
            yield
        # A first step sets things up.
        seconds.append(min(taken))
    return seconds


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
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=time.strftime("%Y-%m-%d-"), dir=folder))
    except OSError as error:
        raise UserError(
            f"Cannot write {folder}: {error.strerror}. Free space, or set SAMLET_NAPARI_RUNS to "
            "another folder."
        ) from error


def export(pairs: Pairs, folder: Path) -> Generator[int, None, int]:
    """Write what has labels: `images/NAME.png` and `labels/NAME.png`.

    Yields:
        how many were written so far, often, so that a thread can be stopped.

    Returns:
        how many there are.

    Raises:
        UserError: none has labels, or the folder cannot be written.
    """
    count = 0
    for number, piece in enumerate(pairs.pieces()):
        labels = pairs.labels_in(piece)
        if labels is not None:
            name = f"{number:06}.png"
            with atomic_path(folder / IMAGES / name) as temporary:
                PillowImage.fromarray(pairs.image_in(piece)).save(temporary)
            write_label_map(folder / LABELS / name, labels)
            count += 1
        yield count
    if count == 0:
        raise pairs.refuse()
    return count


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
        last = said[-1].removeprefix("Error: ") if said else "it was killed, and said nothing."
        raise UserError(f"The training has failed: {last}")

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


def _parts(side: int) -> list[int]:
    """Where to cut a side, evenly, with both ends."""
    count = ceil(side / LARGEST_PIECE)
    return [side * number // count for number in range(count + 1)]
