"""Mistakes on the command line: each gives one sentence before anything is served."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from samlet import samples
from samlet.datasets.label_studio import brush_rle
from samlet_labelstudio.cli import main
from samlet_labelstudio.label_studio import labeling_config

PROGRAM = [sys.executable, "-c", "from samlet_labelstudio.cli import main; main()"]


def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, timeout=120, cwd=folder, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "nope"], "There is no model nope: choose one of nuclei, "),
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
        done = run("--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "Address already in use" in done.stderr and "choose another with --port" in done.stderr


def test_a_folder_is_pre_annotated_without_a_server(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    name = "fluorescence_2.png"
    (images / name).write_bytes((samples.IMAGES / name).read_bytes())
    (images / "broken.png").write_bytes(b"no image")
    given = ["preannotate", "--images", "images", "--labels", "cell,debris", "--out", "out.json"]
    done = run(*given, folder=tmp_path)
    assert done.returncode == 1 and "Skipped: " in done.stdout and "broken.png" in done.stdout
    (task,) = json.loads((tmp_path / "out.json").read_text())
    assert task["data"]["image"] == f"/data/local-files/?d={name}"
    results = task["predictions"][0]["result"]
    assert len(results) > 10
    for result in results:
        size = (result["original_height"], result["original_width"])
        assert brush_rle.decode(bytes(result["value"]["rle"]), size).any()
        assert result["value"]["brushlabels"] == ["cell"]
    config = labeling_config.parse((tmp_path / "out.xml").read_text())
    control = config.result_control("image", "debris")
    assert control is not None and control.name == results[0]["from_name"]
    assert not list(tmp_path.glob("*.part"))
