"""The command line as a user meets it: real processes, real files, exit codes and sentences."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

import samlet
from samlet import samples
from samlet.cli.main import main
from samlet.engines import precision
from samlet.masks import deepest_point, from_label_map, from_rle, iou
from samlet.outputs import read_label_map

STAINED = samples.IMAGES / "stained_2.png"


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`samlet ARGUMENTS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from samlet.cli.main import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"} | environment,
        timeout=120,
    )


def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path
) -> tuple[int, str, str]:
    """The same without the cost of a process: exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["samlet", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main()
        raise SystemExit(0)
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture(scope="module")
def nucleus() -> tuple[tuple[int, int], np.ndarray]:
    labels = read_label_map(samples.LABELS / "stained_2.png")
    mask = max((m for _, m in from_label_map(labels)), key=np.count_nonzero)
    return deepest_point(mask), mask


def test_segment_writes_what_it_says(
    nucleus: tuple[tuple[int, int], np.ndarray], tmp_path: Path
) -> None:
    (x, y), truth = nucleus
    done = run("segment", STAINED, "--point", f"{x},{y}", "--out", tmp_path / "new" / "folder")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "new" / "folder"
    files = sorted(p.name for p in folder.iterdir())
    assert files == [f"stained_2.png.{s}" for s in
                     ("coco.json", "geojson", "labels.png", "overlay.png")]  # fmt: skip
    assert all(str(folder / name) in done.stdout for name in files)
    labels = read_label_map(folder / "stained_2.png.labels.png")
    assert iou(labels == 1, truth) > 0.5
    coco = COCO(folder / "stained_2.png.coco.json")
    annotation = coco.loadAnns(coco.getAnnIds())[0]
    assert np.array_equal(from_rle(annotation["segmentation"]), labels == 1)
    assert annotation["area"] == (labels == 1).sum()
    assert 0 < annotation["score"] <= 1
    polygons = json.loads((folder / "stained_2.png.geojson").read_text())
    assert polygons["features"][0]["geometry"]["type"].endswith("Polygon")
    overlay = np.asarray(Image.open(folder / "stained_2.png.overlay.png"))
    assert overlay.shape == np.asarray(Image.open(STAINED).convert("RGB")).shape


def test_more_prompts(
    nucleus: tuple[tuple[int, int], np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (x, y), truth = nucleus
    ys, xs = np.nonzero(truth)
    box = f"{xs.min()},{ys.min()},{xs.max() + 1},{ys.max() + 1}"
    code, out, _ = call(
        capsys, monkeypatch, "segment", STAINED, "--box", box, "--point", f"{x},{y}",
        "--negative", "2,2", "--out", tmp_path,
    )  # fmt: skip
    assert code == 0
    assert "predicted IoU" in out
    assert iou(read_label_map(tmp_path / "stained_2.png.labels.png") == 1, truth) > 0.5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["segment", "absent.png", "--point", "1,1"], "absent.png"),
        (["segment", "TEXT", "--point", "1,1"], "not an image|cannot"),
        (["segment", "CUT", "--point", "1,1"], "damaged|truncated|cut"),
        (["segment", "IMAGE", "--point", "9999,1"], "9999,1 lies outside the image"),
        (["segment", "IMAGE", "--box", "90,10,20,50"], "inside out"),
        (["segment", "IMAGE", "--point", "1;1"], "--point takes X,Y"),
        (["segment", "IMAGE", "--point", "1,x"], "--point takes X,Y"),
        (["segment", "IMAGE", "--box", "1,2,3"], "--box takes X1,Y1,X2,Y2"),
        (["segment", "s3://in/a.png", "--point", "1,1"], "s3://in/a.png is a URL, where"),
        (["segment", "IMAGE", "--point", "1,1", "--out", "m.png"], "name a folder, such as m."),
        (["everything", "IMAGE", "--out", "TEXT"], "is the name of a file, where a folder"),
        (["everything", "absent.png"], "absent.png does not exist"),
        (["segment", "absent", "--prompts", "TEXT"], "absent does not exist"),
        (["segment", f"{STAINED}/b.tif.z3", "--point", "1,1"], "2.png/b.tif does not exist"),
        (["finetune", "EMPTY", "--out", "m.safetensors"], "is the name of a file, where a folder"),
        (["segment", "IMAGE"], "Give a prompt"),
        (["segment", "IMAGE", "--negative", "1,1"], "Give a prompt"),
        (["segment", "IMAGE", "--point", "1,1", "--model", "nuclie"], "There is no model nuclie"),
        (["segment", "IMAGE", "--point", "1,1", "--model", "TEXT"], "cannot be read"),
        (["segment", "IMAGE", "--point", "1,1", "--max-pixels", "99"], "max-pixels"),
        (["segment", "IMAGE", "--point", "1,1", "--channels", "7"], "has no channel 7: choose 1"),
        (["segment", "IMAGE", "--point", "1,1", "--channels", "0,7,8"], "no channels 7 and 8: ch"),
        (["everything", "EMPTY", "--channels", "0,1,2,3"], "--channels takes one to three numbe"),
        (["segment", "IMAGE", "--point", "1,1", "--channels", "x"], "--channels takes one to"),
        (["segment", "IMAGE", "--point", "1,1", "--engine", "tensorrt"], "no engine tensorrt"),
        (["segment", "IMAGE", "--point", "1,1", "--precision", "half"], "no precision half"),
        (["everything", "EMPTY"], "holds no image"),
        (["everything", "IMAGE", "--tile", "100", "--overlap", "120"], "100 pixels cannot overlap"),
        (["everything", "IMAGE", "--prompts", "random"], "prompts must be proposals, distances"),
        (["everything", "IMAGE", "--prompts", "watershed"], "has no instance decoder"),
        (["everything", "IMAGE", "--foreground-threshold", "0.4"], "does not apply to prompts by"),
        (
            ["everything", "LIST", "--like", "IMAGE"],
            "list.txt is a list, and --like finds the labels",
        ),
        (["everything", "IMAGE", "--table", "https://in/t.csv"], "Results cannot be written to"),
        (["everything", "IMAGE", "--workers", "2"], "--workers is for --ray: add --ray auto"),
        (["everything", "LIST"], "list.txt is read as a list of images, and none of its lines"),
        (["everything", "IMAGE", "--table", "EMPTY"], "empty is a folder: give a file in it"),
        (["classify", "IMAGE", "IMAGE", "--table", "EMPTY"], "empty is a folder: give a file"),
        (["convert", "microscopy", "model.onnx"], "must end in"),
        (["convert", "TEXT", "model.pt"], "cannot be read"),
    ],
)
def test_mistakes_get_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import re

    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.png").write_bytes(STAINED.read_bytes()[:20000])
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("hello\n")
    places = {
        "IMAGE": STAINED,
        "TEXT": tmp_path / "text.png",
        "CUT": tmp_path / "cut.png",
        "EMPTY": tmp_path / "empty",
        "LIST": tmp_path / "list.txt",
    }
    given: list[str | Path] = [places.get(a, a) for a in arguments]
    if arguments[0] != "convert" and "--out" not in arguments:
        given += ["--out", tmp_path / "out"]
    code, out, err = call(capsys, monkeypatch, *given)
    assert code == 1
    assert err.startswith("Error: ")
    assert err.count("\n") == 1, err
    assert re.search(sentence, err), err
    assert "Traceback" not in out + err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_unwritable_folder_and_no_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    segment = ("segment", STAINED, "--point", "100,100", "--out")
    code, _, err = call(capsys, monkeypatch, *segment, tmp_path / "file" / "sub")
    assert code == 1
    assert "Cannot write" in err
    assert err.count("\n") == 1
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    code, _, err = call(capsys, monkeypatch, *segment, tmp_path / "out", "--model", "mobile_sam")
    assert code == 1
    assert "Cannot download mobile_sam" in err
    assert str(tmp_path / "cache" / "mobile_sam.pt") in err
    assert "Traceback" not in err


