"""`samlet segment --prompts`: many objects from a file, all or nothing of it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from roifile import ImagejRoi, roiread
from typer.testing import CliRunner

import samlet
from samlet import images, samples
from samlet.cli.main import app
from samlet.errors import UserError
from samlet.masks import deepest_point, from_label_map
from samlet.outputs import read_label_map
from tests.core.command import run_command

Segment = Callable[..., str]


def rois_in(path: Path) -> list[ImagejRoi]:
    rois = roiread(path)
    assert isinstance(rois, list)
    return rois


@pytest.fixture
def segment(nuclei_file: Path, tmp_path: Path) -> Segment:
    def run(*arguments: str | Path) -> str:
        given = ["segment", tmp_path / "images", "--out", tmp_path / "out", "--model", nuclei_file]
        return run_command(*given, *arguments)

    return run


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Boxes and clicks on objects of two images, and their file."""
    lines = ["image,object,x,y,label,x1,y1,x2,y2,class"]
    for place, name in (("day 1/a.png", "stained_2"), ("b.png", "fluorescence_1")):
        path = tmp_path / "images" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        image = images.read(samples.IMAGES / f"{name}.png")[:120, :160]
        labels = read_label_map(samples.LABELS / f"{name}.png")[:120, :160]
        Image.fromarray(image).save(path)
        largest = sorted((m for _, m in from_label_map(labels)), key=np.count_nonzero)[-3:]
        for number, mask in enumerate(largest, start=1):
            ys, xs = np.nonzero(mask)
            x, y = deepest_point(mask)
            kind = "round" if number == 2 else "long"
            lines.append(f"{place},{number},{x},{y},1,,,,,{kind}")
            if number == 2:
                corners = f"{xs.min()},{ys.min()},{xs.max() + 1},{ys.max() + 1}"
                lines.append(f"{place},{number},,,,{corners},{kind}")
    (tmp_path / "prompts.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "prompts.csv"


def test_each_image_has_its_objects(
    segment: Segment, prompts: Path, tmp_path: Path, nuclei_file: Path
) -> None:
    said = segment("--prompts", prompts, "--table", tmp_path / "cells.csv")
    assert "Results are in" in said
    folder = tmp_path / "out" / "day 1"
    suffixes = (".coco.json", ".geojson", ".labels.png", ".overlay.png")
    assert sorted(p.name for p in folder.iterdir()) == [f"a.png{s}" for s in suffixes]
    # As one object by itself.
    predictor = samlet.Predictor(samlet.load(nuclei_file))
    embedding = predictor.encode(images.read(tmp_path / "images" / "b.png"))
    coco = COCO(tmp_path / "out" / "b.png.coco.json")
    found = coco.loadAnns(coco.getAnnIds())
    rows = [line.split(",") for line in prompts.read_text().splitlines() if line.startswith("b")]
    for annotation, click in zip(found, (row for row in rows if row[2]), strict=True):
        own = [row for row in rows if row[1] == click[1] and row[5]]
        box = [float(side) for side in own[0][5:9]] if own else None
        point = [[float(click[2]), float(click[3])]]
        expected = predictor.segment(embedding, point, [1], box, multimask_output=box is None).best
        assert np.array_equal(coco.annToMask(annotation), expected)
        assert coco.cats[annotation["category_id"]]["name"] == click[9]
    features = json.loads((tmp_path / "out" / "b.png.geojson").read_text())["features"]
    names = [feature["properties"]["classification"]["name"] for feature in features]
    assert names == ["long", "round", "long"]
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 7


def test_it_resumes_and_does_what_has_changed_again(
    segment: Segment, prompts: Path, tmp_path: Path
) -> None:
    segment("--prompts", prompts)
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.json")}
    assert "2 of 2 were finished before" in segment("--prompts", prompts)
    (tmp_path / "out" / "b.png.geojson").unlink()
    assert "1 of 2 were finished before" in segment("--prompts", prompts)
    lines = prompts.read_text().splitlines()
    x, y = lines[1].split(",")[2:4]
    moved = lines[1].replace(f",{x},{y},", f",{x}.5,{y},")
    prompts.write_text("\n".join([lines[0], moved, *lines[2:]]))
    assert "1 of 2 were finished before" in segment("--prompts", prompts)
    assert all(p.stat().st_mtime_ns > before for p, before in first.items())


def test_other_objects_are_not_replaced(segment: Segment, prompts: Path, tmp_path: Path) -> None:
    segment("--prompts", prompts)
    text = prompts.read_text()
    x, y = text.splitlines()[-1].split(",")[2:4]
    added = ["segment", tmp_path / "images" / "b.png", "--point", f"{x},{y}", "--add"]
    rest = ["--out", tmp_path / "out", "--model", "microscopy"]
    done = CliRunner().invoke(app, [str(part) for part in (*added, *rest)])
    assert done.exit_code == 0, done.output
    before = (tmp_path / "out" / "b.png.coco.json").read_bytes()
    assert [c["name"] for c in json.loads(before)["categories"]] == ["long", "round", "object"]
    said = segment("--prompts", prompts)
    assert "Kept, since not all of their objects are from a file" in said and "b.png" in said
    assert (tmp_path / "out" / "b.png.coco.json").read_bytes() == before
    segment("--prompts", prompts, "--replace")
    assert len(json.loads((tmp_path / "out" / "b.png.coco.json").read_text())["annotations"]) == 3


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("c.png,1,5,5,1", "line 11 is for the image c.png, which is not below"),
        ("b.png,9,500,5,1", r"line 11: the point 500,5 lies outside .*b.png, which is 160 x 120"),
        ("b.png,9,,,,200,5,220,9", "line 11: the box 200,5,220,9 lies outside"),
        ("b.png,9,,,,20,5,10,9", "line 11: the box 20,5,10,9 is inside out"),
        ("b.png,9,5,five,1", "line 11: y is 'five', which is not a number"),
        ("b.png,9,5,,1", "line 11: y is '', which is not a number"),
        ("b.png,9,5,5,2", "line 11 has the label 2: it must be 1"),
        ("b.png,9,5,5,", "line 11: label is ''"),
        ("b.png,9,5,5,0", "line 11 is on the background of object 9"),
        ("b.png,9,5,5,1,1,1,4,4", "line 11 has a click and a box"),
        ("b.png,9", "line 11 has neither"),
        ("b.png,,5,5,1", "line 11 has no object"),
        ("b.png,2,,,,1,1,4,4,round", "line 11 is a second box of object 2"),
        ("b.png,2,5,5,1,,,,,long", "line 11: object 2 is of the class long, and in .* of round"),
        ("b.png,9,5,5,1,,,,,long,7", "line 11 has more values than there are columns"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_done(
    line: str, sentence: str, segment: Segment, prompts: Path, tmp_path: Path
) -> None:
    prompts.write_text(f"{prompts.read_text()}\n{line}\nb.png,10,999,999,1\n")
    # The empty line counts, and the other mistake is found, too.
    with pytest.raises(UserError, match=rf"2 mistakes.*nothing.*(?s:.*){sentence}") as caught:
        segment("--prompts", prompts)
    assert "line 12: the point 999,999" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "has the columns"),
        (b"image,x,y,label\nb.png,1,1,1\n", "its first line must name image and object"),
        (b"image,object,x,y\nb.png,1,1,1\n", "its first line must name"),
        (b"image,object,x,y,label,x\n", "several columns called x"),
        (b"image,object,x,y,label\n", "has no prompt"),
        ("image,object,x,y,label\nbä.png,1,1,1,1".encode("latin-1"), "not UTF-8"),
    ],
)
def test_files_that_are_something_else(
    content: bytes, sentence: str, segment: Segment, prompts: Path
) -> None:
    prompts.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        segment("--prompts", prompts)


