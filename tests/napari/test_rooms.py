"""The rooms of the plugin that need no Qt work where there is none."""

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys
import samlet_napari

ROOMS = ("inference", "labels", "layers", "session", "viewer")
FILES = ("messages", "time_estimate", "training_data", "training_run")
FOLDER = ("autosave", "everything", "image_folder", "layer_files", "loader")
names = [f"samlet_napari.folder.{name}" for name in FOLDER]
names += [f"samlet_napari.finetune.{name}" for name in FILES] + ["samlet_napari.sample_data"]
for room in ROOMS:
    package = importlib.import_module(f"samlet_napari.{room}")
    modules = pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    names += [module.name for module in modules]
for name in names:
    importlib.import_module(name)
toolkits = {"qtpy", "superqt", "PySide6", "PyQt6", "PyQt5"}
toolkits |= {"napari._qt", "napari.qt"}
print(len(names), sorted(toolkits & set(sys.modules)))
"""


def test_no_qt_is_imported() -> None:
    told = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    ).stdout
    count, rest = told.split(" ", 1)
    assert int(count) > 25 and rest == "[]\n"
