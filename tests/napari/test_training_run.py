"""What is written for a training, and the process that trains."""

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from napari.layers import Image, Labels

from samlet import images, outputs
from samlet.errors import UserError
from samlet.training.job import FinetuneResult, Progress
from samlet_napari.finetune.messages import describe_result
from samlet_napari.finetune.time_estimate import TimeEstimate, measure
from samlet_napari.finetune.training_data import TrainingData, export
from samlet_napari.finetune.training_run import TrainingRun, new_folder

WAIT_S = 60

T = TypeVar("T")


def done(work: Generator[Any, None, T]) -> T:
    """What is returned in the end."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def written(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        path.stem: (images.read(path), outputs.read_label_map(folder / "labels" / path.name))
        for path in sorted((folder / "images").iterdir())
    }


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMLET_NAPARI_RUNS", str(tmp_path / "runs"))
    return new_folder()


def test_planes_with_labels(run: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 3, 40, 50), dtype=np.uint8)
    labels = np.zeros((2, 3, 40, 50), np.int64)
    labels[0, 1, 10:20, 5:15] = 70_000
    labels[0, 1, 25:30, 5:15] = -3
    labels[1, 2, 0:8, 0:9] = 5
    image = Image(pixels, contrast_limits=(0, 255))
    assert done(export(TrainingData.of(image, Labels(labels)), run)) == 2
    (first, numbers), (second, others) = written(run).values()
    assert (first == pixels[0, 1][..., None]).all() and (second == pixels[1, 2][..., None]).all()
    assert set(np.unique(numbers)) == {0, 1, 2}
    assert ((numbers == 1) == (labels[0, 1] == -3)).all()
    assert ((numbers == 2) == (labels[0, 1] == 70_000)).all()
    assert ((others == 1) == (labels[1, 2] == 5)).all()


def test_colours_and_pyramids(run: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    labels = np.zeros((64, 96), np.uint8)
    labels[20:40, 30:60] = 9
    image = Image([pixels, pixels[::2, ::2]], multiscale=True, rgb=True)
    pyramid = Labels([labels, labels[::2, ::2]], multiscale=True)
    assert done(export(TrainingData.of(image, pyramid), run)) == 1
    ((picture, numbers),) = written(run).values()
    assert (picture == pixels).all() and ((numbers == 1) == (labels == 9)).all()


@pytest.mark.parametrize(
    ("shape", "corner", "crops", "size"),
    [
        ((2048, 60), (2040, 50), 1, (2048, 60)),
        ((2049, 60), (2040, 50), 3, (683, 60)),
        ((2100, 2100), (1500, 10), 9, (700, 700)),
    ],
)
def test_large_planes_are_cut(
    run: Path, shape: tuple[int, int], corner: tuple[int, int], crops: int, size: tuple[int, int]
) -> None:
    y, x = corner
    pixels, labels = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    labels[y, x], pixels[y, x] = 1, 200
    pairs = TrainingData.of(Image(pixels, contrast_limits=(0, 255)), Labels(labels))
    covered = np.zeros(shape, int)
    found = list(pairs.crops())
    for crop in found:
        covered[crop.plane.slices(crop.box)] += 1
    assert len(found) == crops and (covered == 1).all()
    assert done(export(pairs, run)) == 1
    ((picture, numbers),) = written(run).values()
    assert numbers.shape == size and numbers.sum() == 1
    assert (picture[numbers == 1] == 200).all()


def test_layers_that_do_not_fit(run: Path) -> None:
    image = Image(np.zeros((20, 30), np.uint8), name="cells")
    with pytest.raises(UserError, match="Choose an image layer"):
        TrainingData.of(None, Labels(np.zeros((20, 30), int)))
    with pytest.raises(UserError, match="Choose a labels layer"):
        TrainingData.of(image, None)
    with pytest.raises(UserError, match="answer is 30 x 20 and cells is 20 x 30"):
        TrainingData.of(image, Labels(np.zeros((30, 20), int), name="answer"))
    empty = TrainingData.of(image, Labels(np.zeros((20, 30), int), name="answer"))
    for work in (export(empty, run), measure(empty, "microscopy")):
        with pytest.raises(UserError, match="answer has no objects: label some in cells"):
            done(work)


@pytest.mark.parametrize(("held_out", "seconds"), [(0, 20), (1, 26), (2, 32), (50, 320)])
def test_how_long_it_takes(held_out: int, seconds: float) -> None:
    assert TimeEstimate(100, held_out, per_step=2.0, per_held_out=3.0).seconds(10) == seconds


def test_the_log_is_read_while_it_is_written(run: Path) -> None:
    training = TrainingRun(run, "microscopy")
    log = run / "run" / "train" / "log.csv"
    assert training.job.progress() == []
    log.parent.mkdir(parents=True)
    whole = "step,seconds,waiting,mask,iou\r\n10,21.5,0.01,0.5,0.25\r\n20,40.0,0.01,0.25,0.125\r\n"
    rows = [Progress(10, 21.5, 0.75), Progress(20, 40.0, 0.375)]
    for length in range(len(whole) + 1):
        log.write_text(whole[:length], newline="")
        assert training.job.progress() == rows[: max(0, whole[:length].count("\r") - 1)]


def test_a_training_that_fails_tells_why(run: Path) -> None:
    training = TrainingRun(run, "microscopy")
    (run / "images").mkdir()
    (run / "labels").mkdir()
    training.start(2)
    with pytest.raises(UserError, match=r"The training has failed: .*holds no image"):
        wait_for(training)
    training.close()
    assert not run.exists()


def test_a_result_is_described_with_its_warnings() -> None:
    scores = {"click": 0.71, "box": 0.8349}
    result = FinetuneResult(
        Path("model"), before=scores, after=scores, warnings=["The labels look like masks.", "B."]
    )
    assert describe_result(result, "cells") == (
        "Done: cells is in the list of models. Mean IoU on held-out images: click 0.710 before, "
        "0.710 after; box 0.835 before, 0.835 after. The labels look like masks. B."
    )
    unmeasured = FinetuneResult(Path("model"), error="There is no memory left.")
    assert describe_result(unmeasured, "cells") == (
        "Done: cells is in the list of models. There is no memory left."
    )


def test_no_process_is_left(run: Path) -> None:
    training = TrainingRun(run, "microscopy")
    training.start(1000)
    process = training.job.process
    assert process is not None and process.stdin is not None
    assert training.result() is None
    # As if the viewer had been killed.
    process.stdin.close()
    assert process.wait(WAIT_S) == 1
    training.start(1000)
    process = training.job.process
    assert process is not None
    training.close()
    assert process.returncode is not None and not run.exists()
    training.close()


def wait_for(training: TrainingRun) -> FinetuneResult:
    deadline = time.monotonic() + WAIT_S
    while (result := training.result()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result
