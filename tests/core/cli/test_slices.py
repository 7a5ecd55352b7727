"""Slices of stacks, series and channels in every command, and in training data."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from samlet import images, samples
from samlet.cli.main import app
from samlet.datasets import find_labelled_images
from samlet.datasets.checking import check_labels
from samlet.datasets.examples import LabelledDataset
from samlet.errors import UserError
from samlet.images import SliceChoice
from samlet.outputs import read_label_map
from samlet.training.distillation.sources import open_source
from tests.microscope_files import write_zarr

Run = Callable[..., str]
CELLS = images.read(samples.IMAGES / "fluorescence_1.png")[:120, :160, 0]
LABELS = read_label_map(samples.LABELS / "fluorescence_1.png")[:120, :160]


def moved(plane: np.ndarray) -> np.ndarray:
    """Two channels, two time points and three depths, 16 bits; all planes differ."""
    planes = [np.roll(plane.astype(np.uint16) * 200 + n, n, axis=1) for n in range(12)]
    return np.stack(planes).reshape(2, 2, 3, *plane.shape)


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    folder = tmp_path / "stacks"
    folder.mkdir()
    values = moved(CELLS)
    write_zarr(folder / "film.zarr", values)
    tifffile.imwrite(folder / "deep.tif", values[0, 0], imagej=True, metadata={"axes": "ZYX"})
    return folder


@pytest.fixture
def run(small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))

    def invoke(*arguments: Any) -> str:
        done = CliRunner().invoke(app, [*map(str, arguments), "--model", str(small_file)])
        if isinstance(done.exception, UserError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return invoke


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_an_object_in_a_slice(run: Run, stacks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    box = ("--box", "10,10,50,40", "--out", out)
    with pytest.raises(UserError, match=r"deep\.tif is a stack .* choose a slice with --slice"):
        run("segment", stacks / "deep.tif", *box)
    with pytest.raises(UserError, match=r"deep\.tif has no slice z=3, counted from 0"):
        run("segment", stacks / "deep.tif", "--slice", "3", *box)
    with pytest.raises(UserError, match="slices along time and z: say which one"):
        run("segment", stacks / "film.zarr", "--slice", "3", *box)
    told = run("segment", stacks / "deep.tif", "--slice", "2", *box, "--table", tmp_path / "t.csv")
    assert "deep.tif.z2.labels.png" in told
    # The same slice by its path, which is found and not replaced.
    with pytest.raises(UserError, match=r"has 1 object of deep\.tif\.z2 already"):
        run("segment", stacks / "deep.tif.z2", *box)
    assert {row["image"] for row in rows_of(tmp_path / "t.csv")} == {"deep.tif.z2"}
    run("segment", stacks / "film.zarr", "--slice", "t=1,z=0", "--channels", "1", *box)
    assert read_label_map(out / "film.zarr.t1.z0.labels.png").shape == CELLS.shape


def test_prompts_in_many_slices(run: Run, stacks: Path, tmp_path: Path) -> None:
    file = tmp_path / "boxes.csv"
    lines = ["image,object,x1,y1,x2,y2"]
    lines += [f"{name},1,10,10,50,40" for name in ("deep.tif.z0", "deep.tif.z2")]
    file.write_text("\n".join(lines))
    run("segment", stacks, "--prompts", file, "--out", tmp_path / "out", "--channels", "0")
    names = sorted(path.name for path in (tmp_path / "out").glob("*.labels.png"))
    assert names == ["deep.tif.z0.labels.png", "deep.tif.z2.labels.png"]
    file.write_text("\n".join([*lines, "deep.tif.z9,1,10,10,50,40"]))
    with pytest.raises(UserError, match=r"deep\.tif\.z9, which is not below"):
        run("segment", stacks, "--prompts", file, "--out", tmp_path / "out", "--channels", "0")


def test_all_slices_are_encoded(run: Run, stacks: Path) -> None:
    assert "3 images encoded" in run("encode", stacks / "deep.tif")
    assert "6 images encoded, 0 were" in run("encode", stacks / "film.zarr", "--channels", "1")
    told = run("encode", stacks / "film.zarr", "--channels", "1", "--slice", "z=1-2")
    assert "0 images encoded, 4 were" in told
    with pytest.raises(UserError, match=r"^\S*deep\.tif has no slice z=7"):
        run("encode", stacks / "deep.tif", "--slice", "2-7")


def test_everything_in_time_and_depth(run: Run, stacks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--out", out, "--points-per-side", "1", "--channels", "0")
    told = run("everything", stacks / "film.zarr", *options)
    assert "film.zarr.t0: " in told and "film.zarr.t1: " in told
    assert tifffile.imread(out / "film.zarr.t1.labels.tif").shape == (3, *CELLS.shape)
    told = run("everything", stacks / "film.zarr", *options, "--axis", "time", "--slice", "z=1")
    assert "in 2 slices along time" in told and "film.zarr.z1" in told
    told = run("everything", stacks / "deep.tif", *options, "--slice", "1-2")
    assert tifffile.imread(out / "deep.tif.z1-2.labels.tif").shape == (2, *CELLS.shape)
    run("everything", stacks / "deep.tif", *options, "--slice", "1")
    assert (out / "deep.tif.z1.coco.json").exists()


def test_label_stacks_are_measured_and_classified(run: Run, stacks: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    values = moved(LABELS)[0, 0] // 200
    tifffile.imwrite(labels / "deep_masks.tif", values, photometric="minisblack")
    table = tmp_path / "table.csv"
    done = CliRunner().invoke(app, ["measure", str(labels), str(stacks), "--table", str(table)])
    assert done.exit_code == 0, done.output
    rows = rows_of(table)
    for number, (plane, image) in enumerate(zip(values, moved(CELLS)[0, 0], strict=True)):
        own = [row for row in rows if row["image"] == f"deep.tif.z{number}"]
        assert [int(row["label"]) for row in own] == np.unique(plane)[1:].tolist()
        for row in own:
            mask = plane == int(row["label"])
            assert int(row["area_px"]) == mask.sum()
            assert float(row["mean"]) == pytest.approx(image[mask].mean(), rel=1e-6)
    first, second = np.unique(values[1])[1:3].tolist()
    classes = tmp_path / "classes.csv"
    classes.write_text(
        f"image,label,class\ndeep.tif.z1,{first},big\ndeep.tif.z1,{second},small\n", "utf-8"
    )
    command = ("classify", labels, stacks, "--classes", classes, "--out", tmp_path / "out")
    run(*command, "--table", table)
    assert {row["image"] for row in rows_of(table)} == {f"deep.tif.z{n}" for n in range(3)}
    tifffile.imwrite(labels / "deep_masks.tif", values[:2], photometric="minisblack")
    with pytest.raises(UserError, match=r"has 2 slices along z, and .* has 3 slices along z"):
        run(*command)


def test_training_data(stacks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    values = moved(LABELS)[0, :] // 200
    values[1, 2] = 0
    axes = {"axes": "TZYX"}
    tifffile.imwrite(labels / "film.tif", values, metadata=axes, photometric="minisblack")
    tifffile.imwrite(labels / "deep.z1.tif", values[0, 1])
    found = find_labelled_images(stacks, labels, channels=[1])
    names = [f"film.zarr.t{t}.z{z}" for t in range(2) for z in range(3)]
    assert [item.path.name for item in found] == ["deep.tif.z1", *names]
    # The slice in which nothing is labelled is left out; deep.tif has no second channel.
    checked = check_labels(found)
    assert [item.path.name for item in checked.usable] == names[:-1]
    assert any("1 slice without objects in a label stack" in text for text in checked.messages())
    for example, (t, z) in zip(LabelledDataset(checked.usable), np.ndindex(2, 3), strict=False):
        assert example.name == f"film.t{t}.z{z}"
        np.testing.assert_array_equal(example.labels[0], values[t, z])
        shown = images.read(stacks / f"film.zarr.t{t}.z{z}", channels=[1])
        np.testing.assert_array_equal(example.image, shown)
    chosen = find_labelled_images(stacks, labels, slices=SliceChoice.parse("t=1,z=0-1"))
    assert [item.path.name for item in chosen] == ["film.zarr.t1.z0", "film.zarr.t1.z1"]
    source = open_source(str(stacks), channels=[1], slices=SliceChoice.parse("z=1"))
    items = {item.key: item for item in source.once()}
    assert [*items] == ["deep.tif.z1", "film.zarr.t0.z1", "film.zarr.t1.z1"]
    decoded = images.read("a", content=items["film.zarr.t1.z1"].read())
    np.testing.assert_array_equal(decoded, images.read(stacks / "film.zarr.t1.z1", channels=[1]))
    with pytest.raises(UserError, match="no channel 1:"):
        items["deep.tif.z1"].read()


@pytest.mark.parametrize("text", ["x", "-1", "3-", "z3", "z=1,z=2", "1,2", "7-3", ""])
def test_what_is_no_choice(text: str) -> None:
    with pytest.raises(UserError, match="--slice"):
        SliceChoice.parse(text)
    with pytest.raises(UserError, match="--series takes a number counted from 0, or all"):
        SliceChoice.parse(None, "first")


def test_examples_in_slices(run: Run, stacks: Path, tmp_path: Path) -> None:
    values = moved(LABELS)[0, 0] // 200
    values[0] = 0
    values[1:][values[1:] != np.unique(values[1])[1]] = 0
    labels = tmp_path / "examples.tif"
    tifffile.imwrite(labels, values, photometric="minisblack")
    out = tmp_path / "out"
    command = ("everything", stacks / "deep.tif", "--like", labels, "--out", out)
    assert "1 of 3 have no labels: left out" in run(*command, "--likeness", "1")
    for number in (1, 2):
        found = read_label_map(out / f"deep.tif.z{number}.labels.png")
        # The example comes first.
        np.testing.assert_array_equal(found == 1, values[number] > 0)
