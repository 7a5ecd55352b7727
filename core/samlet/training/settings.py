"""The settings of training runs: declared here, and nowhere else.

The command line (`samlet.cli.settings_command`), the YAML files of `--config`, the `config.yaml` in
a run's folder and the documentation are all made of these declarations. Importing this module does
not import torch.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from samlet.errors import UserError
from samlet.images import SliceChoice
from samlet.images.rgb import parse_channels
from samlet.training.run_files import CONFIG
from samlet.utils.files import atomic_path


def _parse_number(value: Any) -> Any:
    """Numbers as people write them.

    YAML reads 1e-4, unlike 1.0e-4, as text; and pydantic takes true for 1.
    """
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        for number in (int, float):
            with suppress(ValueError):
                return number(value)
    return value


def _parse_no(value: Any) -> Any:
    """YAML reads the word `no` as false."""
    return "no" if value is False else value


def _parse_text(value: Any) -> Any:
    """YAML reads 3 as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_Number = BeforeValidator(_parse_number)
_Text = BeforeValidator(_parse_text)
PositiveInt = Annotated[int, Field(gt=0), _Number]
NonNegativeInt = Annotated[int, Field(ge=0), _Number]
PositiveFloat = Annotated[float, Field(gt=0), _Number]
NonNegativeFloat = Annotated[float, Field(ge=0), _Number]
Precision = Literal["auto", "no", "bf16", "fp16"]

# Those whose default depends on the kind of training.
LearningRate = Annotated[PositiveFloat, Field(description="Peak learning rate (cosine schedule).")]
Ema = Annotated[
    NonNegativeFloat,
    Field(
        description="Decay of the exponential moving average of the weights, which is the result; "
        "0 takes the last weights instead."
    ),
]
BatchSize = Annotated[
    PositiveInt,
    Field(description="Images per step, over all processes and accumulated parts together."),
]


class OptimizerSettings(BaseModel):
    """How fast a model is trained."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    learning_rate: LearningRate = 1e-3
    warmup: NonNegativeInt = 100
    """Steps of linear warmup to the peak learning rate."""
    weight_decay: NonNegativeFloat = 0.02
    """AdamW weight decay, of matrices and kernels only."""
    clip: PositiveFloat = 1.0
    """Maximum gradient norm; larger gradients are scaled down."""
    ema: Ema = 0.998
    save_minutes: NonNegativeFloat = 5.0
    """Minutes between saves of the training state."""
    seed: NonNegativeInt = 0
    """Seed of everything random."""


class LoopSettings(OptimizerSettings):
    """The settings of `samlet.training.loop.train`."""

    steps: PositiveInt
    """Optimizer steps in total; the cosine schedule ends there."""
    prefetch: NonNegativeInt = 2
    """Batches that are prepared while the model computes."""


class TrainSettings(OptimizerSettings):
    """The settings that every kind of training run has."""

    steps: PositiveInt | None = None
    """Optimizer steps in total; computed from the epochs if not given."""
    epochs: PositiveFloat = 8.0
    """How many times each image is used, if no steps are given."""
    batch_size: BatchSize = 8
    accumulate: PositiveInt = 1
    """Parts of each batch, computed one after the other to save memory."""
    precision: Annotated[Precision, BeforeValidator(_parse_no)] = "auto"
    """Precision of the forward pass; no is float32, auto the fastest that the hardware supports."""
    threads: NonNegativeInt = 2
    """Image-loading threads per process."""

    def batch_size_per_process(self, processes: int) -> int:
        """Images in each accumulated part of the batch of each process.

        Raises:
            UserError: the batch cannot be divided evenly.
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
        """Optimizer steps in total, for so many images.

        Raises:
            UserError: neither steps nor the number of images is known.
        """
        if self.steps is not None:
            return self.steps
        if images is None:
            raise UserError(
                "The number of images is not known before they are read: say how long to train "
                "with --steps."
            )
        return max(1, round(self.epochs * images / self.batch_size))

    def loop_settings(self, steps: int) -> LoopSettings:
        """The settings of the loop, for so many steps."""
        shared = self.model_dump(include=set(OptimizerSettings.model_fields))
        return LoopSettings(steps=steps, **shared)


class ImageSettings(TrainSettings):
    """Which parts of the images are used."""

    channels: Annotated[str | None, _Text] = None
    """One to three channels of multichannel images, counted from 0: 0,2."""
    slice: Annotated[str | None, _Text] = None
    """Slices of stacks, counted from 0: 3, or 3-7; t=0,z=3 where there are time and z. All if not
    given."""
    series: Annotated[str | None, _Text] = None
    """Series (image, scene, position) of files with several, counted from 0, or all; the first if
    not given."""

    def chosen_slices(self) -> SliceChoice:
        """What `slice` and `series` mean.

        Raises:
            UserError: one of them is wrong.
        """
        return SliceChoice.parse(self.slice, self.series)

    def chosen_channels(self) -> list[int] | None:
        """What `channels` means.

        Raises:
            UserError: it is wrong.
        """
        return parse_channels(self.channels)


