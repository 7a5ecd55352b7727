"""Mistakes on the command line: each gives one sentence before anything is served."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from samlet_labelstudio.cli import main


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "nope"], "There is no model nope: choose one of microscopy, "),
        (["--precision", "half"], "There is no precision half: choose one of auto, float32, "),
        (["--label-studio-url", "localhost:8080"], "give it as http://host:port"),
        (["preannotate"], "Say what to pre-annotate: --project N, or --images FOLDER."),
        (["preannotate", "--project", "1", "--images", "."], "--project N, or --images FOLDER"),
        (["preannotate", "--images", "nowhere"], "nowhere is not a folder"),
        (["preannotate", "--images", ".", "--labels", "a,a"], "Give different labels"),
        (["init-project"], "Label Studio's address and an API key are needed"),
        (["versions", "--project", "1", "--use", "x"], "Project 1 has no version x"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SAMLET_FOLDER", str(tmp_path))
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    # In this process: starting one for each takes seconds.
    monkeypatch.setattr(sys, "argv", ["samlet-labelstudio", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capfd.readouterr()
    assert ended.value.code == 1 and output.out == ""
    assert output.err.startswith("Error: ") and output.err.count("\n") == 1
    assert sentence in output.err


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code = "from samlet_labelstudio.cli import main; main()"
        command = [sys.executable, "-c", code, "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr and "choose another with --port" in done.stderr