def test_everything_on_a_folder_skips_what_is_done(
    tmp_path: Path,
    nuclei_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "nested").mkdir(parents=True)
    crop = Image.open(STAINED).convert("RGB").crop((0, 0, 120, 100))
    crop.save(folder / "a.png")
    crop.rotate(90, expand=True).save(folder / "nested" / "a.png")
    (folder / "broken.png").write_bytes(STAINED.read_bytes()[:500])
    lenient = ("--pred-iou-thresh", "0.3", "--stability-score-thresh", "0.3")
    grid = ("--prompts", "grid", "--points-per-side")
    arguments = ("everything", folder, "--out", out, "--model", nuclei_file, *lenient, *grid, "6")
    code, told, err = call(capsys, monkeypatch, *arguments)
    assert code == 1
    assert "1 of 3 images failed" in err
    assert "broken.png" in err
    results = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.coco.json"))
    assert results == ["a.png.coco.json", "nested/a.png.coco.json"]
    labels = read_label_map(out / "nested" / "a.png.labels.png")
    assert labels.shape == (120, 100)
    assert labels.max() >= 1

    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.*")}
    (folder / "broken.png").unlink()
    code, told, err = call(capsys, monkeypatch, *arguments)
    assert code == 0
    assert "2 of 2 were finished before" in told
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.*")} == before
    code, told, _ = call(capsys, monkeypatch, *arguments[:-1], "5")
    assert "finished before" not in told


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def samlet_call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    return lambda *arguments: call(capsys, monkeypatch, *arguments)