def test_a_broken_image_is_named_with_its_line(
    segment: Segment, prompts: Path, tmp_path: Path
) -> None:
    path = tmp_path / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=r"line 6: .*b\.png.*damaged"):
        segment("--prompts", prompts)


def test_semicolons_and_further_columns(segment: Segment, prompts: Path, tmp_path: Path) -> None:
    text = "\ufeffIndex;Image;Object;X;Y;Label\n0;b.png;cell;60;60;1\n"
    prompts.write_text(text, encoding="utf-8")
    assert "columns that are not used: index" in segment("--prompts", prompts)
    made = json.loads((tmp_path / "out" / "b.png.coco.json").read_text())["info"]["samlet"]
    assert made["prompts"][0]["object"] == "cell" and made["prompts"][0]["points"] == [[60, 60]]


def test_a_file_for_more_images_than_are_given(prompts: Path, tmp_path: Path) -> None:
    given = ["segment", tmp_path / "images" / "b.png", "--prompts", prompts, "--out", tmp_path]
    error = CliRunner().invoke(app, [str(part) for part in given]).exception
    assert isinstance(error, UserError) and "or give the folder of the images" in str(error)


def test_boxes_of_coco(segment: Segment, prompts: Path, tmp_path: Path) -> None:
    segment("--prompts", prompts)
    boxes = json.loads((tmp_path / "out" / "day 1" / "a.png.coco.json").read_text())
    for annotation in boxes["annotations"]:
        del annotation["segmentation"]
    boxes["annotations"].append({"id": 9, "image_id": 1, "iscrowd": 1, "bbox": [0, 0, 9, 9]})
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    said = segment("--prompts", tmp_path / "boxes.json", "--out", tmp_path / "by boxes")
    assert "1 annotation marked iscrowd" in said
    coco = COCO(tmp_path / "by boxes" / "day 1" / "a.png.coco.json")
    names = [coco.cats[one["category_id"]]["name"] for one in coco.loadAnns(coco.getAnnIds())]
    assert names == ["long", "round", "long"]
    assert not list((tmp_path / "by boxes").glob("b.png*"))
    boxes["annotations"][0]["bbox"] = [5, 5, 0, 3]
    del boxes["annotations"][1]["bbox"]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    with pytest.raises(UserError, match=r"2 mistakes") as caught:
        segment("--prompts", tmp_path / "boxes.json")
    assert "annotations[0] of" in str(caught.value) and "inside out" in str(caught.value)
    assert "annotations[1] of" in str(caught.value) and 'no list "bbox"' in str(caught.value)


