"""The choices of a run: defaults, a YAML file, flags; kept in the run's folder."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from samlet.errors import UserError
from samlet.training.loop import LoopSettings
from samlet.training.precision import Precision
from samlet.utils.files import atomic_path

CONFIG = "config.yaml"

_FROM_ZERO = ("warmup", "weight_decay", "ema", "threads", "save_minutes", "seed")
"""Settings that may be 0; all other numbers are above."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What every kind of training asks.

    Args:
        steps: optimizer steps; None to count them from `epochs`.
        epochs: how often each image is seen.
        batch_size: images a step, over all processes and accumulated batches together, so that a
            run means the same on one GPU and on thirty-two.
        accumulate: parts in which each process computes its share of the batch, one after the
            other, where memory is short.
        learning_rate: its peak; it grows for `warmup` steps and falls along a cosine.
        warmup: see there.
        weight_decay: of AdamW, on matrices and kernels.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights, which are the result; 0 for the last weights.
        precision: "auto", "no" (float32), "bf16" or "fp16".
        threads: that read and decode images, a process.
        save_minutes: how often the state is written.
        seed: decides everything random.
    """

    steps: int | None = None
    epochs: float = 8.0
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.998
    precision: Precision = "auto"
    threads: int = 2
    save_minutes: float = 5.0
    seed: int = 0

    def share(self, processes: int) -> int:
        """Images in each part of the batch of each process.

        Raises:
            UserError: they do not come out even.
        """
        share, rest = divmod(self.batch_size, processes * self.accumulate)
        if rest or share == 0:
            raise UserError(
                f"A batch of {self.batch_size} cannot be shared evenly by {processes} processes "
                f"with {self.accumulate} parts each: choose a --batch-size that "
                f"{processes * self.accumulate} divides."
            )
        return share

    def total_steps(self, images: int | None) -> int:
        """Steps in all, for so many images.

        Raises:
            UserError: neither steps nor the number of images is known.
        """
        if self.steps is not None:
            return self.steps
        if images is None:
            raise UserError(
                "Nobody knows how many images there are before they are read: say how long to "
                "train with --steps."
            )
        return max(1, round(self.epochs * images / self.batch_size))


@dataclass(frozen=True, kw_only=True)
class DistillSettings(TrainSettings):
    """The choices of `samlet distill`.

    Args:
        images: see `sources.open_source`.
        teacher: a model's name or file.
        student: a TinyViT's name, to begin from random weights; or a model's name or file, to go
            on from its weights.
        mode: "decoupled", "semi-coupled" or "coupled" (MobileSAM, section 3.2).
        image_size: input size of student and teacher; None for the teacher's own.
        embeddings: folder of the embeddings on disk; None for one in the run's folder.
        on_the_fly: ask the teacher at every step, and store nothing.
        embed_batch_size: images a batch of the teacher.
        validation: images to judge the result by, as `images`; None to keep some of `images` back.
        labels: of the images that are kept back, as in `samlet.datasets.find_labelled_images`, to
            measure against; nothing learns from them.
        clicks: an image, in the coupled modes.
    """

    images: str
    teacher: str
    student: str = "tiny_vit_5m"
    mode: Literal["decoupled", "semi-coupled", "coupled"] = "decoupled"
    image_size: int | None = None
    embeddings: str | None = None
    on_the_fly: bool = False
    embed_batch_size: int = 4
    validation: str | None = None
    labels: str | None = None
    clicks: int = 4


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(TrainSettings):
    """The choices of `samlet finetune`.

    Args:
        images: folder of the images.
        labels: see `samlet.datasets.find_labelled_images`.
        model: a model's name or file, to go on from.
        train: "all", or "decoder" to leave the image encoder as it is: safer with few labels, and
            embeddings that were kept stay valid.
        objects: prompts an image.
        corrections: most corrective clicks after a prompt.
        split: whether each connected part of an object is an object of its own; None to take
            objects as they are, but refuse labels that look like masks of classes.
        batch_size, learning_rate, ema: as in `TrainSettings`.
    """

    images: str
    labels: str
    model: str = "nuclei"
    train: Literal["all", "decoder"] = "all"
    objects: int = 8
    corrections: int = 3
    split: bool | None = None
    batch_size: int = 4
    learning_rate: float = 1e-4
    ema: float = 0.99


S = TypeVar("S", bound=TrainSettings)


def resolve(kind: type[S], file: Path | None, flags: Mapping[str, Any]) -> S:
    """Put a run's choices together: defaults, then the YAML file, then the flags that were given.

    Args:
        kind: which settings.
        file: a YAML mapping with the names of the flags (hyphens or underscores); None for none.
        flags: values by name; None where a flag was not given.

    Raises:
        UserError: the file cannot be read, or a name or value is not one.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {} if file is None else _read(file)
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise UserError(
            f"{file} names {unknown[0]!r}, which is no setting; choose from {', '.join(fields)}."
        )
    values |= {name: value for name, value in flags.items() if value is not None}
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and name not in values
    ]
    if missing:
        raise UserError(f"{missing[0]} is missing: give it as an argument or in --config.")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _checked(name, value, hints[name]) for name, value in values.items()})


