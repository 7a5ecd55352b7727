"""`samlet encode`: what it fills the cache with, and what it says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import samlet
from samlet import Predictor, images
from samlet.errors import UserError
from samlet.predict.embedding_cache import EmbeddingCache
from samlet.utils.cache_folder import embeddings_dir, embeddings_limit
from tests.core.command import run_command

Encode = Callable[..., str]


@pytest.fixture
def encode(small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encode:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str | Path) -> str:
        return run_command("encode", *arguments, "--model", small_file)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "day 2").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (60, 90), np.uint8)).save(tmp_path / "images" / "a.png")
    pixels = rng.integers(50, 4000, (70, 80)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "images" / "day 2" / "b.tif", pixels)
    return tmp_path / "images"


def test_a_folder_is_encoded_once(encode: Encode, folder: Path, small_file: Path) -> None:
    assert "2 images encoded, 0 were in the cache before" in encode(folder)
    files = list(embeddings_dir().iterdir())
    assert len(files) == 2
    # As after an interruption.
    files[0].unlink()
    assert "1 image encoded, 1 were in the cache before" in encode(folder)
    predictor = Predictor(samlet.load(small_file))
    cache = EmbeddingCache(embeddings_dir(), 0, 1 << 30)
    for path in images.find(folder):
        assert not cache.fill(predictor, images.read(path))
    assert not cache.fill(predictor, images.read(folder / "a.png"))


def test_other_values_are_other_embeddings(encode: Encode, folder: Path) -> None:
    encode(folder)
    # Only what has more than 8 bits looks different.
    assert "1 image encoded, 1 were" in encode(folder, "--full-range")


def test_a_broken_image_is_named_and_the_others_are_encoded(encode: Encode, folder: Path) -> None:
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:200])
    with pytest.raises(UserError, match=r"1 of 3 images failed:\n.*c\.png.*damaged"):
        encode(folder)
    assert len(list(embeddings_dir().iterdir())) == 2


def test_more_than_the_cache_holds_is_refused(
    encode: Encode, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMLET_DISK_MB", "1")
    for number in range(20):
        Image.fromarray(np.full((40, 40), number, np.uint8)).save(folder / f"{number}.png")
    with pytest.raises(UserError, match="22 images take 2 MB, and the cache holds 1 MB"):
        encode(folder)
    assert not embeddings_dir().exists()
    monkeypatch.setenv("SAMLET_DISK_MB", "lots")
    with pytest.raises(UserError, match="SAMLET_DISK_MB is 'lots'"):
        embeddings_limit()


def test_older_embeddings_make_room_and_that_is_said(
    encode: Encode, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMLET_DISK_MB", "1")
    for number in range(12):
        Image.fromarray(np.full((40, 40), number, np.uint8)).save(folder / f"{number}.png")
    assert "made room" not in encode(folder)
    assert len(list(embeddings_dir().iterdir())) == 14
    for number in range(12):
        Image.fromarray(np.full((40, 40), 100 + number, np.uint8)).save(folder / f"{number}.png")
    said = encode(folder)
    # The cache holds 15: of 26, those of the first images are gone.
    assert "12 images encoded, 2 were in the cache before" in said
    assert "11 embeddings of other images, used longest ago, made room" in said
    assert "0 images encoded, 14 were" in encode(folder)


def test_a_file_in_place_of_the_cache_is_refused_before_a_model_is_loaded(
    encode: Encode, folder: Path, small_file: Path
) -> None:
    # Loading it would tell that it is damaged.
    small_file.write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.png is the name of a file, where a folder"):
        encode(folder, "--cache", folder / "a.png")
    with pytest.raises(UserError, match=r"absent\.png does not exist"):
        encode(folder / "absent.png")


def test_large_images_are_said_to_be_different_in_napari(encode: Encode, folder: Path) -> None:
    Image.fromarray(np.zeros((50, 200), np.uint8)).save(folder / "wide.png")
    assert "1 image with more than 192 pixels along a side" in encode(folder)
