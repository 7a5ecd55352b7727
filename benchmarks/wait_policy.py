"""How PyTorch's threads should wait for each other: alone, and beside other programs.

    python -m benchmarks.wait_policy

Two processes take turns, one with the default of GNU's OpenMP, in which threads that wait keep
computing for long, and one with the shorter `GOMP_SPINCOUNT` that samlet sets. First alone, then
beside as many programs as there are processors, which compute all the time. The model is the
bundled one, in PyTorch and float32. Prints a Markdown table of medians, and of the ratios within
rounds. Run nothing beside it.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from benchmarks.common import seconds_of

import samlet
from samlet import samples

VARIABLE = "GOMP_SPINCOUNT"
COUNTS = (None, "10000")
ROUNDS = {"encode": 7, "click": 15, "everything": 3, "training step": 5}
SIZE = 512


def make_steps() -> dict[str, Callable[[], object]]:
    """What is timed, by the names in ROUNDS."""
    image = samlet.images.read(samples.IMAGES / "fluorescence_1.png")
    predictor = samlet.Predictor(samlet.load("microscopy"), engine="torch", precision="float32")
    embedding = predictor.encode(image)
    coords, labels = np.array([[246, 159]]), np.array([1])
    encoder = samlet.load("microscopy").image_encoder.train()
    optimizer = torch.optim.AdamW(encoder.parameters(), 1e-5)
    batch = torch.randn(2, 3, SIZE, SIZE)

    def train() -> None:
        optimizer.zero_grad()
        encoder(batch).square().mean().backward()
        optimizer.step()

    steps: tuple[Callable[[], object], ...] = (
        lambda: predictor.encode(image),
        lambda: predictor.segment(embedding, point_coords=coords, point_labels=labels),
        lambda: samlet.segment_everything(predictor, image),
        train,
    )
    return dict(zip(ROUNDS, steps, strict=True))


def serve() -> None:
    """Time each step that standard input names."""
    steps = make_steps()
    for line in sys.stdin:
        print(seconds_of(steps[line.strip()]), flush=True)


class Server:
    """Times steps in a process of its own.

    Args:
        count: of VARIABLE; None for the default.
    """

    def __init__(self, count: str | None) -> None:
        variables = {name: value for name, value in os.environ.items() if name != VARIABLE}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.wait_policy", "serve"],
            env=variables | ({} if count is None else {VARIABLE: count}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, step: str) -> float:
        """How long a step takes."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(step, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()


def _compute() -> None:
    while True:
        sum(range(100_000))


@contextmanager
def other_programs(count: int) -> Iterator[None]:
    """Processes that compute all the time."""
    processes = [multiprocessing.Process(target=_compute, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    yield
    for process in processes:
        process.terminate()


def main() -> None:
    """Print the table."""
    processors = os.cpu_count() or 1
    print(f"{processors} processors, PyTorch {torch.__version__}\n")
    print("| | beside | default | samlet | ratio |\n|---|---|---|---|---|")
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(count)) for count in COUNTS]
        for step in ROUNDS:
            for server in servers:
                server.seconds(step)
        for number in (0, processors):
            with other_programs(number):
                for step, rounds in ROUNDS.items():
                    times = np.array([[s.seconds(step) for s in servers] for _ in range(rounds)])
                    default, ours = np.median(times, axis=0)
                    ratio = statistics.median(times[:, 0] / times[:, 1])
                    beside = f"{number} programs" if number else "nothing"
                    print(
                        f"| {step} | {beside} | {default:.3f} s | {ours:.3f} s | {ratio:.2f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
