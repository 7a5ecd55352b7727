"""`samlet measure` and `samlet everything --table`, and the pixel sizes that files tell."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.measure import regionprops
from typer.testing import CliRunner

import samlet
from samlet import samples
from samlet.cli.main import app
from samlet.measurements import PixelSize, read_pixel_size
from samlet.modeling.sam import Sam
from samlet.outputs import read_label_map, write_label_map

RUNNER = CliRunner()
PLANE = np.zeros((20, 30), np.uint16)


def run(*words: object) -> str:
    result = RUNNER.invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_pixel_sizes_are_read_where_they_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    written: list[tuple[dict, PixelSize | None]] = [
        (
            {"ome": True, "metadata": {"PhysicalSizeX": 0.25, "PhysicalSizeY": 500,
             "PhysicalSizeYUnit": "nm", "axes": "YX"}},
            PixelSize(0.5, 0.25),
        ),
        ({"ome": True}, None),
        ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "um"}}, PixelSize(0.5, 0.25)),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "\\u00B5m"}},
         PixelSize(0.25, 0.25)),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "pixel"}}, None),
        ({"imagej": True}, None),
        ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, PixelSize(0.5, 0.5)),
        # For printing.
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (2, 2), "resolutionunit": "NONE"}, None),
        ({}, None),
    ]  # fmt: skip
    for options, expected in written:
        tifffile.imwrite(path, PLANE, **options)
        size = read_pixel_size(path)
        assert size == (expected and pytest.approx(expected)), options
    Image.fromarray(PLANE).save(tmp_path / "a.png", dpi=(50_000, 50_000))
    assert read_pixel_size(tmp_path / "a.png") is None
    with pytest.raises(samlet.UserError, match="does not exist"):
        read_pixel_size(tmp_path / "missing.tif")


def test_a_table_of_a_sample(tmp_path: Path) -> None:
    image = samples.IMAGES / "stained_1.png"
    labels = samples.LABELS / "stained_1.png"
    out = run("measure", labels, image, "--table", tmp_path / "t.csv")
    rows = table(tmp_path / "t.csv")
    regions = regionprops(read_label_map(labels), np.asarray(Image.open(image))[..., :3])
    assert f"{len(regions)} objects of 1 label map" in out
    assert len(rows) == len(regions) > 5
    for row, region in zip(rows, regions, strict=True):
        assert row["image"] == "stained_1.png" and int(row["label"]) == region.label
        assert int(row["area_px"]) == region.area
        assert float(row["mean_1"]) == pytest.approx(region.intensity_mean[1])
        assert float(row["solidity"]) == pytest.approx(region.solidity)
    printed = RUNNER.invoke(app, ["measure", str(labels), str(image)]).stdout
    assert list(csv.DictReader(printed.splitlines())) == rows
    run("measure", labels, "--table", tmp_path / "t.csv", "--pixel-size", "0.5")
    (first, *_) = table(tmp_path / "t.csv")
    assert float(first["area_um2"]) == regions[0].area / 4 and "mean_1" not in first


def test_folders_are_paired_by_name(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    for folder in (images, labels):
        folder.mkdir()
    marked = PLANE.copy()
    marked[3:6, 4:9] = 3
    tifffile.imwrite(images / "a.tif", PLANE + 7, resolution=(4, 4), imagej=True,
                     metadata={"unit": "um"})  # fmt: skip
    tifffile.imwrite(images / "b.tif", np.stack([PLANE, PLANE + 1]), metadata={"axes": "CYX"})
    tifffile.imwrite(images / "c.tif", PLANE[:5])
    write_label_map(labels / "a_masks.png", marked)
    write_label_map(labels / "b.tif.labels.tif", marked)
    result = RUNNER.invoke(
        app, ["measure", str(labels), str(images), "--table", str(tmp_path / "t.csv")]
    )
    assert result.exit_code == 0, result.output
    first, second = table(tmp_path / "t.csv")
    assert (first["image"], first["mean"], first["mean_1"]) == ("a.tif", "7.0", "")
    assert float(first["area_um2"]) == pytest.approx(15 / 16)
    assert (second["image"], second["mean_0"], second["mean_1"]) == ("b.tif", "0.0", "1.0")
    assert second["area_um2"] == ""
    # One that does not fit is named, and costs nothing of the others.
    write_label_map(labels / "c.png", marked)
    result = RUNNER.invoke(
        app, ["measure", str(labels), str(images), "--table", str(tmp_path / "t.csv")]
    )
    assert "1 of 3 label maps failed" in str(result.exception)
    assert "is for 20 x 30 pixels" in str(result.exception)
    assert len(table(tmp_path / "t.csv")) == 2
    # Without images, the shapes alone.
    run("measure", labels, "--table", tmp_path / "t.csv")
    assert [row["image"] for row in table(tmp_path / "t.csv")] == ["b.tif.labels.tif"]


def test_mistakes_are_told_in_a_sentence(tmp_path: Path) -> None:
    labels = samples.LABELS / "stained_1.png"
    (tmp_path / "empty").mkdir()
    for words, told in (
        ([labels, tmp_path], "both be files, or both folders"),
        ([tmp_path, tmp_path / "nowhere"], "nowhere does not exist: check the path"),
        ([tmp_path / "empty"], "has no label maps"),
        ([tmp_path / "empty", samples.IMAGES], "with the name of an image in"),
        ([labels, "--pixel-size", "0"], "--pixel-size takes micrometres"),
        ([samples.IMAGES / "stained_1.png"], "is no label map"),
        ([tmp_path / "missing.png"], "does not exist"),
    ):
        table_file = tmp_path / "t.csv"
        result = RUNNER.invoke(app, ["measure", *map(str, words), "--table", str(table_file)])
        assert isinstance(result.exception, samlet.UserError), words
        assert told in str(result.exception) and "\n" not in str(result.exception)
        assert not table_file.exists()


def test_segment_measures_the_objects_of_the_image(tmp_path: Path, small_model: Sam) -> None:
    model, image = tmp_path / "small.safetensors", samples.IMAGES / "fluorescence_1.png"
    samlet.save(small_model, model)
    command = ["segment", image, "--out", tmp_path, "--model", model]
    command += ["--table", tmp_path / "t.csv"]
    run(*command, "--box", "20,30,120,130")
    run(*command, "--box", "220,30,320,130", "--add")
    labels = read_label_map(tmp_path / f"{image.name}.labels.png")
    rows = table(tmp_path / "t.csv")
    assert [int(row["label"]) for row in rows] == [1, 2]
    assert [int(row["area_px"]) for row in rows] == [(labels == i).sum() for i in (1, 2)]


def test_everything_measures_what_it_finds(small_model: Sam, tmp_path: Path) -> None:
    model = tmp_path / "small.safetensors"
    samlet.save(small_model, model)
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for name in ("a", "b"):
        piece = Image.open(samples.IMAGES / "fluorescence_1.png").crop((0, 0, 60, 50))
        piece.save(images / f"{name}.png")
    tifffile.imwrite(images / "stack.tif", np.stack([PLANE, PLANE]), metadata={"axes": "ZYX"})
    command = ["everything", images, "--out", out, "--model", model, "--points-per-side", "2"]
    command += ["--pred-iou-thresh", "0", "--stability-score-thresh", "0"]
    command += ["--table", tmp_path / "t.csv"]
    told = run(*command)
    label_maps = {
        "a.png": "a.png.labels.png",
        "b.png": "b.png.labels.png",
        "stack.tif.z0": "stack.tif.labels.tif.z0",
        "stack.tif.z1": "stack.tif.labels.tif.z1",
    }
    expected = [
        (name, str(number))
        for name, labels in label_maps.items()
        for number in np.unique(read_label_map(out / labels))
        if number
    ]
    assert {name for name, _ in expected} == {*label_maps}
    assert [(row["image"], row["label"]) for row in table(tmp_path / "t.csv")] == expected
    assert "Left out" not in told
    # Finished images are measured again with the rest.
    (tmp_path / "t.csv").unlink()
    assert "were finished before" in run(*command)
    assert [(row["image"], row["label"]) for row in table(tmp_path / "t.csv")] == expected
