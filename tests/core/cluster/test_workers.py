"""Workers on a real Ray cluster of two machines (as far as Ray can tell) and a head."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from samlet.cli.main import app
from samlet.cluster.capacity import WorkerSize, choose_size, count_places
from samlet.cluster.connection import connected
from samlet.cluster.run import RayRun
from samlet.cluster.workers import ITEMS_PER_WORKER, Died, run_on_workers
from samlet.errors import UserError
from samlet.storage import run_mark
from samlet.storage.locations import Url
from samlet.storage.run_mark import marked_run
from samlet.training.distillation import batches, embedding_store
from samlet.training.distillation.batches import LoadedImage, SkippedImages
from samlet.training.distillation.embed_images import embed_on_ray
from samlet.training.distillation.embedding_store import Entry
from tests.core.s3 import BUCKET, put, variables

ray = pytest.importorskip("ray", reason="Ray is not installed (samlet[ray])")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Ray's test cluster needs POSIX")

MEMORY = 2_000_000_000
NODE: dict[str, Any] = {
    "num_cpus": 1,
    "memory": MEMORY,
    "object_store_memory": 80_000_000,
}
SIZE = WorkerSize(cores=1, gpus=0, memory=MEMORY // 4)


@pytest.fixture(scope="module")
def cluster(endpoint: str) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    # By default other processes of a busy machine would leave them no time.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        for name, value in variables(endpoint).items():
            patch.setenv(name, value)
        yield from _started(Cluster)


def _started(cluster: Any) -> Iterator[Any]:
    head = NODE | {"num_cpus": 0, "include_dashboard": False, "include_log_monitor": False}
    started = cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        started.add_node(**NODE)
    # Workers cannot import the tests.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture(scope="module")
def connection(cluster: Any) -> Iterator[Any]:
    with connected(cluster.address, lambda text: None):
        yield cluster


def opening(work: Callable[[Any, Callable[[], None]], Any]) -> Callable[[int], Any]:
    return lambda cores: work


def test_each_item_has_its_result(connection: Any) -> None:
    def square(item: int, check: Callable[[], None]) -> tuple[int, str]:
        return item**2, ray.get_runtime_context().get_node_id()

    found = dict(run_on_workers(opening(square), range(40), SIZE))
    assert {item: result[0] for item, result in found.items()} == {i: i**2 for i in range(40)}
    assert not list(run_on_workers(opening(square), [], SIZE))


def test_items_are_drawn_only_as_fast_as_they_are_worked_on(
    connection: Any, tmp_path: Path
) -> None:
    gate, drawn = tmp_path / "gate", []

    def wait(item: int, check: Callable[[], None]) -> int:
        while not gate.exists():
            time.sleep(0.01)
        return item

    def items() -> Iterator[int]:
        for number in range(1_000_000):
            drawn.append(number)
            yield number

    with closing(run_on_workers(opening(wait), items(), SIZE, count=2)) as results:
        gate.touch()
        for number, _ in enumerate(results, start=1):
            assert len(drawn) <= number + 2 * ITEMS_PER_WORKER
            if number == 30:
                break


def test_results_come_in_order_and_few_wait(connection: Any, tmp_path: Path) -> None:
    class Work:
        def open(self, device: str) -> Callable[[int, Callable[[], None]], int]:
            return self.work

        def work(self, item: int, check: Callable[[], None]) -> int:
            (tmp_path / str(item)).touch()
            # Long enough for the other worker to do hundreds.
            while item == 0 and len(list(tmp_path.iterdir())) < 4:
                time.sleep(0.01)
            time.sleep(0.5 if item == 0 else 0)
            return item**2

    drawn = []

    def items() -> Iterator[int]:
        for number in range(40):
            drawn.append(number)
            yield number

    run = RayRun(SIZE, 2)
    with closing(run.process_in_order(Work(), items(), 3, lambda text: None)) as results:
        found = [next(results)]
        assert 4 <= len(drawn) <= 1 + 3 + 2 * ITEMS_PER_WORKER
        found += results
    assert found == [(i, i**2) for i in range(40)]


def test_a_killed_worker_is_replaced_and_its_items_are_done(
    connection: Any, tmp_path: Path
) -> None:
    def work(item: int, check: Callable[[], None]) -> int:
        if item == 5:
            try:
                (tmp_path / "killed").touch(exist_ok=False)
            except FileExistsError:
                return item
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    results = sorted(run_on_workers(opening(work), range(20), SIZE, count=2))
    assert results == [(i, i) for i in range(20)]


def test_an_item_that_kills_each_worker_is_given_up_and_the_others_are_not(
    connection: Any, tmp_path: Path
) -> None:
    def work(item: int, check: Callable[[], None]) -> int:
        if item == 3:
            with (tmp_path / "deaths").open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    results = dict(run_on_workers(opening(work), range(10), SIZE, count=2))
    assert isinstance(results.pop(3), Died)
    assert results == {i: i for i in range(10) if i != 3}
    assert (tmp_path / "deaths").read_text() == "xx"


def test_a_node_that_leaves_is_survived(connection: Any, tmp_path: Path) -> None:
    leaving = connection.add_node(**NODE)

    busy = tmp_path / "busy"

    def work(item: int, check: Callable[[], None]) -> str:
        here = ray.get_runtime_context().get_node_id()
        if here == leaving_id:
            busy.touch()
        # Those of the node that leaves are never finished there, and it has some.
        while here == leaving_id or not busy.exists():
            time.sleep(0.01)
        return here

    leaving_id = leaving.node_id
    finished = []

    def remove() -> None:
        while not busy.exists():
            time.sleep(0.05)
        connection.remove_node(leaving)

    removing = threading.Thread(target=remove, daemon=True)
    removing.start()
    for item, node in run_on_workers(opening(work), range(30), SIZE):
        finished.append(item)
        assert node != leaving_id
    removing.join()
    assert sorted(finished) == list(range(30))


def test_a_stop_lets_workers_finish_what_they_write(connection: Any, tmp_path: Path) -> None:
    def work(item: int, check: Callable[[], None]) -> None:
        (tmp_path / f"{item}.begun").touch()
        try:
            while True:
                check()
                time.sleep(0.01)
        finally:
            (tmp_path / f"{item}.cleaned").touch()

    def stop_after_the_first() -> None:
        with closing(run_on_workers(opening(work), items(), SIZE, count=1)) as results:
            next(results)

    def items() -> Iterator[int]:
        yield from range(2)
        while not list(tmp_path.glob("*.begun")):
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_after_the_first()
    begun = {path.stem for path in tmp_path.glob("*.begun")}
    assert begun
    assert {path.stem for path in tmp_path.glob("*.cleaned")} == begun


def test_what_opening_refuses_ends_the_run(connection: Any) -> None:
    def refuse(cores: int) -> Any:
        raise UserError("There is no such model here.")

    with pytest.raises(UserError, match="no such model here"):
        list(run_on_workers(refuse, range(3), SIZE))

    def die(cores: int) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError, match="Workers die before they are ready"):
        list(run_on_workers(die, range(3), SIZE, count=1))


def test_what_fits_on_the_machines(connection: Any) -> None:
    assert choose_size(None, MEMORY // 2) == WorkerSize(1, 0, MEMORY // 2)
    assert count_places(SIZE) == 2
    with pytest.raises(UserError, match=r"5\.0 GB of memory .*\(the largest gives Ray 2\.0 GB\)"):
        choose_size(None, 5_000_000_000)
    with pytest.raises(UserError, match="No machine of the cluster has 7 cores"):
        choose_size(7, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in two folders, one of them broken, and a stack."""
    rng = np.random.default_rng(0)
    made = tmp_path / "in"
    (made / "day 2").mkdir(parents=True)
    for name in ("a.png", "b.png", "day 2/a.png", "day 2/c.png"):
        Image.fromarray(rng.integers(0, 256, (60, 90), np.uint8)).save(made / name)
    (made / "broken.png").write_bytes((made / "a.png").read_bytes()[:500])
    stack = rng.integers(0, 256, (2, 50, 60)).astype(np.uint8)
    tifffile.imwrite(made / "stack.tif", stack, metadata={"axes": "ZYX"}, ome=True)
    return made