def test_prompts_come_from_the_file_alone(segment: Segment, prompts: Path) -> None:
    with pytest.raises(UserError, match="leave out --point"):
        segment("--prompts", prompts, "--point", "1,1")


def test_further_formats(segment: Segment, prompts: Path, tmp_path: Path) -> None:
    segment("--prompts", prompts)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.labels.png")}
    # Finished images get them, too, and keep what they have.
    assert "2 of 2 were finished" in segment("--prompts", prompts, "--also", "rois,yolo")
    assert all(p.stat().st_mtime_ns == before for p, before in times.items())
    folder = tmp_path / "out"
    labels = read_label_map(folder / "b.png.labels.png")
    assert len(rois_in(folder / "b.png.rois.zip")) == len(np.unique(labels)) - 1 == 3
    classes = (folder / "classes.txt").read_text().splitlines()
    assert classes == ["long", "round"]
    lines = (folder / "day 1" / "a.txt").read_text().splitlines()
    assert [classes[int(line.split()[0])] for line in lines] == ["long", "round", "long"]
    segment("--prompts", prompts, "--also", "coco-polygons")
    assert (folder / "b.png.coco-polygons.json").exists()
    # The numbers of classes stay when there are others, as other images have them.
    prompts.write_text(prompts.read_text().replace(",long", ",flat"))
    segment("--prompts", prompts)
    assert (folder / "classes.txt").read_text().split() == ["long", "round", "flat"]
    lines = (folder / "day 1" / "a.txt").read_text().splitlines()
    assert [int(line.split()[0]) for line in lines] == [2, 1, 2]
    # Files of objects that are replaced are replaced with them.
    prompts.write_text("image,object,x1,y1,x2,y2\nb.png,1,40,40,80,80\n")
    segment("--prompts", prompts)
    assert len(rois_in(folder / "b.png.rois.zip")) == 1
    assert [line.split()[0] for line in (folder / "b.txt").read_text().splitlines()] == ["3"]
    assert (folder / "classes.txt").read_text().split() == ["long", "round", "flat", "object"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "classes.txt").write_text("somebody's\n")
    segment("--prompts", prompts, "--out", tmp_path / "other")
    assert (tmp_path / "other" / "classes.txt").read_text() == "somebody's\n"
    with pytest.raises(UserError, match="no format yollo: choose yolo"):
        segment("--prompts", prompts, "--also", "yollo")
