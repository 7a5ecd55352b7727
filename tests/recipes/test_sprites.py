"""Unpacking the package of rendered objects."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes.scenes import sprites
from samlet.errors import UserError


def picture(side: int = 16) -> bytes:
    pixels = np.zeros((side, side, 4), np.uint8)
    pixels[4:12, 2:10] = (10, 200, 30, 255)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "webp", lossless=True)
    return file.getvalue()


def package(*entries: tarfile.TarInfo | str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            member.size = len(picture()) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(picture()))
    return file.getvalue()


def test_pictures_are_unpacked_and_cropped(tmp_path: Path) -> None:
    content = package("package/package.json", "package/assets/a.webp", "package/assets/b.webp")
    assert sprites.unpack(content, tmp_path / "out") == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.webp", "b.webp"]
    loaded = sprites.Sprites(tmp_path / "out")
    assert len(loaded) == 2
    assert loaded[1].shape == (8, 8, 4) and loaded[1].dtype == np.uint8
    assert (loaded[1] == (10, 200, 30, 255)).all()


def link(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    "entry",
    ["package/../../evil.webp", "/evil.webp", "../evil.txt", link("package/assets/link.webp")],
)
def test_unsafe_entries_are_refused(tmp_path: Path, entry: tarfile.TarInfo | str) -> None:
    with pytest.raises(UserError, match="unsafe"):
        sprites.unpack(package("package/assets/a.webp", entry), tmp_path / "deep" / "out")
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("content", [b"", b"not an archive", package("package/package.json")])
def test_what_is_no_package_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError):
        sprites.unpack(content, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_file_is_refused_with_one_sentence() -> None:
    content = package("package/assets/a.webp")
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    sprites.verify(content, f"sha512-{digest}")
    with pytest.raises(UserError) as refused:
        sprites.verify(content)
    assert "checksum" in str(refused.value) and "\n" not in str(refused.value)


def test_other_files_are_not_lost(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="choose a new folder"):
        sprites.main(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
