"""Files appear whole or not at all."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.torch import save_file

from samlet.errors import UserError
from samlet.utils.files import atomic_folder, atomic_path
from tests.disks import small_disk


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as path:
        path.write_text("half of the new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def write_own_file(path: Path) -> None:
    """What safetensors does: a file for the owner alone takes the place of the path."""
    own = path.with_name("own")
    own.touch(0o600)
    own.write_text("new")
    own.rename(path)


@pytest.mark.parametrize("write", [lambda path: path.write_text("new"), write_own_file])
def test_success_replaces_it_and_others_may_read(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    target = tmp_path / "new" / "folder" / "result.json"
    with atomic_path(target) as path:
        assert path.suffix == ".json"
        assert path.parent == target.parent
        write(path)
        assert not target.exists()
    assert target.read_text() == "new"
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask
    assert [p.name for p in target.parent.iterdir()] == ["result.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
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


def test_a_mode_and_a_link_stay(tmp_path: Path) -> None:
    file, link = tmp_path / "files" / "a.json", tmp_path / "link.json"
    file.parent.mkdir()
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    with atomic_path(link) as path:
        path.write_text("new")
    assert link.is_symlink() and file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in file.parent.iterdir()] == ["a.json"]


def test_the_umask_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the whole process's: for a moment another thread would make files for everybody."""
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", None)
        with atomic_path(tmp_path / "a") as path:
            assert path.stat().st_mode & 0o777 == 0o640
        with atomic_folder(tmp_path / "b") as path:
            (path / "file").write_text("")
        assert (tmp_path / "b").stat().st_mode & 0o777 == 0o750
    finally:
        monkeypatch.undo()
        os.umask(before)


@pytest.mark.parametrize("name", ["細胞" * 40 + ".png", "a" * 250 + ".tif", "x." + "y" * 250])
def test_names_as_long_as_a_file_system_takes(tmp_path: Path, name: str) -> None:
    with atomic_path(tmp_path / name) as path:
        path.write_text("new")
    assert (tmp_path / name).read_text() == "new"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for content in ("old", "new"):
        with atomic_folder(target) as path:
            (path / f"{content}.txt").write_text(content)
    assert [p.name for p in target.iterdir()] == ["new.txt"]
    with pytest.raises(RuntimeError), atomic_folder(target) as path:
        (path / "half.txt").write_text("")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["new.txt"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's list of open files")
def test_it_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the system calls is what a power cut can see: file, name, folder."""
    happened: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        happened.append("folder" if path.is_dir() else path.read_text())
        fsync(handle)

    def note_replace(source: Path, target: Path) -> None:
        happened.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    with atomic_path(tmp_path / "a") as path:
        path.write_text("content")
    assert happened == ["content", "rename", "folder"]


def save_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.random.rand(1 << 20))


def save_tiff(path: Path) -> None:
    tifffile.imwrite(path, np.random.rand(1 << 20))


WRITERS: dict[str, Callable[[Path], None]] = {
    "torch": lambda path: torch.save({"a": torch.rand(1 << 20)}, path),
    "safetensors": lambda path: save_file({"a": torch.rand(1 << 20)}, path),
    "numpy": save_array,
    "tiff": save_tiff,
    "pillow": lambda path: Image.effect_noise((2000, 2000), 100).save(path, format="PNG"),
}


@pytest.mark.parametrize("library", WRITERS)
def test_however_a_library_reports_a_full_disk(tmp_path: Path, library: str) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with (
            pytest.raises(UserError, match=r"Cannot write .*result.*No space left"),
            atomic_path(disk / "result.x") as path,
        ):
            WRITERS[library](path)
        assert not list(disk.iterdir())


def test_a_limit_on_a_files_size(tmp_path: Path) -> None:
    """As with a quota: the disk itself has room."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from samlet.errors import UserError\n"
        "from samlet.utils.files import atomic_path\n"
        "from tests.core.utils.test_files import WRITERS\n"
        "import signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "for library in ('torch', 'safetensors'):\n"
        "    try:\n"
        "        with atomic_path(sys.argv[1]) as path:\n"
        "            WRITERS[library](path)\n"
        "    except UserError as error:\n"
        "        print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "result"],
        capture_output=True,
        text=True,
        check=True,
    )
    told = run.stdout.splitlines()
    assert len(told) == 2, run.stderr
    assert all(each.startswith(f"Cannot write {tmp_path / 'result'}: ") for each in told)
    assert not list(tmp_path.iterdir())
