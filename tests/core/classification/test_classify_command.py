"""`samlet classify`: from a file of classes, and from labels that carry them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import samlet
from samlet import samples
from samlet.cli.main import app
from samlet.masks import from_label_map, to_rle
from samlet.outputs import read_label_map, write_coco
from samlet.outputs.results import read_results, write_results

RUNNER = CliRunner()
NAME = "fluorescence_1.png"
LABELS = samples.LABELS / NAME
NUMBERS = (2, 12, 14, 15, 17, 22, 27, 29)


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of two images, in which large numbers are kept, and half is bright."""
    folder = tmp_path_factory.mktemp("cropped")
    labels, pixels = read_label_map(LABELS), np.asarray(Image.open(samples.IMAGES / NAME))[..., 0]
    for name, part in (("a", np.s_[:260, :348]), ("b", np.s_[260:, :348])):
        own = labels[part].copy()
        for kind in ("images", "labels"):
            (folder / kind).mkdir(exist_ok=True)
        dark = np.where(own % 2 == 0, pixels[part] // 3, pixels[part])
        Image.fromarray(dark).save(folder / "images" / f"{name}.png")
        Image.fromarray(own).save(folder / "labels" / f"{name}.png")
    return folder


def run(*words: object) -> str:
    result = RUNNER.invoke(app, ["classify", *map(str, words)])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


def fail(*words: object) -> str:
    result = RUNNER.invoke(app, ["classify", *map(str, words)])
    assert isinstance(result.exception, samlet.UserError), result.output + str(result.exception)
    return str(result.exception)


def numbers_of(folder: Path, name: str) -> list[int]:
    labels = read_label_map(folder / "labels" / f"{name}.png")
    return [number for number, _ in from_label_map(labels)]


def kind(number: int) -> str:
    return "dark" if number % 2 == 0 else "bright"


def write_examples(folder: Path, path: Path, each: int = 3) -> None:
    """A file with the class of some objects of each image."""
    lines = ["image;label;class"]
    for name in ("a", "b"):
        numbers = numbers_of(folder, name)
        for parity in (0, 1):
            chosen = [number for number in numbers if number % 2 == parity][:each]
            lines += [f"images/{name}.png;{number};{kind(number)}" for number in chosen]
    path.write_text("\n".join(lines), encoding="utf-8-sig")


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_classes_from_a_table_in_a_folder(cropped: Path, nuclei_file: Path, tmp_path: Path) -> None:
    write_examples(cropped, tmp_path / "classes.csv")
    words = [cropped / "labels", cropped / "images", "--out", tmp_path / "out"]
    words += ["--model", nuclei_file, "--also", "yolo"]
    told = run(*words, "--classes", tmp_path / "classes.csv", "--table", tmp_path / "t.csv")
    rows = read_table(tmp_path / "t.csv")
    both = [numbers_of(cropped, name) for name in ("a", "b")]
    assert [int(row["label"]) for row in rows] == [*both[0], *both[1]]
    assert f"{len(rows)} objects of 2 images" in told and "learned from 12" in told
    given = [row for row in rows if not row["class_probability"]]
    assert len(given) == 12 and all(row["class"] == kind(int(row["label"])) for row in given)
    right = [row["class"] == kind(int(row["label"])) for row in rows]
    assert np.mean(right) > 0.85
    # The record formats agree with the table.
    for name, numbers in zip(("a", "b"), both, strict=True):
        own = [row for row in rows if row["image"] == f"{name}.png"]
        content = json.loads((tmp_path / "out" / f"{name}.png.coco.json").read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        for annotation, row, number in zip(content["annotations"], own, numbers, strict=True):
            assert names[annotation["category_id"]] == row["class"]
            assert str(annotation.get("class_probability", "")) == row["class_probability"]
            labels = read_label_map(cropped / "labels" / f"{name}.png")
            assert annotation["area"] == (labels == number).sum()
        features = json.loads((tmp_path / "out" / f"{name}.png.geojson").read_text())["features"]
        assert {f["properties"]["classification"]["name"] for f in features} == {"bright", "dark"}
        lines = (tmp_path / "out" / f"{name}.txt").read_text().splitlines()
        listed = (tmp_path / "out" / "classes.txt").read_text().split()
        assert [listed[int(line.split()[0])] for line in lines] == [row["class"] for row in own]
    # The table is read again: corrected classes are given ones, and stay.
    wrong = next(row for row in rows if row["class_probability"])
    other = {"dark": "bright", "bright": "dark"}[wrong["class"]]
    text = (tmp_path / "t.csv").read_text()
    before = ",".join(wrong.values())
    assert before in text
    after = f"{wrong['image']},{wrong['label']},{other},"
    (tmp_path / "t.csv").write_text(text.replace(before, after))
    told = run(*words, "--classes", tmp_path / "t.csv", "--table", tmp_path / "t.csv")
    assert "learned from 13" in told and after in (tmp_path / "t.csv").read_text()


def test_classes_that_labels_carry(cropped: Path, nuclei_file: Path, tmp_path: Path) -> None:
    """Of results in their own folder, predictions are no examples the next time."""
    image, labels = cropped / "images" / "a.png", read_label_map(cropped / "labels" / "a.png")
    examples = set(numbers_of(cropped, "a")[:6])
    records: list[dict[str, Any]] = [
        {"segmentation": to_rle(mask), "predicted_iou": 0.5 + number / 1000}
        | ({"category": kind(number)} if number in examples else {})
        for number, mask in from_label_map(labels)
    ]
    pixels = samlet.images.read(image)
    label_map = write_results(tmp_path, image, pixels, records, {"model": "x", "also": ["rois"]})[0]
    for _ in range(2):
        told = run(label_map, image, "--out", tmp_path, "--model", nuclei_file)
        assert "learned from 6" in told
    results = read_results(tmp_path, image)
    assert results is not None and results.info["model"] == "x"
    for record, before in zip(results.records, records, strict=True):
        assert record["predicted_iou"] == pytest.approx(before["predicted_iou"])
        assert record["category"] == before.get("category", record["category"]) != "object"
        assert ("category" in before) is ("class_probability" not in record)
    # Measurements know them, too.
    table = tmp_path / "t.csv"
    told = str(RUNNER.invoke(app, ["measure", str(label_map), "--table", str(table)]).output)
    for row, record in zip(read_table(table), results.records, strict=True):
        assert row["class"] == record["category"]
        assert float(row["predicted_iou"]) == pytest.approx(record["predicted_iou"])
        assert row["class_probability"] == str(record.get("class_probability", ""))

    # COCO of other programs, to another folder; results of other objects are not replaced.
    write_coco(tmp_path / "coco.json", records, "a.png", labels.shape)
    words = [tmp_path / "coco.json", cropped / "images", "--out"]
    assert "learned from 6" in run(*words, tmp_path / "out", "--model", nuclei_file)
    assert "has other objects of a.png already" in fail(*words, tmp_path)


def test_mistakes_are_told_with_their_lines(cropped: Path, tmp_path: Path) -> None:
    classes, out = tmp_path / "c.csv", tmp_path / "out"
    words = [cropped / "labels", cropped / "images", "--out", out, "--classes", classes]
    number, other = numbers_of(cropped, "a")[:2]
    for content, told in (
        ("image,label\na.png,1", ["no column class"]),
        ("image,label,class,class\na.png,1,a", ["several columns called class"]),
        (f"image,label,class\na.png,{number},x", ["are of x: give another class"]),
        ("image,label,class\n", ["No object has a class"]),
        (
            f"image,label,class\n\na.png,{number},x\nz.png,1,x\na.png,9999,x\na.png,{other},\n"
            f"a.png,{number},y\na.png,one,y\na.png,{other},y,5\n,3,y\na.png,{other},object",
            [
                "line 4 is for the image z.png",
                "line 5: " + str(cropped / "images" / "a.png") + " has no object 9999",
                "line 6 has no class",
                f"line 7: object {number} is of the class y, and in {classes}, line 3 of x",
                "line 8 has the label one",
                "line 9 has more values",
                "line 10 has no image",
                "line 11 has the class object",
                "has 8 mistakes, so nothing was classified",
            ],
        ),
    ):
        classes.write_text(content)
        error = fail(*words)
        for each in told:
            assert each in error
    assert "No object has a class" in fail(*words[:4])
    assert "Cannot read" in fail(*words[:4], "--classes", tmp_path / "missing.csv")
    assert not out.exists()
