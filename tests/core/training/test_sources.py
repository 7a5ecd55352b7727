"""Where training images come from: folders, lists, tar shards on disk and by URL."""

import functools
import http.server
import json
import tarfile
import threading
from collections.abc import Iterator
from io import BytesIO
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samlet
from samlet.training.distillation.sources import Source, open_source

COUNT = 12


def picture(number: int) -> Image.Image:
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nested, in several formats."""
    root = tmp_path_factory.mktemp("images")
    for i in range(COUNT):
        path = root / f"plate{i % 2}" / f"{i:02d}.{('png', 'jpg', 'tif')[i % 3]}"
        path.parent.mkdir(exist_ok=True)
        picture(i).save(path)
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards in the layout of SA-1B."""
    root = tmp_path_factory.mktemp("shards")
    for shard in range(3):
        with tarfile.open(root / f"sa_{shard:06d}.tar", "w") as tar:
            for i in range(shard * 4, shard * 4 + 4):
                buffer = BytesIO()
                picture(i).save(buffer, "JPEG")
                facts = json.dumps({"image": {"image_id": i}, "annotations": []}).encode()
                for name, content in ((f"sa_{i}.jpg", buffer.getvalue()), (f"sa_{i}.json", facts)):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    tar.addfile(entry, BytesIO(content))
    return root


@pytest.fixture(params=["folder", "shards"])
def source(request: pytest.FixtureRequest) -> Source:
    return open_source(str(request.getfixturevalue(request.param)))


def test_every_image_comes_once(source: Source) -> None:
    keys = [item.key for item in source.once()]
    assert len(keys) == len(set(keys)) == source.count() == COUNT
    for item in source.once():
        assert samlet.images.read(item.key, content=item.read()).shape == (20, 30, 3)


def test_a_source_knows_its_own(source: Source) -> None:
    assert all(source.holds(item.key) for item in source.once())
    assert not source.holds("sa_000009.tar/sa_1.jpg")


def test_processes_share_the_images(source: Source) -> None:
    parts = [[item.key for item in source.once(rank, 3)] for rank in range(3)]
    assert sorted(chain(*parts)) == sorted(item.key for item in source.once())
    epoch = COUNT // 3
    drawn = [[i.key for i, _ in islice(source.shuffled(0, {}, r, 3), epoch)] for r in range(3)]
    assert len(set(chain(*drawn))) == COUNT


def test_order_is_random_and_goes_on_from_any_position(source: Source) -> None:
    drawn = [(item.key, after) for item, after in islice(source.shuffled(7, {}), 3 * COUNT)]
    keys = [key for key, _ in drawn]
    epochs = [keys[i : i + COUNT] for i in range(0, 3 * COUNT, COUNT)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert keys != [i.key for i, _ in islice(source.shuffled(8, {}), 3 * COUNT)]
    for place in (0, 5, COUNT - 1, COUNT, 2 * COUNT + 3):
        on = source.shuffled(7, drawn[place][1])
        assert [i.key for i, _ in islice(on, 5)] == keys[place + 1 : place + 6]


def test_any_number_of_processes_sees_the_same_batches(folder: Path) -> None:
    files = open_source(str(folder))
    one = [item.key for item, _ in islice(files.shuffled(3, {}), COUNT)]
    two = [[i.key for i, _ in islice(files.shuffled(3, {}, r, 2), COUNT // 2)] for r in range(2)]
    for batch in range(COUNT // 4):
        both = two[0][batch * 2 : batch * 2 + 2] + two[1][batch * 2 : batch * 2 + 2]
        assert sorted(one[batch * 4 : batch * 4 + 4]) == sorted(both)


def test_a_list_of_paths(folder: Path, shards: Path, tmp_path: Path) -> None:
    listed = sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg", ".tif"))[:5]
    path = folder / "few.txt"
    path.write_text("# some\n" + "\n".join(str(p.relative_to(folder)) for p in listed) + "\n")
    assert open_source(str(path)).count() == 5
    path.write_text("plate0/00.png\nplate0/nowhere.png\n")
    with pytest.raises(
        samlet.UserError, match=r"lists 1 file that cannot be found: plate0/nowhere\.png"
    ):
        open_source(str(path))
    path.write_text("# nothing\n")
    with pytest.raises(samlet.UserError, match="lists no image"):
        open_source(str(path))
    path.unlink()
    tars = tmp_path / "shards.txt"
    tars.write_text("\n".join(str(p) for p in shards.glob("*.tar")))
    assert open_source(str(tars)).count() == COUNT


@pytest.fixture
def server(shards: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(shards))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_shard_by_url(server: str, shards: Path) -> None:
    remote = open_source(f"{server}/sa_000001.tar")
    local = open_source(str(shards / "sa_000001.tar"))
    assert remote.count() is None
    assert [(i.key, i.read()) for i in remote.once()] == [(i.key, i.read()) for i in local.once()]
    with pytest.raises(samlet.UserError, match=r"nowhere\.tar cannot be read"):
        list(open_source(f"{server}/nowhere.tar").once())


def test_a_shard_that_ends_early_is_named(shards: Path, tmp_path: Path) -> None:
    whole = (shards / "sa_000000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(samlet.UserError, match=r"cut\.tar cannot be read"):
        list(open_source(str(tmp_path / "cut.tar")).once())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere", "not a source of images"),
        ("nowhere.tar", "no shard"),
        ("pipe:cat x.tar", "not a URL"),
        ("ftp://host/x.tar", "not a URL"),
        ("http://host/x';touch y;'.tar", "not a URL"),
        ("notes.txt", "does not exist"),
    ],
)
def test_what_is_no_source(name: str, told: str) -> None:
    with pytest.raises(samlet.UserError, match=told):
        open_source(name)


def test_too_many_processes(shards: Path) -> None:
    with pytest.raises(samlet.UserError, match="3 shards for 4 processes"):
        next(open_source(str(shards)).shuffled(0, {}, 0, 4))