def keep(settings: TrainSettings, out: Path) -> None:
    """Write the choices to the run's folder, or see that they are those of before.

    How long to train, and what does not touch the result, may change between sessions.

    Raises:
        UserError: the folder holds a run with other choices.
    """
    path, now = out / CONFIG, dataclasses.asdict(settings)
    free = {
        "steps",
        "epochs",
        "threads",
        "save_minutes",
        "embed_batch_size",
        "validation",
        "labels",
    }
    # A power cut can leave it empty; what the run is, its state knows, too.
    if path.exists() and path.read_bytes().strip(b"\0 \n"):
        before = _read(path)
        for name in sorted(set(now) - free):
            if before.get(name) != now[name]:
                raise UserError(
                    f"{out} holds a run with {name} = {before.get(name)}, and now it is "
                    f"{now[name]}: choose another --out, or remove that folder."
                )
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(now, sort_keys=False), encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML ({error}); check it.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is no list of settings: write lines such as `batch_size: 16`.")
    return {str(name).replace("-", "_"): value for name, value in values.items()}


def _checked(name: str, value: Any, hint: Any) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
    for option in options:
        with suppress(ValueError, OverflowError):
            return _as(option, value, least=0 if name in _FROM_ZERO else 1)
    told = [_told(option, least=0 if name in _FROM_ZERO else 1) for option in options]
    raise UserError(f"{name} takes {' or '.join(t for t in told if t)}, not {value!r}.")


def _as(option: Any, value: Any, least: int) -> Any:
    """A value in the type that is asked for.

    YAML reads 1e-4, unlike 1.0e-4, as text, and the word no as false.

    Raises:
        ValueError: it is none.
    """
    if typing.get_origin(option) is Literal:
        value = "no" if value is False else value
        if value in typing.get_args(option):
            return value
    elif option in (int, float):
        number = float(value) if isinstance(value, int | float | str) else math.nan
        if isinstance(value, bool) or not math.isfinite(number) or number < 0:
            raise ValueError
        if option is float and (number > 0 or least == 0):
            return number
        if option is int and number == int(number) and number >= least:
            # Beyond 2**53 a float is not the whole number that was written.
            return value if isinstance(value, int) else int(number)
    elif isinstance(value, option):
        return value
    raise ValueError


def _told(option: Any, least: int) -> str:
    if typing.get_origin(option) is Literal:
        return " or ".join(typing.get_args(option))
    whole = "a whole number" if least == 0 else "a whole number from 1"
    number = "a number from 0" if least == 0 else "a number above 0"
    told = {int: whole, float: number, str: "text (in quotes if it is a number)"}
    return told.get(option, "true or false" if option is bool else "")


def loop_settings(settings: TrainSettings, steps: int) -> LoopSettings:
    """The part of the choices that the loop asks for."""
    names = {field.name for field in dataclasses.fields(LoopSettings)} - {"steps", "prefetch"}
    return LoopSettings(steps=steps, **{name: getattr(settings, name) for name in names})
