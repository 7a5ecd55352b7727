"""Images and results in S3, against moto's server."""

import io
import re
import shutil
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from samlet.cli.main import app
from samlet.errors import UserError
from samlet.images import SliceChoice
from samlet.storage import remote
from samlet.storage.locations import Location, Url
from samlet.storage.run_mark import NAME, check_mark, marked_run
from samlet.storage.staging import staged_image
from samlet.training.distillation.shards import check_shard, read_shard
from samlet.training.distillation.sources import TarShards, open_source
from tests.core.command import run_command
from tests.core.s3 import BUCKET, put, reset


def test_files_are_listed_read_and_written(s3: Any, tmp_path: Path) -> None:
    for name in ("a.png", "deep/er/b.png", ".hidden/c.png", "deep/.d.png"):
        put(s3, name, name.encode())
    assert sorted(map(str, remote.list_files(BUCKET))) == [
        "s3://images/a.png",
        "s3://images/deep/er/b.png",
    ]
    assert list(remote.list_files(BUCKET / "nothing")) == []
    remote.download(BUCKET / "a.png", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"a.png"
    remote.upload(tmp_path / "here", BUCKET / "new" / "e.png")
    assert s3.cat_file("images/new/e.png") == b"a.png"
    assert remote.names_beginning(BUCKET, "a.") == ["a.png"]
    assert remote.names_beginning(BUCKET, "dee") == []
    assert remote.exists(BUCKET / "new" / "e.png")
    remote.remove(BUCKET / "new" / "e.png")
    remote.remove(BUCKET / "new" / "e.png")
    assert not remote.exists(BUCKET / "new" / "e.png")


def test_only_changed_results_are_uploaded_and_the_mark_is_last(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3, "in/a.png", b"pixels")
    for name in ("a.png.same", "a.png.grown", "a.png.gone", "a.txt", "b.png.other"):
        put(s3, f"out/{name}", name.encode())
    uploaded: list[str] = []
    upload = remote.upload

    def note(path: Path, url: Url) -> None:
        uploaded.append(url.name)
        upload(path, url)

    monkeypatch.setattr(remote, "upload", note)
    image, out = BUCKET / "in" / "a.png", BUCKET / "out"
    with staged_image(image, out, also=["a.txt", "a.missing"], last=[".end"]) as here:
        assert here.path.read_bytes() == b"pixels"
        assert here.origin == "s3://images/in/a.png"
        names = {path.name for path in here.folder.iterdir()}
        assert names == {"a.png.same", "a.png.grown", "a.png.gone", "a.txt"}
        (here.folder / "a.png.end").write_bytes(b"end")
        (here.folder / "a.png.grown").write_bytes(b"more")
        (here.folder / "a.png.gone").unlink()
    assert uploaded == ["a.png.grown", "a.png.end"]
    assert not s3.exists("images/out/a.png.gone")
    assert s3.cat_file("images/out/a.png.grown") == b"more"
    assert not here.path.exists()
    with (
        pytest.raises(UserError, match=r"^s3://images/in/a\.png is damaged"),
        staged_image(image, out) as here,
    ):
        (here.folder / "a.png.half").write_bytes(b"")
        raise UserError(f"{here.path} is damaged.")
    assert not s3.exists("images/out/a.png.half")


def test_what_is_wrong_is_one_sentence(
    s3: Any, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    missing = Url("s3://no-such-bucket")
    with pytest.raises(UserError, match=r"no-such-bucket.* does not exist: check"):
        list(remote.list_files(missing / "folder"))
    with pytest.raises(UserError, match="does not exist: check"):
        remote.upload(tmp_path / "file", missing / "file")
    with pytest.raises(UserError, match="does not exist: check"):
        remote.download(BUCKET / "nothing.png", tmp_path / "copy")

    def allow(requests: str) -> None:
        plain = {"Content-Type": "text/plain"}
        urlopen(Request(f"{endpoint}/moto-api/reset-auth", requests.encode(), plain))

    allow("0")
    try:
        with pytest.raises(UserError, match="the server refuses our credentials"):
            list(remote.list_files(BUCKET))
        with pytest.raises(UserError, match="cannot be written: the server refuses"):
            remote.upload(tmp_path / "file", BUCKET / "file")
    finally:
        allow("inf")

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    reset()
    with pytest.raises(UserError, match="there are no credentials for s3://"):
        list(remote.list_files(BUCKET))


def test_an_endpoint_that_never_answers(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(remote, "TIMEOUT_S", 0.2)
        port = silent.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        reset()
        with pytest.raises(UserError, match="its server did not answer within"):
            list(remote.list_files(BUCKET))
    # And now nobody listens there.
    reset()
    with pytest.raises(UserError, match="check the endpoint and the network"):
        list(remote.list_files(BUCKET))


def test_one_run_at_a_time(s3: Any, tmp_path: Path) -> None:
    for folder in (BUCKET / "out", tmp_path / "out"):
        with marked_run(folder) as run:
            check_mark(folder, run)
            with pytest.raises(UserError, match="is not the same folder"):
                check_mark(folder, "another")
        with pytest.raises(UserError, match="is not the same folder"):
            check_mark(folder, run)
    missing = Url("s3://no-such-bucket/out")
    with pytest.raises(UserError, match="does not exist: check the URL"), marked_run(missing):
        pass
    assert not (tmp_path / "out" / NAME).exists()


def test_training_reads_shards(s3: Any, folder: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(folder / "a.png", "sa_1.png")
        tar.add(folder / "day 2" / "b.png", "sa_2.png")
    put(s3, "shards/one.tar", content.getvalue())
    shard = check_shard(f"{BUCKET}/shards/one.tar")
    found = {key: read() for key, read in read_shard(shard)}
    assert found == {
        "one.tar/sa_1.png": (folder / "a.png").read_bytes(),
        "one.tar/sa_2.png": (folder / "day 2" / "b.png").read_bytes(),
    }
    with pytest.raises(UserError, match="does not exist: check the URL"):
        list(read_shard(f"{BUCKET}/shards/two.tar"))


def test_training_reads_images(s3: Any, folder: Path, tmp_path: Path) -> None:
    stack = np.arange(3 * 20 * 30, dtype=np.uint8).reshape(3, 20, 30)
    tifffile.imwrite(folder / "stack.tif", stack, metadata={"axes": "ZYX"}, ome=True)
    for path in folder.rglob("*.*"):
        put(s3, f"in/{path.relative_to(folder).as_posix()}", path.read_bytes())
    put(s3, "in/list.txt", b"# Two\nstack.tif.z1\ns3://images/in/a.png\n")
    # What is in a stack, only reading it would tell.
    names = ["a.png", "day 2/b.png", "stack.tif"]
    assert [item.key for item in open_source(f"{BUCKET}/in").once()] == names
    first_series = SliceChoice.parse(None, "0")
    here, there = (
        [(item.key, item.read()) for item in open_source(place, slices=first_series).once()]
        for place in (str(folder), f"{BUCKET}/in")
    )
    assert there == here
    assert [key for key, _ in here][2:] == [f"stack.tif.s0.z{z}" for z in range(3)]
    listed = {item.key: item.read() for item in open_source(f"{BUCKET}/in/list.txt").once()}
    assert listed == {
        "stack.tif.z1": dict(here)["stack.tif.s0.z1"],
        "s3://images/in/a.png": (folder / "a.png").read_bytes(),
    }
    put(s3, "in/one.tar", b"")
    assert isinstance(open_source(f"{BUCKET}/in"), TarShards)
    with pytest.raises(UserError, match="not a source of images"):
        open_source(f"{BUCKET}/in/a.png")


@pytest.fixture
def call(small_file: Path) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        fast = ["--points-per-side", "2", "--pred-iou-thresh", "0", "--stability-score-thresh", "0"]
        return run_command("everything", *arguments, "--model", small_file, *fast)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "day 2").mkdir(parents=True)
    for name in ("a.png", "day 2/b.png"):
        Image.fromarray(rng.integers(0, 256, (60, 90), np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


def test_results_in_a_bucket_are_those_of_a_folder(
    s3: Any, call: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    for path in folder.rglob("*.png"):
        put(s3, f"in/{path.relative_to(folder).as_posix()}", path.read_bytes())
    options = ("--also", "yolo,rois")
    call(folder, "--out", tmp_path / "out", *options)
    said = call(BUCKET / "in", "--out", BUCKET / "out", *options, "--table", tmp_path / "t.csv")
    assert "Results are in s3://images/out" in said
    here = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
            for path in (tmp_path / "out").rglob("*.*") if path.is_file()}  # fmt: skip
    there = {name.removeprefix("images/out/"): s3.cat_file(name) for name in s3.find("images/out")}
    file = str(folder).encode()
    assert {n: c.replace(b"s3://images/in", file) for n, c in there.items()} == here
    assert (tmp_path / "t.csv").read_text().count("\n") > 2
    again = call(BUCKET / "in", "--out", BUCKET / "out", *options)
    assert "2 of 2 were finished before" in again
    # A list, and results on this machine.
    (tmp_path / "list.txt").write_text(f"{BUCKET}/in/a.png\n\nin/day 2/b.png\n")
    call(tmp_path / "list.txt", "--out", tmp_path / "listed")
    assert sorted(
        path.relative_to(tmp_path / "listed").as_posix()
        for path in (tmp_path / "listed").rglob("*.coco.json")
    ) == ["images/in/a.png.coco.json", "in/day 2/b.png.coco.json"]


def test_slices_of_stacks_in_a_bucket(s3: Any, call: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "in" / "stack.tif"
    file.parent.mkdir()
    planes = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
    tifffile.imwrite(file, planes, metadata={"axes": "ZYX"}, ome=True)
    put(s3, "in/stack.tif", file.read_bytes())
    for chosen, name in {"1": "stack.tif.z1", "1-2": "stack.tif.z1-2"}.items():
        out, there = tmp_path / chosen, BUCKET / chosen
        call(file.parent, "--out", out, "--slice", chosen)
        call(BUCKET / "in", "--out", there, "--slice", chosen)
        again = call(BUCKET / "in" / name, "--out", there)
        assert "1 of 1 were finished before" in again
        alone = {path.name: path.read_bytes() for path in out.iterdir()}
        found = {Path(path).name: s3.cat_file(path) for path in s3.find(there.text)}
        assert all(path.startswith(f"{name}.") for path in alone)
        where = str(file.parent).encode()
        assert {n: c.replace(b"s3://images/in", where) for n, c in found.items()} == alone
    with pytest.raises(UserError, match=r"s3://images/in/stack\.tif has no slice z=7"):
        call(BUCKET / "in", "--out", there, "--slice", "7")


def test_examples_in_a_bucket(s3: Any, folder: Path, small_file: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (3, 40, 50), np.uint8)
    tifffile.imwrite(folder / "stack.tif", planes, metadata={"axes": "ZYX"}, ome=True)
    Image.fromarray(planes[0]).save(folder / "without.png")
    labels = tmp_path / "labels"
    (labels / "day 2").mkdir(parents=True)
    marked = np.zeros((3, 60, 90), np.uint8)
    # The first and the last slice of the stack have no object.
    marked[1, 5:25, 8:30] = 1
    for name in ("a.png", "day 2/b_masks.png"):
        Image.fromarray(marked[1]).save(labels / name)
    tifffile.imwrite(labels / "stack.tif", marked[:, :40, :50], photometric="minisblack")
    for place in (folder, labels):
        for path in place.rglob("*.*"):
            put(s3, path.relative_to(tmp_path).as_posix(), path.read_bytes())
    fast = ("--model", small_file, "--likeness", "0.99", "--pred-iou-thresh", "0.9")

    def found(image: Location, like: Location) -> dict[str, bytes]:
        """What is written of images and examples, and what is said."""
        out = tmp_path / "out"
        said = run_command("everything", image, "--like", like, "--out", out, *fast)
        where = str(folder).encode()
        written = {
            path.relative_to(out).as_posix(): path.read_bytes().replace(b"s3://images/in", where)
            for path in out.rglob("*.*")
            if path.is_file()
        }
        shutil.rmtree(out)
        return written | {"said": "".join(sorted(said)).encode()}

    whole = found(folder, labels)
    assert {name for name in whole if name.endswith(".coco.json")} == {
        "a.png.coco.json",
        "day 2/b.png.coco.json",
        "stack.tif.z1.coco.json",
    }
    there = BUCKET / "labels"
    assert found(BUCKET / "in", there) == whole
    assert found(folder, there) == whole
    assert found(BUCKET / "in", labels) == whole
    alone = found(folder / "a.png", labels / "a.png")
    for like in (there / "a.png", there):
        assert found(BUCKET / "in" / "a.png", like) == alone
    some = "stack.tif.z1-2"
    assert found(BUCKET / "in" / some, there / "stack.tif") == found(
        folder / some, labels / "stack.tif"
    )
    # Labels of a single slice.
    named = tmp_path / "named"
    named.mkdir()
    Image.fromarray(marked[1, :40, :50]).save(named / "stack.z1_masks.png")
    put(s3, "named/stack.z1_masks.png", (named / "stack.z1_masks.png").read_bytes())
    assert found(BUCKET / "in", BUCKET / "named") == found(folder, named)
    put(s3, "in/list.txt", b"a.png")
    mistakes: dict[tuple[Location, Location], str] = {
        (BUCKET / "in", there / "a.png"): "must both be files, or both folders",
        (BUCKET / "in" / "list.txt", there): "s3://images/in/list.txt is a list, and --like",
        (BUCKET / "in" / "stack.tif.z0", there / "stack.tif"): "has no labels of s3://",
        (BUCKET / "in" / "a.png", there / "no.png"): "s3://images/labels/no.png is neither",
        (folder / "without.png", there): "s3://images/labels has no labels of",
    }
    for given, sentence in mistakes.items():
        with pytest.raises(UserError, match=re.escape(sentence)):
            found(*given)


def measured(*arguments: object) -> str:
    """What `samlet measure` says; what it ends with, if it fails."""
    done = CliRunner().invoke(app, ["measure", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, UserError):
        raise done.exception
    return str(done.exception or done.stdout)


def test_tables_of_a_bucket_are_those_of_a_folder(
    s3: Any, call: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    planes = np.random.default_rng(0).integers(0, 256, (2, 40, 50), np.uint8)
    tifffile.imwrite(folder / "stack.tif", planes, metadata={"axes": "ZYX"}, ome=True)
    results = tmp_path / "out"
    call(folder, "--out", results, "--also", "rois,yolo")
    rois = tmp_path / "rois"
    rois.mkdir()
    shutil.move(results / "a.png.rois.zip", rois)
    for place in (folder, results, rois):
        for path in place.rglob("*.*"):
            put(s3, path.relative_to(tmp_path).as_posix(), path.read_bytes())

    def tables(*arguments: str) -> list[bytes]:
        """Of label maps and images here, and in the bucket."""
        here, there = tmp_path / "t.csv", BUCKET / "tables" / "t.csv"
        for table, root in ((here, tmp_path), (there, BUCKET)):
            said = measured(*(root / one if "/" in one else one for one in arguments),
                            "--table", table)  # fmt: skip
            assert said.startswith(f"{table}: "), said
        return [here.read_bytes(), s3.cat_file(there.text)]

    for arguments in (
        ("out/", "in/"),
        ("rois/", "in/"),
        ("out/",),
        ("out/", "in/", "--slice", "z=0"),
        *((f"out/a{end}", "in/a.png") for end in (".png.labels.png", ".png.coco.json", ".txt")),
        ("out/stack.tif.labels.tif.z1", "in/stack.tif.z1"),
    ):
        here, there = tables(*arguments)
        assert here == there and here.count(b"\n") > 1
    mixed = tmp_path / "mixed.csv"
    measured(results, BUCKET / "in", "--table", mixed)
    assert mixed.read_bytes() == tables("out/", "in/")[0]
    assert b",predicted_iou" in mixed.read_bytes()

    put(s3, "out/a.png.labels.png", b"half")
    table = ("--table", BUCKET / "t.csv")
    said = measured(BUCKET / "out", BUCKET / "in", *table)
    assert "1 of 4 label maps failed:\ns3://images/out/a.png.labels.png" in said
    assert "\n" not in measured(BUCKET / "out" / "nothing.png", *table)
    mistakes: dict[tuple[object, ...], str] = {
        (BUCKET / "out" / "a.png.labels.png", BUCKET / "in"): "must both be files, or both folders",
        (BUCKET / "no", BUCKET / "in"): "s3://images/no has no label maps or zips of ImageJ ROIs",
        (Url("s3://no-such-bucket/out"),): "does not exist: check the URL",
        (results, "--table", "https://example.org/t.csv"): "Results cannot be written to https://",
    }
    for given, sentence in mistakes.items():
        assert sentence in measured(*given, *(() if "--table" in given else table))


def test_an_empty_bucket_and_one_that_is_read_only(
    s3: Any, call: Callable[..., str], folder: Path
) -> None:
    with pytest.raises(UserError, match="s3://images/in holds no image"):
        call(BUCKET / "in", "--out", BUCKET / "out")
    with pytest.raises(UserError, match="Results cannot be written to https://"):
        call(folder, "--out", "https://example.org/out")
    with pytest.raises(UserError, match="begins with ftp://: choose "):
        call("ftp://example.org/in", "--out", folder)
