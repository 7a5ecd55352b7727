"""How threads of PyTorch wait for each other, which other programs notice."""

import os
import subprocess
import sys

import pytest

CODE = """
import samlet, sys
assert "torch" not in sys.modules
import torch
torch.set_num_threads(2)
torch.ones(512, 512) @ torch.ones(512, 512)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "GOMP_SPINCOUNT = '10000'"),
        ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT = '7'"),
        ({"OMP_WAIT_POLICY": "active"}, "OMP_WAIT_POLICY = 'ACTIVE'"),
    ],
)
def test_they_wait_for_a_short_time_unless_the_user_wants_another(
    given: dict[str, str], wanted: str
) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    variables = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=variables | given | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert wanted in done.stderr
    assert ("GOMP_SPINCOUNT = '10000'" in done.stderr) is (not given)
