"""Old module names, which keep working with a DeprecationWarning."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

MOVED = {
    "batch": "everything.batch",
    "distill": "training.distillation",
    "distill.distillation": "training.distillation.distill",
    "distill.examples": "datasets.examples",
    "distill.loop": "training.loop",
    "distill.settings": "training.settings",
    "downloads": "checkpoints.downloads",
    "embedding": "predict.embedding",
    "embedding_cache": "predict.embedding_cache",
    "files": "utils.files",
    "fingerprint": "modeling.fingerprint",
    "finetune": "training.finetuning.finetune",
    "image_files": "images.decoding",
    "labels": "datasets",
    "measurements.pixel_size": "images.formats.pixel_size",
    "official": "checkpoints.official",
    "overlay": "outputs.drawing",
    "polygons": "masks.polygons",
    "predictor": "predict.predictor",
    "progress": "utils.progress",
    "prompts": "predict.prompts",
    "results": "outputs.results",
    "rle": "masks.rle",
    "sam_predictor": "predict.sam_predictor",
    "teachers": "modeling",
    "tiles": "everything.tiling",
    "transforms": "predict.transforms",
    "zoom": "predict.zoom",
}
"""Old module names below `samlet.`, and their new ones."""


class _MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return (
            None if _new_name(fullname) is None else importlib.machinery.ModuleSpec(fullname, self)
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        new = _new_name(module.__name__)
        assert new is not None
        warnings.warn(
            f"{module.__name__} is now {new}: import it from there.",
            DeprecationWarning,
            stacklevel=6,
        )
        # The import machinery returns what is in sys.modules once this method has returned.
        sys.modules[module.__name__] = importlib.import_module(new)


def _new_name(name: str) -> str | None:
    top, _, old = name.partition(".")
    head, tail = old, ""
    while top == "samlet" and head:
        if head in MOVED:
            return f"samlet.{MOVED[head]}{tail}"
        head, _, last = head.rpartition(".")
        tail = f".{last}{tail}"
    return None


def install() -> None:
    """Let modules be imported by their old names, with a DeprecationWarning."""
    sys.meta_path.insert(0, _MovedModules())