def samlet_call(*arguments: object) -> tuple[str, str]:
    """What a command prints, and the sentence that it fails with."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    if done.exception is not None and not isinstance(done.exception, (UserError, SystemExit)):
        raise done.exception
    return done.stdout, str(done.exception or "")


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


EVERYTHING = ("--points-per-side", 2, "--pred-iou-thresh", 0, "--stability-score-thresh", 0)


def test_everything_gives_the_bytes_of_one_process(
    connection: Any, folder: Path, small_file: Path, tmp_path: Path
) -> None:
    command = ("everything", folder, *EVERYTHING, "--model", small_file, "--also", "yolo", "--out")
    on_ray = ("--ray", connection.address, "--worker-cores", 1)
    said, failed = samlet_call(*command, tmp_path / "alone")
    said_on_ray, failed_on_ray = samlet_call(*command, tmp_path / "ray", *on_ray)
    assert failed_on_ray == failed
    assert "1 of 6 images failed" in failed
    assert sorted(said_on_ray.splitlines()) == sorted(said.splitlines())
    alone, on_workers = files_in(tmp_path / "alone"), files_in(tmp_path / "ray")
    assert "stack.tif.labels.tif" in alone
    assert on_workers.keys() == alone.keys()
    assert [name for name in alone if on_workers[name] != alone[name]] == []

    # As after a worker that was killed while it wrote; a label map does not make an image done.
    (tmp_path / "ray" / "a.png.coco.json").unlink()
    (tmp_path / "ray" / "a.png.labels.png").write_bytes(b"half")
    said, _ = samlet_call(*command, tmp_path / "ray", *on_ray)
    assert "4 of 6 were finished before" in said
    assert files_in(tmp_path / "ray") == alone
    # And on one process again: all the same work.
    said, _ = samlet_call(*command, tmp_path / "ray")
    assert "5 of 6 were finished before" in said


def test_a_killed_run_is_resumed(connection: Any, small_file: Path, tmp_path: Path) -> None:
    """The command's process is killed; Ray ends its workers once it has noticed."""
    images, out = tmp_path / "in", tmp_path / "ray"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(16):
        Image.fromarray(rng.integers(0, 256, (60, 90), np.uint8)).save(images / f"{number}.png")
    command = ("everything", images, *EVERYTHING, "--model", small_file, "--out")
    on_ray = ("--ray", connection.address, "--worker-cores", 1)
    given = [str(each) for each in (*command, out, *on_ray)]
    code = "from samlet.cli.main import main; main()"
    with subprocess.Popen([sys.executable, "-c", code, *given]) as running:
        while not list(out.glob("*.coco.json")):
            assert running.poll() is None
            time.sleep(0.01)
        running.kill()
    while ray.available_resources().get("CPU", 0) < 2:
        time.sleep(0.05)

    def written() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in out.glob("*.coco.json")}

    before = written()
    assert 0 < len(before) < 16
    said, failed = samlet_call(*command, out, *on_ray)
    assert not failed
    assert f"{len(before)} of 16 were finished before" in said
    after = written()
    assert before.items() <= after.items()
    assert len(after) == 16
    samlet_call(*command, tmp_path / "alone")
    # What the workers were writing stays, and is read by nobody.
    visible = {name: it for name, it in files_in(out).items() if not name.startswith(".samlet-")}
    assert visible == files_in(tmp_path / "alone")


