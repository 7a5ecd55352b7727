"""The shared cache of embeddings, with a small model."""

import copy
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from samlet import Predictor
from samlet.errors import UserError
from samlet.modeling.sam import Sam
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.embedding_cache import STATE_SHARE, EmbeddingCache, check_room
from samlet.utils.files import TEMPORARY_PREFIX
from tests.core.conftest import SMALL
from tests.disks import small_disk

LARGE = 1 << 40
GRID = SMALL.image_size // 16
FEATURE_BYTES = 256 * GRID * GRID * 4
"""Of one embedding of the model."""
IN_MEMORY = FEATURE_BYTES * (1 + STATE_SHARE)


class Counting(Predictor):
    """Counts what it encodes."""

    encoded = 0

    def encode(self, image: np.ndarray) -> ImageEmbedding:
        self.encoded += 1
        return super().encode(image)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)


def reader(seed: int = 0) -> Callable[[], np.ndarray]:
    return lambda: picture(seed)


def refuse() -> np.ndarray:
    raise UserError("Nobody should read.")


@pytest.fixture(scope="module")
def model(small_model: Sam) -> Sam:
    return small_model


@pytest.fixture
def predictor(model: Sam) -> Counting:
    return Counting(model, "torch", zoom=False)


def cache_in(folder: Path, memory: int = LARGE, disk: int = LARGE) -> EmbeddingCache:
    return EmbeddingCache(folder, memory, disk)


def test_size_of_one(predictor: Counting) -> None:
    assert predictor.encode(picture()).features.nbytes == FEATURE_BYTES


def test_ten_readers_cause_one_encoding(predictor: Counting, tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    reads: list[int] = []
    together = threading.Barrier(10)
    all_asked = threading.Event()

    def read() -> np.ndarray:
        reads.append(1)
        # The others have time to ask while the first one reads.
        all_asked.wait(0.5)
        return picture()

    def ask(_: int) -> ImageEmbedding:
        together.wait(30)
        return cache.get(predictor, "a", read)

    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(ask, range(10)))
    assert predictor.encoded == len(reads) == 1
    assert all(embedding is found[0] for embedding in found)
    assert cache.get(predictor, "a", refuse) is found[0]


def test_other_images_are_encoded_at_the_same_time(predictor: Counting, tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    together = threading.Barrier(2)

    def ask(name: str) -> ImageEmbedding:
        def read() -> np.ndarray:
            # Only passed if both are being read.
            together.wait(30)
            return picture(ord(name))

        return cache.get(predictor, name, read)

    with ThreadPoolExecutor(2) as pool:
        a, b = pool.map(ask, "ab")
    assert predictor.encoded == 2 and not torch.equal(a.features, b.features)


def test_memory_is_bounded(predictor: Counting, tmp_path: Path) -> None:
    cache = cache_in(tmp_path / "not" / "there" / "yet", memory=3 * IN_MEMORY)
    for seed, name in enumerate("abcde"):
        cache.get(predictor, name, reader(seed))
        # The most recently used stays.
        cache.get(predictor, "a", refuse)
        assert len(cache._kept) <= 3
    assert {key[-1] for key in cache._kept} == {"a", "d", "e"}
    # One that is larger than all that is allowed is still given.
    tiny = cache_in(tmp_path / "tiny", memory=1)
    first = tiny.get(predictor, "a", reader())
    assert tiny.get(predictor, "a", refuse) is first
    tiny.get(predictor, "b", reader(1))
    assert [key[-1] for key in tiny._kept] == ["b"]


def test_disk_is_bounded(predictor: Counting, tmp_path: Path) -> None:
    cache_in(tmp_path).get(predictor, "a", reader())
    (a,) = tmp_path.iterdir()
    # Not touched since yesterday, nor the day before.
    size = a.stat().st_size
    cache_in(tmp_path).get(predictor, "b", reader(1))
    (b,) = set(tmp_path.iterdir()) - {a}
    for days, path in enumerate((b, a), start=1):
        long_ago = a.stat().st_mtime - 86400 * days
        os.utime(path, (long_ago, long_ago))
    cache = cache_in(tmp_path, disk=2 * size)
    # Used again, "a" is no longer the oldest.
    cache.get(predictor, "a", reader())
    cache.get(predictor, "c", reader(2))
    assert a.exists() and not b.exists() and len(list(tmp_path.iterdir())) == 2
    assert cache.removed == 1


def test_restart(predictor: Counting, tmp_path: Path) -> None:
    before = cache_in(tmp_path).get(predictor, "a", reader())
    # On disk it goes by its pixels, whatever each program calls it.
    after = cache_in(tmp_path).get(predictor, None, reader())
    assert predictor.encoded == 1 and torch.equal(after.features, before.features)
    assert after.original_size == before.original_size == (48, 64)
    assert predictor.segment(after, [[20, 20]], [1]).best.shape == (48, 64)


@pytest.mark.parametrize("kept_bytes", [0, 7, 8, 100, 5000, -1])
def test_damaged_files(predictor: Counting, tmp_path: Path, kept_bytes: int) -> None:
    before = cache_in(tmp_path).get(predictor, "a", reader())
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:kept_bytes])
    again = cache_in(tmp_path).get(predictor, "a", reader())
    assert predictor.encoded == 2 and torch.equal(again.features, before.features)
    # It was repaired.
    cache_in(tmp_path).get(predictor, "a", reader())
    assert predictor.encoded == 2


