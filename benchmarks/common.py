"""What several benchmarks share: options, precision, timing, memory and tables of times."""

import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

# Published figures are in float32, unless they name another precision.
os.environ.setdefault("SAMLET_PRECISION", "float32")

Data = Annotated[Path, typer.Argument(help="Folder with images/ and labels/ of BBBC038.")]
ModelName = Annotated[str, typer.Option("--model", help="Name of a model, or a checkpoint file.")]


def seconds_of(work: Callable[[], object]) -> float:
    """How long one run takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_seconds(work: Callable[[], object], repeats: int, warm_up: int = 0) -> float:
    """Median time of some runs, after others that are not counted."""
    seconds = [seconds_of(work) for _ in range(warm_up + repeats)]
    return statistics.median(seconds[warm_up:])


def peak_megabytes() -> float:
    """Highest memory use of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def print_times(seconds: Mapping[str, Sequence[float]]) -> None:
    """Print a Markdown table: median, 95th percentile and longest time of each row."""
    print("| | count | median | 95th percentile | longest |\n|---|---|---|---|---|")
    for name, times in seconds.items():
        cells = [f"{1000 * np.quantile(times, share):.0f} ms" for share in (0.5, 0.95, 1)]
        print(f"| {name} | {len(times)} | {' | '.join(cells)} |")