def test_encode_fills_the_same_cache(
    connection: Any, folder: Path, small_file: Path, tmp_path: Path
) -> None:
    (folder / "stack.tif").unlink()
    command = ("encode", folder, "--model", small_file, "--cache")
    on_ray = ("--ray", connection.address, "--worker-cores", 1)
    said, failed = samlet_call(*command, tmp_path / "ray", *on_ray)
    assert "4 images encoded, 0 were in the cache before" in said
    assert "1 of 5 images failed" in failed
    said, failed_alone = samlet_call(*command, tmp_path / "ray")
    assert "0 images encoded, 4 were in the cache before" in said
    assert failed_alone == failed
    samlet_call(*command, tmp_path / "alone")
    assert files_in(tmp_path / "ray") == files_in(tmp_path / "alone")


def test_embed_stores_the_same_embeddings(
    connection: Any,
    folder: Path,
    small_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "MAX_BROKEN_SHARE", 1.0)
    # Of the embeddings of 128 px.
    monkeypatch.setattr(embedding_store, "SHARD_BYTES", 3 * 256 * 8 * 8 * 2)
    (folder / "copy.png").write_bytes((folder / "b.png").read_bytes())
    command = ("embed", folder, "--teacher", small_file, "--batch-size", 2, "--out")
    runs = {"alone": (), "ray": ("--ray", connection.address, "--worker-cores", 1)}
    for run, options in runs.items():
        out = tmp_path / run
        said, failed = samlet_call(*command, out, *options)
        assert not failed
        assert "6 embeddings are in" in said
        assert "Skipped broken.png: broken.png cannot be decoded" in said
        # As if the first shard were damaged.
        (shard,) = out.rglob("000-00000.npy")
        shard.write_bytes(b"half")
        said, _ = samlet_call(*command, out, *options)
        # Of eight files three have embeddings; one is broken and one a copy.
        assert "5 images need" in said
    alone, on_workers = files_in(tmp_path / "alone"), files_in(tmp_path / "ray")
    assert len(alone) == 4
    assert on_workers == alone


