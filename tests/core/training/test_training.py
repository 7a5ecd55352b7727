"""The training loop: exact resume, several processes, accumulation, and what it says."""

import copy
import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from rich.progress import Progress
from torch import nn

import samlet
from samlet.training import train_logger
from samlet.training.accelerator import open_accelerator
from samlet.training.batch_norm import SynchronizedBatchNorm2d, synchronize_batch_norm
from samlet.training.loop import _EMA_OFFSET, _open_ema, train
from samlet.training.run_lock import LOCK, run_lock
from samlet.training.settings import LoopSettings
from samlet.training.stream import Batches, Position
from samlet.utils.messages import pluralize
from samlet.utils.prefetch import prefetch, prefetch_iterator
from samlet.utils.progress import _Rate
from tests.core.training import training_worker
from tests.core.training.training_worker import STEPS

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {"COLUMNS": "200", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}


def start(out: Path, pause: float = 0, **environment: str) -> subprocess.Popen:
    """Train in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.core.training.training_worker", str(out), "4", str(pause)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        # A background shell ignores Ctrl-C, and would hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env=os.environ | ENVIRONMENT | environment,
    )


def run(out: Path) -> None:
    """The same in this process, which needs not be started."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_logger, "LOG_INTERVAL", 1)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        # Other tests run OpenVINO, which makes this thread round the smallest numbers to zero.
        torch.set_flush_denormal(False)
        try:
            training_worker.main(out, 4, 0)
        finally:
            torch.set_num_threads(threads)


def finish(process: subprocess.Popen) -> None:
    told, _ = process.communicate(timeout=240)
    assert process.returncode == 0, told


