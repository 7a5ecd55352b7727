"""The whole suite: napari's tests in a process of their own, beside all others.

    python -m tests.run_all [PYTEST'S OPTIONS]

A Qt window must not share a process with servers. Both runs compete for the processors, so that
none is idle while a server starts or one of them is done early.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import suppress

import pytest

OTHERS = ("-n", "2", "-p", "no:napari", "tests", "--ignore", "tests/napari")
NAPARI = ("tests/napari",)


def main(options: list[str]) -> int:
    """Run all, show napari's results last, and give the exit status of the first that failed."""
    # Trainings that tests start give way to all other programs. With the lowest priority for the
    # tests, too, they need not wait until everything else is done.
    if hasattr(os, "nice"):
        os.nice(19)
    with (
        tempfile.TemporaryDirectory(prefix="samlet-tests-") as cache,
        tempfile.TemporaryFile() as shown_later,
    ):
        variables = os.environ | {"SAMLET_TESTS_CACHE": cache}
        single = variables | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = (sys.executable, "-m", "pytest")
        napari = subprocess.Popen(
            [*command, *NAPARI, *options],
            env=single,
            stdout=shown_later,
            stderr=subprocess.STDOUT,
        )
        others = subprocess.Popen([*command, *OTHERS, *options], env=variables)
        statuses = []
        for process in (others, napari):
            # Ctrl-C reaches both of them, too, and they end by themselves.
            while process.poll() is None:
                with suppress(KeyboardInterrupt):
                    process.wait()
            statuses.append(process.returncode)
        shown_later.seek(0)
        print("\nnapari:", flush=True)
        sys.stdout.buffer.write(shown_later.read())
    # With `-m`, one of them may have nothing to do.
    done = {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    return next((status for status in statuses if status not in done), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