def test_images_that_kill_their_workers_are_not_embedded(connection: Any) -> None:
    class Work:
        def open(self, device: str) -> Callable[[Any, Callable[[], None]], np.ndarray]:
            return self.work

        def work(self, batch: Any, check: Callable[[], None]) -> np.ndarray:
            if batch[0][0].key == "2":
                os.kill(os.getpid(), signal.SIGKILL)
            return np.full((len(batch), 1, 1, 1), int(batch[0][0].key), np.float16)

    pixels = np.zeros((2, 2, 3), np.uint8)
    images = [(Entry(str(n), "", ""), LoadedImage(str(n), "", pixels)) for n in range(8)]
    pairs = (images[n : n + 2] for n in range(0, 8, 2))
    skipped = SkippedImages(8)
    found = list(embed_on_ray(RayRun(SIZE, 2), Work(), skipped, pairs))
    assert [(entry.key, int(value.item())) for entry, value in found] == [
        ("0", 0), ("1", 0), ("4", 4), ("5", 4), ("6", 6), ("7", 6),
    ]  # fmt: skip
    assert list(skipped.reasons) == ["2", "3"]
    assert "give a smaller --batch-size" in skipped.reasons["3"]


def test_a_bucket_gives_the_bytes_of_a_folder_in_one_process(
    connection: Any, s3: Any, folder: Path, small_file: Path, tmp_path: Path
) -> None:
    (folder / "broken.png").unlink()
    marked = np.zeros((2, 60, 90), np.uint8)
    marked[0, 5:25, 8:30] = 1
    labels = tmp_path / "labels"
    (labels / "day 2").mkdir(parents=True)
    for name in ("a.png", "day 2/c.png"):
        Image.fromarray(marked[0]).save(labels / name)
    tifffile.imwrite(labels / "stack.tif", marked[:, :50, :60], photometric="minisblack")
    for place in (folder, labels):
        for name, content in files_in(place).items():
            put(s3, f"{place.name}/{name}", content)
    on_ray = ("--ray", connection.address, "--worker-cores", 1)

    def work(place: Path | Url, *options: object) -> str:
        """Find objects like examples, and measure them."""
        images, out, table = place / "in", place / "out", place / "t.csv"
        fast = ("--model", small_file, "--likeness", 0.99)
        like = ("--like", place / "labels", "--out", out)
        said, failed = samlet_call("everything", images, *like, *fast, *options)
        assert not failed, failed
        measured, failed = samlet_call("measure", out, images, "--table", table, *options)
        assert not failed, failed
        return said + measured

    said, said_on_ray = work(tmp_path), work(BUCKET, *on_ray)
    assert "3 of 6 have no labels: left out." in said
    assert sorted(said_on_ray.replace(str(BUCKET), str(tmp_path))) == sorted(said)
    here = files_in(tmp_path / "out") | {"t.csv": (tmp_path / "t.csv").read_bytes()}
    names = [name.removeprefix("images/") for name in s3.find(BUCKET.text)]
    there = {
        name.removeprefix("out/"): s3.cat_file(f"{BUCKET}/{name}").replace(
            str(BUCKET).encode(), str(tmp_path).encode()
        )
        for name in names
        if name.startswith(("out/", "t.csv"))
    }
    assert there.keys() == here.keys() >= {"day 2/c.png.coco.json", "stack.tif.z0.coco.json"}
    assert [name for name in here if there[name] != here[name]] == []
    assert here["t.csv"].count(b"\n") > 2