def losses(out: Path) -> list[float]:
    with (out / "log.csv").open() as file:
        return [float(row["embedding"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    out = tmp_path_factory.mktemp("whole")
    run(out)
    return out


@pytest.mark.parametrize(
    "how",
    [
        signal.SIGKILL,
        *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGINT, signal.SIGTERM)),
    ],
)
def test_stopped_and_resumed_equals_never_stopped(
    whole: Path, how: signal.Signals, tmp_path: Path
) -> None:
    process = start(tmp_path, pause=0.2)
    deadline = time.monotonic() + 120
    while not (tmp_path / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.7)
    with pytest.raises(samlet.UserError, match="Another training is at work"):
        run(tmp_path)
    process.send_signal(how)
    told, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    step = torch.load(tmp_path / "state.pt", weights_only=True)["step"]
    assert 0 < step < STEPS
    if how != signal.SIGKILL:
        assert f"Stopped at step {step}; the same command resumes" in told
    run(tmp_path)
    a = torch.load(whole / "result.pt", weights_only=True)
    b = torch.load(tmp_path / "result.pt", weights_only=True)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert losses(whole) == losses(tmp_path)


def test_a_second_training_in_the_same_folder_changes_nothing(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        with pytest.raises(samlet.UserError, match="Another training is at work"):
            run(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_two_processes_with_half_the_batch_equal_one(whole: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    # As torchrun sets them.
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [start(tmp_path, 0, RANK=rank, LOCAL_RANK=rank, **both) for rank in ("0", "1")]
    for process in started:
        finish(process)
    one, two = losses(whole), losses(tmp_path)
    assert len(one) == len(two) == STEPS
    assert one == pytest.approx(two, abs=1e-4)
    assert one[-1] < 0.9 * one[0]
    a = torch.load(whole / "result.pt", weights_only=True)
    b = torch.load(tmp_path / "result.pt", weights_only=True)
    worst = max((a[k].float() - b[k].float()).abs().max().item() for k in a)
    assert worst < 1e-2

    with pytest.raises(samlet.UserError, match="was written by 2 processes"):
        run(tmp_path)


class Line(nn.Module):
    """Least squares on numbers that are handed in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"error": ((x[:, :1] @ self.weight) - x[:, 1:]).square().mean()}


def numbers(size: int, scale: float = 1.0) -> Batches:
    rows = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * scale

    def batches(position: Position) -> Iterator[tuple[torch.Tensor, Position]]:
        for i in count(position.get("i", 0)):
            yield rows[i * size : (i + 1) * size], {"i": i + 1}

    return batches


def test_accumulated_batches_equal_a_large_one(tmp_path: Path) -> None:
    settings = LoopSettings(steps=10, learning_rate=1e-2, warmup=0, ema=0.0)
    weights = []
    for size, parts in ((12, 1), (4, 3)):
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=parts)
        result = train(Line(), numbers(size), settings, tmp_path / str(parts), accelerator)
        weights.append(result.get_parameter("weight").item())
    assert weights[0] != 0
    assert weights[0] == pytest.approx(weights[1], abs=1e-6)


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    train(Line(), numbers(4), LoopSettings(steps=2, learning_rate=1e-3), tmp_path)
    with pytest.raises(samlet.UserError, match="another model"):
        longer = LoopSettings(steps=4, learning_rate=1e-3)
        train(nn.Sequential(Line()), numbers(4), longer, tmp_path)


def test_a_loss_that_explodes_stops_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(samlet.UserError, match="no longer a number"):
        train(Line(), numbers(4, scale=1e30), LoopSettings(steps=20, learning_rate=1e-3), tmp_path)


def test_the_log_can_be_read_by_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(Line(), numbers(4), LoopSettings(steps=30, learning_rate=1e-3), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss/error")] == [10, 20, 30]


def test_rates_and_counts_read_well() -> None:
    def told(done: int, seconds: float) -> str:
        now = 0.0
        progress = Progress(_Rate(), get_time=lambda: now)
        task = progress.add_task("", total=done)
        for now, completed in ((seconds / 2, done // 2), (seconds, done)):  # noqa: B007
            progress.update(task, completed=completed)
        return str(_Rate().render(progress.tasks[0]))

    assert [told(*x) for x in ((50, 0.001), (20_000, 2), (30, 2), (2, 8))] == [
        "", "10,000/s", "15.0/s", "4.0 s each",
    ]  # fmt: skip
    assert [pluralize(n, "image") for n in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]


def test_work_ahead_keeps_order_and_tells_errors() -> None:
    def slow_square(x: int) -> int:
        time.sleep(0.01 * (x % 3))
        if x == 17:
            raise ValueError("seventeen")
        return x * x

    for threads in (0, 3):
        assert list(prefetch(range(10), slow_square, threads, depth=4)) == [
            x * x for x in range(10)
        ]
        with pytest.raises(ValueError, match="seventeen"):
            list(prefetch(range(20), slow_square, threads, depth=4))


def test_a_background_stream_stops_drawing_when_closed() -> None:
    drawn: list[int] = []

    def numbers_for_ever() -> Iterator[int]:
        for i in count():
            drawn.append(i)
            yield i

    stream = prefetch_iterator(numbers_for_ever(), depth=2)
    assert [next(stream) for _ in range(5)] == [0, 1, 2, 3, 4]
    stream.close()  # type: ignore[attr-defined]
    before = len(drawn)
    time.sleep(0.3)
    assert len(drawn) == before <= 9

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(prefetch_iterator(broken(), depth=2))


def test_each_run_of_a_process_has_its_own_precision() -> None:
    """Fails where accelerate's private reset moves or stops working."""
    assert [open_accelerator(p).mixed_precision for p in ("bf16", "no")] == ["bf16", "no"]


def test_batch_norm_on_gpus_is_torchs_with_the_same_state() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = dict(module.state_dict(keep_vars=True))
    for device, kind in (("cuda", nn.SyncBatchNorm), ("cpu", SynchronizedBatchNorm2d)):
        processes = SimpleNamespace(num_processes=2, device=torch.device(device))
        converted = synchronize_batch_norm(copy.deepcopy(module), cast(Accelerator, processes))
        assert type(converted[1]) is kind  # type: ignore[index]
        after = converted.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[name], value) for name, value in before.items())
    one = SimpleNamespace(num_processes=1, device=torch.device("cuda"))
    assert synchronize_batch_norm(module, cast(Accelerator, one)) is module
    assert type(module[1]) is nn.BatchNorm2d


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.998])
def test_averages_forget_the_first_weights(decay: float) -> None:
    """The decay that runs had before timm averaged them, so that old states resume exactly."""
    ema = _open_ema(Line(), decay)
    for step in range(1, 6000):
        weight = np.float32(1 - ema.get_decay(step + _EMA_OFFSET))
        assert weight == np.float32(1 - min(decay, (1 + step) / (10 + step)))
