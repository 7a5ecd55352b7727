"""Files appear whole or not at all."""

import os
from pathlib import Path

import pytest

from samlet.errors import UserError
from samlet.files import atomic_path


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as path:
        path.write_text("half of the new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_success_replaces_it_and_others_may_read(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "result.json"
    with atomic_path(target) as path:
        assert path.suffix == ".json"
        assert path.parent == target.parent
        path.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask
    assert [p.name for p in target.parent.iterdir()] == ["result.json"]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """/dev/full takes no byte; what fails there fails as on a full disk."""
    with (
        pytest.raises(UserError, match=r"Cannot write .*No space left"),
        atomic_path(tmp_path / "result") as path,
        Path("/dev/full").open("w") as full,
    ):
        path.write_text("")
        full.write("x" * 100_000)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"Cannot write .*result"),
        atomic_path(tmp_path / "file" / "result"),
    ):
        pass
