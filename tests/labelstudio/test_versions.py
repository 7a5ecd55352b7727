"""The models that projects have trained."""

from pathlib import Path

import pytest

from samlet.errors import UserError
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training.versions import CHOSEN, FACTS, MODEL, Version, Versions


def add(versions: Versions, project: str, name: str, date: str) -> Version:
    checkpoint = versions.folder.parent / "trained.safetensors"
    checkpoint.write_bytes(name.encode())
    return versions.add(project, name, checkpoint, {"date": date, "images": 3})


def test_add_list_and_choose(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "projects")
    assert versions.all("3") == [] and versions.chosen("3") is None
    newer = add(versions, "3", "a-newer", "2026-11-24T00:00:00+00:00")
    older = add(versions, "3", "b-older", "2026-11-23T00:00:00+00:00")
    assert versions.all("3") == [older, newer] and versions.chosen("3") is None
    assert newer.path.read_bytes() == b"a-newer" and newer.facts["images"] == 3
    versions.choose("3", "a-newer")
    # Another process sees the same, another project nothing of it.
    again = Versions(tmp_path / "projects")
    assert again.chosen("3") == newer
    assert again.all("4") == [] and again.chosen("4") is None
    again.choose("3", "b-older")
    assert versions.chosen("3") == older
    versions.choose("3", None)
    assert versions.chosen("3") is None and versions.all("3") == [older, newer]


def test_versions_that_are_not_there(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "projects")
    with pytest.raises(UserError, match="has no version x: none has been trained yet"):
        versions.choose("3", "x")
    version = add(versions, "3", "a", "2026")
    for name in ("x", "../3/a", ".", ""):
        with pytest.raises(UserError, match=r"has no version .*: choose one of a\."):
            versions.choose("3", name)
    assert versions.chosen("3") is None
    versions.choose("3", "a")
    # One that was deleted by hand, or not written to its end.
    version.path.with_name(FACTS).write_text("{")
    assert versions.all("3") == [] and versions.chosen("3") is None
    version.path.with_name(FACTS).unlink()
    assert versions.chosen("3") is None


@pytest.mark.parametrize(
    "project",
    ["..", "../3", "3/..", "/etc", "3\n", "-1", "1.5", "nan", "three", "\u0663", "9" * 19, "\0"],
)
def test_bad_projects(tmp_path: Path, project: str) -> None:
    service = Service(Settings(folder=tmp_path))
    versions = service.versions
    checkpoint = tmp_path / "trained.safetensors"
    checkpoint.touch()
    for call in (
        lambda: versions.all(project),
        lambda: versions.chosen(project),
        lambda: versions.choose(project, None),
        lambda: versions.add(project, "a", checkpoint, {}),
        lambda: service.trainer.handle_event(project, "START_TRAINING"),
        lambda: service.trainer.outcome(project),
    ):
        with pytest.raises(UserError, match="is no project: give its number"):
            call()
    assert checkpoint.exists() and service.trainer.running is None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "projects").write_text("not a folder")
    versions = Versions(tmp_path / "projects")
    assert versions.all("3") == []
    for call in (
        lambda: add(versions, "3", "a", "2026"),
        lambda: versions.choose("3", None),
    ):
        with pytest.raises(UserError, match="Cannot write"):
            call()


def test_names_of_files(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "projects")
    add(versions, "", "a", "2026")
    versions.choose("", "a")
    folder = tmp_path / "projects" / "0"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == [
        f"a/{MODEL}",
        f"a/{FACTS}",
        CHOSEN,
    ]