class DistillSettings(ImageSettings):
    """The settings of `samlet distill`."""

    images: str
    """Folder of images or of tar shards in SA-1B's layout, a single shard, or the URL of one of
    these; or a text file with one path or URL per line."""
    teacher: str
    """Name or checkpoint file of the teacher model."""
    student: str = "tiny_vit_5m"
    """tiny_vit_2m, 5m, 11m or 21m for a new student; or the name or file of a model to start
    from."""
    mode: Literal["decoupled", "semi-coupled", "coupled"] = "decoupled"
    """What is compared with the teacher: embeddings (decoupled), or masks through a frozen
    (semi-coupled) or trained (coupled) decoder; see MobileSAM, section 3.2."""
    image_size: PositiveInt | None = None
    """Input size in pixels; the teacher's own if not given."""
    embeddings: str | None = None
    """Folder of the teacher's embeddings, which several runs can share; one in the run's folder
    if not given."""
    on_the_fly: bool = False
    """Compute the teacher's embeddings at every step instead of storing them."""
    embed_batch_size: PositiveInt = 4
    """Images per batch of the teacher."""
    validation: str | None = None
    """Validation images, given as the training images are; some of these are held out if not
    given."""
    labels: str | None = None
    """Labels of validation images, to measure the student against; nothing is trained on them."""
    clicks: PositiveInt = 4
    """Clicks per image in the coupled modes."""


class FinetuneSettings(ImageSettings):
    """The settings of `samlet finetune`."""

    images: str
    """Folder of images and stacks."""
    labels: str
    """Labels of the images: a folder of label maps and label stacks, SA-1B JSON files, zips of
    ImageJ ROIs or YOLO text, or a JSON file of COCO or Label Studio."""
    model: str = "microscopy"
    """Model to start from: a name or a checkpoint file."""
    train: Literal["all", "decoder", "head"] = "all"
    """What is trained: all; only the decoder, which is safer with few labels and keeps stored
    embeddings valid; or only what finds objects for everything mode, the proposal head or the
    instance decoder. The decoder and all include that."""
    objects: PositiveInt = 8
    """Prompted objects per image."""
    corrections: PositiveInt = 3
    """Maximum number of corrective clicks after a prompt."""
    split: bool | None = None
    """Whether each connected part of a label is an object of its own, as in masks of 0 and 255. If
    not given, labels that look like such masks are refused."""
    batch_size: BatchSize = 4
    learning_rate: LearningRate = 1e-4
    ema: Ema = 0.99


S = TypeVar("S", bound=TrainSettings)

_MAY_CHANGE = {
    *("steps", "epochs", "threads", "save_minutes", "embed_batch_size", "validation", "labels")
}
"""Settings that may differ when a run is resumed."""


def resolve_settings(kind: type[S], file: Path | None, flags: Mapping[str, Any]) -> S:
    """Put the settings of a run together: defaults, then a YAML file, then flags.

    Args:
        kind: the settings class.
        file: a YAML mapping with the names of the flags (hyphens or underscores); None for none.
        flags: values by name; None where a flag was not given.

    Raises:
        UserError: the file cannot be read, or a name or value is wrong.
    """
    values = {} if file is None else _read(file)
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        return kind(**values)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        # A misspelt name explains why another is missing.
        first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
        name = str(first["loc"][0])
        raise UserError(_explain(first["type"], first["msg"], name, values, kind, file)) from error


def _explain(
    code: str, message: str, name: str, values: Mapping[str, Any], kind: type[S], file: Path | None
) -> str:
    """A sentence on what pydantic found wrong."""
    if code == "extra_forbidden":
        names = ", ".join(kind.model_fields)
        where = "" if file is None else f"{file}: "
        return f"{where}There is no setting {name!r}; choose from {names}."
    if code == "missing":
        return f"{name} is missing: give it as an argument or in --config."
    if code == "string_type":
        message = "Input should be text (in quotes if it is a number)"
    expected = re.sub(r", (unable|got) .*", "", message).removeprefix("Input ")
    return f"{name} {expected}, not {values[name]!r}."


def save_settings(settings: TrainSettings, out: Path) -> None:
    """Write the settings to the run's folder, or check that they are the ones it was started with.

    How long to train, and what does not change the result, may differ between sessions.

    Raises:
        UserError: the folder holds a run with other settings.
    """
    path, now = out / CONFIG, settings.model_dump()
    # A power cut can leave it empty; what the run is, its state knows, too.
    if path.exists() and path.read_bytes().strip(b"\0 \n"):
        before = _read(path)
        for name in sorted(set(now) - _MAY_CHANGE):
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
        raise UserError(f"{path} has no settings: write lines such as `batch_size: 16`.")
    return {str(name).replace("-", "_"): value for name, value in values.items()}
