"""A finetuning job in a process of its own: what it gives, and how it is stopped and resumed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import samlet
from samlet.training import job as jobs
from samlet.training.finetuning import finetune
from samlet.training.job import JOB, RESULT, FinetuneJob, FinetuneResult, Progress

WAIT_S = 300


def settings(data: Path, model: Path, **more: Any) -> dict[str, Any]:
    given = {"images": str(data / "images"), "labels": str(data / "labels"), "model": str(model)}
    few = {"steps": 2, "batch_size": 1, "objects": 2, "train": "decoder", "precision": "no"}
    return given | few | {"split": False} | more


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def do(folder: Path, settings: dict[str, Any]) -> FinetuneResult:
    """What the process does, in this one."""
    (folder / JOB).write_text(json.dumps({"settings": settings, "measure": True}))
    return jobs._do(folder)


def test_stopped_resumed_and_measured(data: Path, small_file: Path) -> None:
    for path in (data / "labels").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    (data / "labels" / "3.png").write_bytes(b"nothing")
    job = FinetuneJob(data)
    assert job.result() is None and job.progress() == []
    job.start(settings(data, small_file, steps=100_000))
    assert job.is_running and job.result() is None
    wait_until(job.progress)
    job.stop()
    wait_until(job.result)
    result = job.wait()
    assert result.is_stopped and result.model is None and not job.is_running
    assert result.error is not None and result.error.startswith("Stopped at step ")
    step = int(result.error.split()[3].strip(";"))

    job.start(settings(data, small_file, steps=step + 1))
    result = job.wait()
    assert result == FinetuneResult.read(data / RESULT)
    assert result.model == data / "run" / "model.safetensors"
    assert result.error is None and not result.is_stopped
    assert result.images + result.held_out == 9 and result.held_out >= 1
    assert result.before is not None and result.after is not None
    for figures in (result.before, result.after):
        assert 0 <= figures["click"] <= 1 and 0 <= figures["box"] <= 1
    assert list(map(Path, result.skipped)) == [data / "images" / "3.png"]
    assert result.notes[0] == "10 of 10 images have labels." and len(result.notes) == 3
    (warning,) = result.warnings
    assert warning.startswith("The labels look like class masks") and result.notes[2].endswith(
        warning
    )
    first, *_, last = job.progress()
    assert first.step == 10 and first.seconds > 0 and first.loss > 0 and last.step == step + 1
    samlet.load(result.model)


def test_stopped_outside_the_loop(
    data: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "measure_held_out", stop)
    result = do(data, settings(data, small_file))
    assert result.model is not None and result.before is None
    assert result.error is None and not result.is_stopped
    monkeypatch.setattr(finetune, "finetune", stop)
    result = do(data, settings(data, small_file))
    assert result.is_stopped and result.error == "Stopped before the first step was done."


def test_mistakes_are_sentences(data: Path, small_file: Path) -> None:
    error = do(data, settings(data, small_file, steps="many")).error
    assert error is not None and error.startswith("steps should be a valid integer, not 'many'")
    result = do(data, settings(data / "images", small_file))
    assert result.model is None and not result.is_stopped
    assert result.error is not None and "is not a folder" in result.error
    (data / JOB).write_text(json.dumps({"measure": True}))
    assert jobs._do(data).error == "KeyError: 'settings'"
    with pytest.raises(samlet.UserError, match="Cannot write"):
        FinetuneJob(small_file).start({})


def test_a_killed_process(data: Path, small_file: Path) -> None:
    job = FinetuneJob(data)
    (data / RESULT).write_text("an older one")
    job.start(settings(data, small_file))
    job.kill()
    assert job.wait().error == f"It ended with status -9; {data / 'log.txt'} may tell why."
    job.kill()
    job.stop()


def test_it_ends_with_the_program_that_started_it(data: Path, small_file: Path) -> None:
    start = (
        "import json, sys, time; from pathlib import Path\n"
        "from samlet.training.job import FinetuneJob\n"
        f"job = FinetuneJob(Path({str(data)!r}))\n"
        f"job.start({settings(data, small_file, steps=100_000)!r})\n"
        "assert 'torch' not in sys.modules\n"
        "print(job.process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_alive(child))
    assert not (data / RESULT).exists()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    # Where nobody asks for the status of an orphan that has ended, it stays as a zombie.
    status = Path(f"/proc/{process}/status")
    return not status.exists() or "State:\tZ" not in status.read_text()


def test_the_log_is_read_while_it_is_written(tmp_path: Path) -> None:
    job = FinetuneJob(tmp_path)
    log = tmp_path / "run" / "train" / "log.csv"
    log.parent.mkdir(parents=True)
    whole = "step,seconds,waiting,mask,iou\r\n10,21.5,0.01,0.5,0.25\r\n20,40.0,0.01,0.25,0.125\r\n"
    rows = [Progress(10, 21.5, 0.75), Progress(20, 40.0, 0.375)]
    for length in range(len(whole) + 1):
        log.write_text(whole[:length], newline="")
        assert job.progress() == rows[: max(0, whole[:length].count("\r") - 1)]