@pytest.mark.slow
def test_measure_and_preannotate_give_what_one_process_gives(
    connection: Any, folder: Path, small_file: Path, tmp_path: Path
) -> None:
    for name in ("stack.tif", "broken.png"):
        (folder / name).unlink()
    results = tmp_path / "results"
    samlet_call("everything", folder, *EVERYTHING, "--model", small_file, "--out", results)
    on_ray = ("--ray", connection.address, "--worker-cores", 1)
    tables = [tmp_path / "alone.csv", tmp_path / "ray.csv"]
    for table, options in zip(tables, ((), on_ray), strict=True):
        said, failed = samlet_call("measure", results, folder, "--table", table, *options)
        assert not failed, said
    assert tables[1].read_bytes() == tables[0].read_bytes()
    assert tables[0].read_text().count("\n") > 4

    from samlet_labelstudio.cli import app as labelstudio

    tasks = []
    for name, options in {"alone.json": (), "ray.json": on_ray}.items():
        command = ("preannotate", "--images", folder, "--model", small_file, "--engine", "torch")
        given = (*command, "--out", tmp_path / name, *options)
        done = CliRunner().invoke(labelstudio, [str(each) for each in given])
        assert done.exit_code == 0, done.output
        found = json.loads((tmp_path / name).read_text())
        for task in found:
            for region in task["predictions"][0]["result"]:
                # A number by chance.
                del region["id"]
        tasks.append(found)
    assert len(tasks[0]) == 4
    assert tasks[1] == tasks[0]


def test_what_is_wrong_with_a_cluster_is_one_sentence(
    cluster: Any, folder: Path, small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("everything", folder, *EVERYTHING, "--model", small_file, "--out", tmp_path / "out")
    with marked_run(tmp_path / "out"):
        monkeypatch.setattr(run_mark.os, "getpid", lambda: 0)
        _, failed = samlet_call(*command, "--ray", cluster.address)
    assert "Another run (process" in failed
    monkeypatch.undo()
    ray.shutdown()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for address, sentence in {
        f"127.0.0.1:{port}": "No Ray cluster answers at 127.0.0.1",
        "somewhere": "--ray takes auto, local, or the address of a cluster",
    }.items():
        _, failed = samlet_call(*command, "--ray", address)
        assert sentence in failed
    monkeypatch.setattr(ray, "__version__", "2.1.0")
    _, failed = samlet_call(*command, "--ray", cluster.address)
    assert "has another version of Ray or Python (Ray 2." in failed
    monkeypatch.setitem(sys.modules, "ray", None)
    _, failed = samlet_call(*command, "--ray", "auto")
    assert "pip install 'samlet[ray]'" in failed
