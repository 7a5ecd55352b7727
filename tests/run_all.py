"""The whole suite: napari's tests in a process of their own, beside all others.

    python -m tests.run_all [PYTEST'S OPTIONS]

A Qt window must not share a process with servers. Both runs compete for the processors, so that
none is idle while a server starts or one of them is done early: napari's gives way to the
others.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import pytest

OTHERS = ("-n", "2", "-p", "no:napari", "tests", "--ignore", "tests/napari")
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""glibc gives large blocks back to the system at once, and the system clears each again when it is
next used: a sixth of the processor time of tests that compute."""


def main(options: list[str]) -> int:
    """Run all, show napari's results last, and give the exit status of the first that failed."""
    with (
        tempfile.TemporaryDirectory(prefix="samlet-tests-") as cache,
        tempfile.TemporaryFile() as shown_later,
        ThreadPoolExecutor(1) as beside,
    ):
        variables = os.environ | KEEP_MEMORY | {"SAMLET_TESTS_CACHE": cache}
        # Over a hundred processes would each compile samlet's modules again.
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        single = variables | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        napari = beside.submit(_run, ("tests/napari", *options), single, 19, shown_later)
        # Trainings that tests start give way to all other programs. With a priority that is hardly
        # higher, tests need not wait for them until everything else is done.
        statuses = (_run((*OTHERS, *options), variables, 17), napari.result())
        shown_later.seek(0)
        print("\nnapari:", flush=True)
        sys.stdout.buffer.write(shown_later.read())
    # With `-m`, one of them may have nothing to do.
    done = {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    return next((status for status in statuses if status not in done), 0)


def _run(
    arguments: tuple[str, ...],
    variables: dict[str, str],
    nice: int,
    output: IO[bytes] | None = None,
) -> int:
    command = (sys.executable, "-m", "pytest", *arguments)
    with subprocess.Popen(command, env=variables, stdout=output, stderr=output) as process:
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, process.pid, nice)
        # Ctrl-C reaches it, too, and it ends by itself.
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                continue
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
