"""Many images: what happens at the same time, and in which order."""

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from samlet.errors import UserError
from samlet.everything import batch
from samlet.everything.batch import ImageBatch, Outcome, segment_images
from samlet.masks import to_rle

PATHS = [Path(f"{i}.png") for i in range(5)]


@pytest.fixture(autouse=True)
def five_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for path in PATHS:
        path.write_text(path.name)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


class Steps:
    """Finds one object in each image, and notes what happens when and where."""

    def __init__(self, before: Callable[[str], None] = lambda step: None) -> None:
        self.happened: list[str] = []
        self.threads: dict[str, set[int]] = {}
        self.before = before

    def note(self, what: str, number: int) -> None:
        self.threads.setdefault(what, set()).add(threading.get_ident())
        self.happened.append(f"{what} {number}")
        self.before(f"{what} {number}")

    def read(self, path: Path) -> np.ndarray:
        number = int(path.stem)
        self.note("read", number)
        if number == 2:
            raise UserError("2.png is damaged.")
        return np.full((8, 8, 3), number, np.uint8)

    def segment(self, image: np.ndarray, *, progress: Any = None) -> list[dict[str, Any]]:
        self.note("find", int(image[0, 0, 0]))
        progress(1.0)
        return [{"segmentation": to_rle(np.ones((8, 8), bool)), "predicted_iou": 0.5}]

    def run(self, out: Path, info: dict[str, Any]) -> tuple[Outcome, list[str]]:
        told = io.StringIO()
        with Progress(console=Console(file=told)) as progress:
            steps = ImageBatch(self.read, self.segment, info)
            outcome = segment_images(PATHS, [out] * len(PATHS), steps, progress)
        return outcome, [line for line in told.getvalue().splitlines() if "object" in line]


@pytest.fixture
def noted_writes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Steps], None]:
    def install(steps: Steps) -> None:
        write = batch.write_results

        def note(folder: Path, path: Path, *rest: Any) -> Any:
            steps.note("write", int(path.stem))
            return write(folder, path, *rest)

        monkeypatch.setattr(batch, "write_results", note)

    return install


def test_results_come_in_order_and_are_skipped_later(out: Path) -> None:
    outcome, told = Steps().run(out, {"model": "a"})
    assert outcome == Outcome(skipped=0, failed=["2.png is damaged."])
    assert told == [f"{i}.png: 1 object" for i in (0, 1, 3, 4)]
    assert len(list(out.iterdir())) == 16
    again = Steps()
    assert again.run(out, {"model": "a"}) == (Outcome(4, failed=["2.png is damaged."]), [])
    assert again.happened == ["read 2"]
    other, _ = Steps().run(out, {"model": "b"})
    assert other.skipped == 0


def test_reading_finding_and_writing_overlap(
    out: Path, noted_writes: Callable[[Steps], None]
) -> None:
    """Each of these waits for a step of another image that would come later in a plain loop."""
    waits_for = {"find 0": "read 1", "write 0": "find 1", "find 3": "write 1", "write 3": "find 4"}
    begun = {step: threading.Event() for step in waits_for.values()}
    late = []

    def before(step: str) -> None:
        if step in begun:
            begun[step].set()
        if step in waits_for and not begun[waits_for[step]].wait(timeout=30):
            late.append(step)

    steps = Steps(before)
    noted_writes(steps)
    steps.run(out, {})
    assert late == []
    for what, numbers in {"read": "01234", "find": "0134", "write": "0134"}.items():
        assert [s for s in steps.happened if what in s] == [f"{what} {n}" for n in numbers]
    assert steps.threads["find"] == {threading.get_ident()}
    assert steps.threads["read"].isdisjoint(steps.threads["find"] | steps.threads["write"])
    assert steps.threads["write"].isdisjoint(steps.threads["find"])


def test_a_write_that_fails_ends_the_run(out: Path, noted_writes: Callable[[Steps], None]) -> None:
    def fail(step: str) -> None:
        if step == "write 0":
            raise UserError("Cannot write.")

    steps = Steps(fail)
    noted_writes(steps)
    with pytest.raises(UserError, match="Cannot write"):
        steps.run(out, {})
    assert "find 3" not in steps.happened


def test_a_stop_leaves_whole_results(out: Path) -> None:
    def stop(step: str) -> None:
        if step == "find 4":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Steps(stop).run(out, {})
    done = {path.name for path in out.glob("*.coco.json")}
    assert {"0.png.coco.json", "1.png.coco.json"} <= done
    outcome, _ = Steps().run(out, {})
    assert outcome.skipped >= 2


def test_done_means_this_file_and_all_results(out: Path) -> None:
    Steps().run(out, {"model": "a"})
    PATHS[0].write_text("another image")
    (out / "1.png.overlay.png").unlink()
    again = Steps()
    outcome, _ = again.run(out, {"model": "a"})
    assert outcome.skipped == 2
    assert [step for step in again.happened if "find" in step] == ["find 0", "find 1"]


def test_another_image_of_the_same_name(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders into one place: the second must not write over the first."""
    Steps().run(out, {"model": "a"})
    other = out.parent / "other"
    other.mkdir()
    for path in PATHS:
        (other / path).write_text(path.name if path.name == "3.png" else f"other {path}")
    before = {path: path.read_bytes() for path in out.iterdir()}
    monkeypatch.chdir(other)
    outcome, _ = Steps().run(out, {"model": "a"})
    # A copy of the same image is done.
    assert outcome.skipped == 1
    assert [line for line in outcome.failed if "has the name of" in line and "/in/0.png" in line]
    assert len(outcome.failed) == 4
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_file_that_is_not_ours_is_kept(out: Path) -> None:
    out.mkdir()
    (out / "0.png.coco.json").write_text('{"annotations": []}')
    outcome, _ = Steps().run(out, {"model": "a"})
    assert "0.png.coco.json exists, but is not what samlet wrote" in outcome.failed[0]
    assert (out / "0.png.coco.json").read_text() == '{"annotations": []}'
    assert len(outcome.failed) == 2


def test_names_of_results_that_do_not_fit(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image's name is its own fault, and ends nothing."""
    long = Path("1" * 245 + ".png")
    long.write_text("")
    monkeypatch.setattr("tests.core.everything.test_batch.PATHS", [PATHS[0], long, PATHS[1]])
    outcome, told = Steps().run(out, {})
    assert len(told) == 2
    assert "too long to add the suffixes of results: rename it" in outcome.failed[0]