def test_filled_ahead(predictor: Counting, tmp_path: Path) -> None:
    assert cache_in(tmp_path).fill(predictor, picture())
    assert not cache_in(tmp_path).fill(predictor, picture())
    assert predictor.encoded == 1
    found = cache_in(tmp_path).get(predictor, "a", reader())
    assert predictor.encoded == 1
    assert torch.equal(found.features, predictor.encode(picture()).features)


def test_what_fills_a_cache_knows_how_much_it_holds(predictor: Counting, tmp_path: Path) -> None:
    cache = cache_in(tmp_path, disk=3 * FEATURE_BYTES)
    check_room(cache, predictor, 2)
    with pytest.raises(UserError, match=r"3 images take 1 MB.* set SAMLET_DISK_MB=1 here"):
        check_room(cache, predictor, 3)
    for seed in range(2):
        cache.fill(predictor, picture(seed))
    assert cache.removed == 0 and len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_told_when_filling(predictor: Counting, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        cache = cache_in(folder)
        with pytest.raises(UserError, match="No space left"):
            for seed in range(20):
                cache.fill(predictor, picture(seed))
        assert len(list(folder.iterdir())) > 5
        # What is there is whole.
        assert not cache.fill(predictor, picture())


def test_a_folder_that_cannot_be_written(predictor: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = cache_in(tmp_path / "file" / "embeddings")
    first = cache.get(predictor, "a", reader())
    assert cache.get(predictor, "a", refuse) is first


def test_other_encoders(predictor: Counting, tmp_path: Path) -> None:
    changed = copy.deepcopy(predictor.model)
    with torch.no_grad():
        for parameter in changed.image_encoder.parameters():
            parameter.mul_(1.01)
    other = Counting(changed, "torch")
    cache = cache_in(tmp_path)
    own, theirs = (cache.get(each, "a", reader()) for each in (predictor, other))
    assert own.model_id == predictor.model_id != other.model_id == theirs.model_id
    assert predictor.encoded == other.encoded == 1
    assert not torch.equal(own.features, theirs.features)


def test_an_error_is_only_told_to_those_who_wait(predictor: Counting, tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    reading, go_on = threading.Event(), threading.Event()

    def fail() -> np.ndarray:
        reading.set()
        go_on.wait(30)
        raise UserError("The file is damaged.")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, predictor, "a", fail)
        assert reading.wait(30)
        second = pool.submit(cache.get, predictor, "a", refuse)
        go_on.set()
        for failed in (first, second):
            assert isinstance(failed.exception(30), UserError)
    assert predictor.encoded == 0 and not cache._kept
    assert cache.get(predictor, "a", reader()).original_size == (48, 64)
    assert predictor.encoded == 1


def test_what_is_zoomed_in_on_has_its_pixels(model: Sam, tmp_path: Path) -> None:
    predictor = Counting(model, "torch", zoom=True)
    for _ in range(2):
        embedding = cache_in(tmp_path).get(predictor, "a", reader())
        assert embedding.image is not None
        assert np.array_equal(embedding.image, picture())
    assert predictor.encoded == 1


def test_the_same_encoder_with_and_without_zoom(model: Sam, tmp_path: Path) -> None:
    """One that does not zoom comes first; its embedding has no pixels for the other."""
    plain, zooming = (Counting(model, "torch", zoom=zoom) for zoom in (False, True))
    cache = cache_in(tmp_path)
    assert plain.model_id == zooming.model_id
    assert cache.get(plain, "a", reader()).image is None
    embedding = cache.get(zooming, "a", reader())
    assert embedding.image is not None and np.array_equal(embedding.image, picture())
    assert zooming.encoded == 0
    assert cache.get(plain, "a", refuse).image is None


LARGER, BOX = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8), [20, 20, 28, 28]


def test_an_embedding_without_its_image_is_not_silently_coarse(model: Sam, tmp_path: Path) -> None:
    predictor = Predictor(model, "torch", zoom=True)
    embedding = predictor.encode(LARGER)
    embedding.save(tmp_path / "a.safetensors")
    loaded = ImageEmbedding.load(tmp_path / "a.safetensors")
    with pytest.warns(UserWarning, match="has no image"):
        predictor.segment(loaded, box=BOX)
    with pytest.raises(UserError, match="400 x 300 that was encoded"):
        predictor.with_image(loaded, picture()[:, :48])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coarse = predictor.segment(loaded, box=BOX, zoom=False)
        answer = predictor.segment(predictor.with_image(loaded, LARGER), box=BOX)
    expected = predictor.segment(embedding, box=BOX)
    assert np.array_equal(answer.masks, expected.masks)
    assert not np.array_equal(answer.low_res_masks, coarse.low_res_masks)


def test_many_write_and_tidy_one_folder(predictor: Counting, tmp_path: Path) -> None:
    """Eight threads of two caches, as two processes have them, on a disk that is always full."""
    caches = [cache_in(tmp_path, memory=1, disk=3 * FEATURE_BYTES) for _ in range(2)]
    embedding = predictor.encode(LARGER)
    predictor.encode = lambda image: embedding  # type: ignore[method-assign]

    def ask(number: int) -> ImageEmbedding:
        return caches[number % 2].get(predictor, f"{number % 7}", reader())

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(400)))
    assert len(found) == 400 and all(each.features.shape == (256, GRID, GRID) for each in found)
    assert all(path.stat().st_size > FEATURE_BYTES for path in tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed(predictor: Counting, tmp_path: Path) -> None:
    old, new = (
        tmp_path / f"{TEMPORARY_PREFIX}a.safetensors",
        tmp_path / f"{TEMPORARY_PREFIX}b.safetensors",
    )
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache_in(tmp_path).get(predictor, "a", reader())
    assert not old.exists() and new.exists()
