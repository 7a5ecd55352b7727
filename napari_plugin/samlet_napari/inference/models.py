"""The models that can be chosen in napari: bundled, the user's own, and those to download."""

import os
import re
import shutil
from pathlib import Path

import platformdirs
from psygnal import Signal

import samlet
from samlet import Predictor, checkpoints
from samlet.checkpoints.catalogue import catalogue
from samlet.checkpoints.downloads import find_local
from samlet.checkpoints.loading import BUNDLED
from samlet.checkpoints.registry import MODELS
from samlet.errors import UserError
from samlet.utils.files import atomic_path
from samlet.utils.single_flight import SingleFlightCache
from samlet_napari.triton import without_triton

SUFFIX = ".safetensors"
MAX_NAME_LENGTH = 80
"""Characters: paths in folders with long names have room for no more on Windows."""
MAX_LOADED = 3
"""Models in memory: more than that are seldom compared."""

_loaded: SingleFlightCache[Predictor] = SingleFlightCache(MAX_LOADED, lambda predictor: 1)


class ModelList:
    """Signals changes of the list of models.

    Attributes:
        changed: emitted in the thread that called `add`, when there is another model.
    """

    changed = Signal()


model_list = ModelList()


def folder() -> Path:
    """Where own models are: SAMLET_NAPARI_MODELS, or the user's data folder."""
    chosen = os.environ.get("SAMLET_NAPARI_MODELS")
    if chosen:
        return Path(chosen).expanduser()
    return Path(platformdirs.user_data_dir("samlet")) / "models"


def names() -> list[str]:
    """All names: bundled, own, and downloadable ones."""
    own = sorted((path.stem for path in _files()), key=str.casefold)
    return [*BUNDLED, *(name for name in own if not _is_builtin(name)), *MODELS]


def add(name: str, checkpoint: Path) -> Path:
    """Keep a copy of a checkpoint as an own model; `model_list` signals it.

    Args:
        name: what the user calls it; it becomes a file's name, with a number if it is taken.
        checkpoint: one of samlet's .safetensors files.

    Returns:
        the copy; its stem is the model's name.

    Raises:
        UserError: the folder cannot be written, or the checkpoint does not exist any more.
    """
    wanted = re.sub(r"[^\w.-]+", "-", name)[:MAX_NAME_LENGTH].strip("-.") or "model"
    # Names on Windows and macOS do not differ by case.
    taken = {known.casefold() for known in names()}
    free, number = wanted, 2
    while free.casefold() in taken:
        free, number = f"{wanted}-{number}", number + 1
    path = folder() / f"{free}{SUFFIX}"
    with atomic_path(path) as temporary:
        shutil.copyfile(checkpoint, temporary)
    model_list.changed.emit()
    return path


def to_loadable(name: str) -> str:
    """What `samlet.load` takes: an own model's file; a samlet name or a path as it is."""
    if not _is_builtin(name):
        for path in _files():
            if path.stem == name:
                return str(path)
    return name


def descriptions() -> dict[str, str]:
    """What each model is good for, its size and its licence, by name, for people."""
    try:
        named = {entry.name: entry.describe() for entry in catalogue()}
    except UserError as error:
        # SAMLET_MODELS is wrong, which is no reason not to open the widget.
        named = dict.fromkeys((*BUNDLED, *MODELS), str(error))
    return {path.stem: f"Your own model, {path}." for path in _files()} | named


def is_available(name: str) -> bool:
    """Whether nothing has to be downloaded before it can be used."""
    try:
        return name not in MODELS or all(map(find_local, MODELS[name].files))
    except UserError:
        # SAMLET_MODELS is wrong, which loading will report.
        return False


def predictor(name: str) -> Predictor:
    """Give a model, ready to predict: loaded once for all viewers and threads.

    Args:
        name: any of `names`, or a checkpoint's file.

    Raises:
        UserError: see `samlet.load`.
    """
    located = to_loadable(name)
    file = checkpoints.loading.resolve_path(located)
    # A file that was replaced is another model.
    key = f"{file} {file.stat().st_mtime_ns}"
    return _loaded.get(key, lambda: _load(located))


def _load(located: str) -> Predictor:
    # SAM's own encoders and EfficientNet are timm's.
    with without_triton():
        return Predictor(samlet.load(located))


def _is_builtin(name: str) -> bool:
    return name in BUNDLED or name in MODELS


def _files() -> list[Path]:
    # What begins with a dot is still being written.
    return [path for path in folder().glob(f"*{SUFFIX}") if not path.name.startswith(".")]
