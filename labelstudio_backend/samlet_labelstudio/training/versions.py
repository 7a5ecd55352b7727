"""The models that projects have trained, and which of them is used."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samlet.errors import UserError
from samlet.utils.files import atomic_path

MODEL = "model.safetensors"
FACTS = "version.json"
CHOSEN = "chosen.txt"


@dataclass(frozen=True)
class Version:
    """A trained model.

    Attributes:
        name: names base model, data and date: "microscopy.project-3.42-images.2026-11-23T14-05-09".
        path: its checkpoint.
        facts: how it was made, and its scores before and after training.
    """

    name: str
    path: Path
    facts: dict[str, Any]


class Versions:
    """Trained models of all projects, in a folder that other processes may write as well.

    Args:
        folder: has one folder per project; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self, project: str) -> list[Version]:
        """A project's versions, the oldest first.

        Raises:
            UserError: not a project's number.
        """
        read = (_read(path.parent) for path in sorted(self._folder(project).glob(f"*/{FACTS}")))
        found = [version for version in read if version is not None]
        return sorted(found, key=lambda version: str(version.facts.get("date")))

    def chosen(self, project: str) -> Version | None:
        """The version that a project uses; None is the model that the backend was started with.

        Raises:
            UserError: not a project's number.
        """
        try:
            name = (self._folder(project) / CHOSEN).read_text(encoding="utf-8").strip()
        except OSError:
            return None
        return _read(self._folder(project) / name) if name else None

    def choose(self, project: str, name: str | None) -> None:
        """Use a version from now on; None goes back to the model that the backend started with.

        Raises:
            UserError: there is no such version.
        """
        known = [version.name for version in self.all(project)]
        if name is not None and name not in known:
            raise UserError(
                f"Project {project} has no version {name}: "
                + (f"choose one of {', '.join(known)}." if known else "none has been trained yet.")
            )
        with atomic_path(self._folder(project) / CHOSEN) as temporary:
            temporary.write_text(name or "", encoding="utf-8")

    def add(self, project: str, name: str, model: Path, facts: dict[str, Any]) -> Version:
        """Keep a trained model: its checkpoint is moved here.

        Raises:
            UserError: the folder cannot be written.
        """
        folder = self._folder(project) / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.move(model, folder / MODEL)
        except OSError as error:
            raise UserError(
                f"Cannot write {folder}: {error.strerror or error}. Free space, or set "
                "SAMLET_FOLDER to another folder."
            ) from error
        # Last, so that it marks the version as complete.
        with atomic_path(folder / FACTS) as temporary:
            temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        return Version(name, folder / MODEL, facts)

    def _folder(self, project: str) -> Path:
        return self.folder / folder_name(project)


def _read(folder: Path) -> Version | None:
    """The version in a folder; None if it is incomplete."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Version(folder.name, folder / MODEL, facts)


def folder_name(project: str) -> str:
    """Name the folder of a project, whose number comes with requests; "0" if it is "".

    Raises:
        UserError: not a project's number.
    """
    if not re.fullmatch(r"[0-9]{0,18}", project):
        raise UserError(f"{project[:50]!r} is no project: give its number.")
    return project or "0"