FAST = (
    "--prompts", "grid", "--points-per-side", "3",
    "--pred-iou-thresh", "0", "--stability-score-thresh", "0",
)  # fmt: skip


def crop_of(name: str, path: Path, box: tuple[int, int, int, int] = (0, 0, 120, 100)) -> None:
    Image.open(samples.IMAGES / f"{name}.png").convert("RGB").crop(box).save(path)


def objects_in(coco: Path) -> int:
    return len(json.loads(coco.read_text())["annotations"])


def test_done_means_these_weights_and_this_file(
    tmp_path: Path, small_file: Path, samlet_call: Call
) -> None:
    """A decoder trained on under the same path leaves the encoder as it was."""
    image, model = tmp_path / "a.png", tmp_path / "model.safetensors"
    crop_of("stained_2", image)
    shutil.copy(small_file, model)
    arguments = ("everything", image, "--out", tmp_path / "out", "--model", model, *FAST)
    assert samlet_call(*arguments)[0] == 0
    assert "finished before" in samlet_call(*arguments)[1]
    trained = samlet.load(model)
    with torch.no_grad():
        trained.mask_decoder.iou_token.weight.add_(0.1)
    samlet.save(trained, model)
    assert "finished before" not in samlet_call(*arguments)[1]
    assert "finished before" in samlet_call(*arguments)[1]
    crop_of("stained_2", image, (100, 100, 220, 200))
    assert "finished before" not in samlet_call(*arguments)[1]
    assert "finished before" in samlet_call(*arguments)[1]


@pytest.mark.usefixtures("with_bfloat16")
def test_results_name_their_precision_and_done_means_the_same(
    tmp_path: Path, small_file: Path, samlet_call: Call
) -> None:
    image, coco = tmp_path / "a.png", tmp_path / "out" / "a.png.coco.json"
    crop_of("stained_2", image)
    arguments = ("everything", image, "--out", tmp_path / "out", "--model", small_file, *FAST)
    assert samlet_call(*arguments)[0] == 0
    written = json.loads(coco.read_text())
    assert written["info"]["samlet"].pop("precision") == "float32"
    # Results of before the precision could be chosen.
    coco.write_text(json.dumps(written))
    assert "finished before" in samlet_call(*arguments)[1]
    assert "finished before" not in samlet_call(*arguments, "--precision", "bfloat16")[1]
    assert json.loads(coco.read_text())["info"]["samlet"]["precision"] == "bfloat16"
    assert "finished before" in samlet_call(*arguments, "--precision", "bfloat16")[1]
    segment = ("segment", image, "--box", "10,10,90,90", "--out", tmp_path / "out", "--add")
    assert samlet_call(*segment, "--model", small_file)[0] == 0
    (prompted,) = json.loads(coco.read_text())["info"]["samlet"]["prompts"]
    assert prompted["precision"] == "float32"


@pytest.mark.usefixtures("with_bfloat16")
def test_auto_names_bfloat16_in_one_line(
    tmp_path: Path, small_file: Path, samlet_call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAMLET_PRECISION")
    precision._log_choice.cache_clear()
    segment = ("segment", STAINED, "--box", "10,10,90,90", "--model", small_file)
    _, out, err = samlet_call(*segment, "--out", tmp_path / "a")
    assert "encoded" not in out
    assert err.startswith("Images are encoded in bfloat16") and err.count("\n") == 1
    precision._log_choice.cache_clear()
    chosen = ("--precision", "float32", "--out", tmp_path / "b")
    assert samlet_call(*segment, *chosen)[2] == ""


@pytest.mark.parametrize("place", ["results", ".", "..", "link"])
def test_its_own_results_are_no_images(
    tmp_path: Path, small_file: Path, samlet_call: Call, place: str
) -> None:
    folder = tmp_path / "in" / "images"
    folder.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("a.png", "b.PNG"):
        crop_of("stained_2", folder / name)
    arguments = ("everything", folder, "--out", folder / place, "--model", small_file, *FAST)
    for _ in range(3):
        code, told, err = samlet_call(*arguments)
        assert code == 0, err
    assert "2 of 2 were finished before" in told
    assert len(list(tmp_path.rglob("*.coco.json"))) == 2
    # Nor are those of another run, wherever they lie.
    elsewhere = ("everything", folder, "--out", tmp_path / "new", "--model", small_file, *FAST)
    samlet_call(*elsewhere)
    assert sorted(p.name for p in (tmp_path / "new").rglob("*.coco.json")) == [
        "a.png.coco.json", "b.PNG.coco.json",
    ]  # fmt: skip


def test_an_object_is_added_and_nothing_is_lost(
    nucleus: tuple[tuple[int, int], np.ndarray],
    tmp_path: Path,
    nuclei_file: Path,
    samlet_call: Call,
) -> None:
    (x, y), _ = nucleus
    where = ("--out", tmp_path, "--model", nuclei_file)
    everything, coco = (
        ("everything", STAINED, *where, *FAST),
        tmp_path / f"{STAINED.name}.coco.json",
    )
    segment = ("segment", STAINED, "--point", f"{x},{y}", *where)
    assert samlet_call(*everything)[0] == 0
    found = objects_in(coco)
    assert found > 1
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code, _, err = samlet_call(*segment)
    assert code == 1 and f"has {found} objects of {STAINED.name} already" in err
    assert "--add" in err and "--replace" in err
    assert "not both" in samlet_call(*segment, "--add", "--replace")[2]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    assert samlet_call(*segment, "--add")[0] == 0
    assert objects_in(coco) == found + 1
    old = json.loads(before[coco])["annotations"]
    assert json.loads(coco.read_text())["annotations"][:-1] == old
    labels = read_label_map(tmp_path / f"{STAINED.name}.labels.png")
    # Asked for, it lies on top of what everything mode has found.
    mask = from_rle(json.loads(coco.read_text())["annotations"][-1]["segmentation"])
    assert (labels[mask] == found + 1).all()

    assert "finished before" in samlet_call(*everything)[1]
    code, told, _ = samlet_call(*everything, "--min-area", "5")
    assert code == 0 and "Kept, since they hold objects from `samlet segment`" in told
    assert objects_in(coco) == found + 1
    assert samlet_call(*everything, "--min-area", "5", "--replace")[0] == 0
    assert "prompts" not in json.loads(coco.read_text())["info"]["samlet"]
    assert samlet_call(*segment, "--replace")[0] == 0
    assert objects_in(coco) == 1


def test_no_object_is_added_to_another_image(
    tmp_path: Path, small_file: Path, samlet_call: Call
) -> None:
    image = tmp_path / "a.png"
    crop_of("stained_2", image)
    arguments = ("segment", image, "--point", "60,50", "--out", tmp_path, "--model", small_file)
    assert samlet_call(*arguments)[0] == 0
    crop_of("stained_2", image, (100, 100, 220, 200))
    code, _, err = samlet_call(*arguments, "--add")
    assert code == 1 and "has changed since" in err


def test_everything_in_tiles(
    tmp_path: Path,
    nuclei_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Image.open(STAINED).convert("RGB").crop((0, 0, 150, 90)).save(tmp_path / "a.png")
    which = (tmp_path / "a.png", "--out", tmp_path / "out", "--model", nuclei_file)
    arguments = ("everything", *which, *FAST, "--tile")
    code, _, err = call(capsys, monkeypatch, *arguments, "90", "--overlap", "30")
    assert code == 0, err
    written = json.loads((tmp_path / "out" / "a.png.coco.json").read_text())
    settings = written["info"]["samlet"]["settings"]
    assert (settings["tile"], settings["overlap"]) == (90, 30)
    labels = read_label_map(tmp_path / "out" / "a.png.labels.png")
    assert labels.shape == (90, 150)
    assert {a["segmentation"]["size"][1] for a in written["annotations"]} == {150}
    assert "finished before" in call(capsys, monkeypatch, *arguments, "90", "--overlap", "30")[1]
    assert "finished before" not in call(capsys, monkeypatch, *arguments, "150")[1]


def test_everything_like_examples(
    nuclei_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    labels = read_label_map(samples.LABELS / "stained_2.png")[:128, :128]
    largest = np.argsort(-np.bincount(labels.ravel())[1:])[:2] + 1
    examples = np.where(np.isin(labels, largest), labels, 0).astype(np.uint16)
    pixels = np.asarray(Image.open(STAINED))[:128, :128]
    for name in ("a", "b"):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
    Image.fromarray(examples).save(tmp_path / "labels" / "a.png")
    every = partial(call, capsys, monkeypatch, "everything")
    arguments: list[str | Path] = ["--model", nuclei_file, "--likeness", "0.2"]
    # The coarse masks of a small input would not pass the card's.
    arguments += ["--pred-iou-thresh", "0.3", "--stability-score-thresh", "0.3"]
    code, out, _ = every(
        tmp_path / "images", "--like", tmp_path / "labels", "--out", tmp_path / "all", *arguments
    )
    assert code == 0 and "1 of 2 have no labels: left out." in out
    assert not (tmp_path / "all" / "b.png.coco.json").exists()
    code, _, _ = every(
        tmp_path / "images" / "a.png", "--like", tmp_path / "labels" / "a.png",
        "--out", tmp_path / "one", *arguments,
    )  # fmt: skip
    assert code == 0
    folder, single = (
        json.loads((tmp_path / out / "a.png.coco.json").read_text())["annotations"]
        for out in ("all", "one")
    )
    assert folder == single and len(single) > 2
    # The examples come first, as they are.
    found = read_label_map(tmp_path / "one" / "a.png.labels.png")
    for number, label in enumerate(np.unique(examples)[1:], start=1):
        assert np.array_equal(found == number, examples == label)
    likeness = [one["likeness"] for one in single]
    assert likeness[:2] == [1, 1] and min(likeness) >= 0.2
    # Other examples are other work, and the same are done.
    again: list[str | Path]
    again = [tmp_path / "images" / "a.png", "--out", tmp_path / "one", *arguments, "--like"]
    assert "1 of 1 were finished before" in every(*again, tmp_path / "labels" / "a.png")[1]
    Image.fromarray(np.where(examples == largest[0], examples, 0)).save(tmp_path / "other.png")
    assert "finished before" not in every(*again, tmp_path / "other.png")[1]


def test_what_does_not_go_with_like_is_refused(
    nuclei_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = partial(call, capsys, monkeypatch, "everything", STAINED, "--out", tmp_path / "out")
    model: list[str | Path] = ["--model", nuclei_file]
    code, _, err = every("--likeness", "0.5")
    assert code == 1 and "--likeness needs examples" in err
    labels = samples.LABELS / "stained_2.png"
    code, _, err = every(*model, "--like", labels, "--points-per-side", "8")
    assert code == 1 and "leave out prompts and settings of points" in err
    Image.fromarray(np.zeros((256, 320), np.uint8)).save(tmp_path / "empty.png")
    code, _, err = every(*model, "--like", tmp_path / "empty.png")
    assert code == 1 and "has no object in" in err
    Image.fromarray(np.ones((5, 5), np.uint8)).save(tmp_path / "small.png")
    code, _, err = every(*model, "--like", tmp_path / "small.png")
    assert code == 1 and "5 x 5" in err


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_everything_survives_a_stop(
    how: signal.Signals, tmp_path: Path, nuclei_file: Path, samlet_call: Call
) -> None:
    """Stopped in the middle, it leaves no half-written file, and goes on when run again."""
    folder, out = tmp_path / "in [1]", tmp_path / "out"
    folder.mkdir()
    crop = Image.open(STAINED).convert("RGB").crop((0, 0, 120, 100))
    for i in range(6):
        crop.save(folder / f"{i}.png")
    arguments = ["everything", str(folder), "--out", str(out), "--model", str(nuclei_file)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from samlet.cli.main import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 90
    while not (out / "0.png.coco.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    told, _ = process.communicate()
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert ("Stopped; the same command goes on" in told) is (how == signal.SIGINT)
    assert (out / "0.png.coco.json").exists()
    for path in out.glob("*.coco.json"):
        json.loads(path.read_text())
    code, told, err = samlet_call(*arguments)
    assert code == 0, err
    assert "finished before" in told
    assert len(list(out.glob("*.coco.json"))) == 6


def test_convert(tmp_path: Path, small_file: Path, samlet_call: Call) -> None:
    official, back = tmp_path / "small.pt", tmp_path / "back.safetensors"
    assert samlet_call("convert", small_file, official)[0] == 0
    assert samlet_call("convert", official, back)[0] == 0
    assert back.stat().st_size > 1e6


def test_help_is_quick_to_say_what_there_is() -> None:
    from samlet.cli.main import app

    told = CliRunner().invoke(app, ["--help"]).stdout
    for command in ("segment", "everything", "demo", "models", "convert"):
        assert command in told
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, samlet.cli.main; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
    )
    assert loaded.stdout.strip() == "False"
