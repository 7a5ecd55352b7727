"""Classes of objects in files of labels: written, read back, and what is no class."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from samlet.datasets.checking import check_labels
from samlet.datasets.finding import find_labelled_images, labels_of
from samlet.datasets.label_map_classes import read_classes
from samlet.datasets.labelled_images import ObjectClass
from samlet.masks import to_rle
from samlet.outputs import write_coco, write_rois, write_yolo
from samlet.outputs.results import write_results
from samlet.outputs.yolo import write_classes

SIZE = (40, 60)
RECORDS: list[dict[str, Any]] = [
    {"category": "neuron"},
    {},
    {"category": "glia, small", "class_probability": 0.75},
    {"category": "neuron"},
]
"""Of four blocks, side by side."""
GIVEN = {1: ObjectClass("neuron"), 3: ObjectClass("glia, small"), 4: ObjectClass("neuron")}


def block(number: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[5:30, 15 * number + 2 : 15 * number + 12] = True
    return mask


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "a.png"
    path.parent.mkdir()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def records() -> list[dict[str, Any]]:
    return [
        {"segmentation": to_rle(block(i)), "predicted_iou": 0.5 + i / 10, **record}
        for i, record in enumerate(RECORDS)
    ]


def classes_of(image: Path, labels: Path) -> dict[int, ObjectClass]:
    found: dict[int, ObjectClass] = {}
    read = labels_of(image, labels)
    assert read is not None
    layers = read(None, found)
    for number in found:
        assert np.array_equal((layers == number).any(0), block(number - 1))
    return found


def test_all_formats_carry_classes(image: Path, records: list[dict[str, Any]]) -> None:
    labels = image.parent.parent / "labels"
    labels.mkdir()
    names = ["object", "glia, small", "neuron"]
    write_coco(labels / "coco.json", records, "a.png", SIZE, categories=names)
    write_rois(labels / "a.zip", records, SIZE)
    write_yolo(labels / "a.txt", records, SIZE, names)
    # Only COCO tells who has given a class.
    predicted = GIVEN | {3: ObjectClass("glia, small", 0.75)}
    assert classes_of(image, labels / "coco.json") == predicted
    assert classes_of(image, labels / "a.zip") == GIVEN
    unnamed = {1: ObjectClass("2"), 2: ObjectClass("0"), 3: ObjectClass("1"), 4: ObjectClass("2")}
    assert classes_of(image, labels / "a.txt") == unnamed
    write_classes(labels.parent / "classes.txt", names)
    assert classes_of(image, labels / "a.txt") == GIVEN
    # A class goes with each part of an object that is split.
    (split,) = check_labels(find_labelled_images(image.parent, labels / "coco.json"), True).usable
    found: dict[int, ObjectClass] = {}
    split.read_layers(None, found)
    assert found == predicted


def test_label_studio_labels_are_classes(image: Path) -> None:
    def region(number: int, kind: str, labels: list[str]) -> dict[str, Any]:
        rectangle = {"x": 25 * number + 2, "y": 10, "width": 15, "height": 50, "rotation": 0}
        value = rectangle | ({kind: labels} if labels else {})
        size = {"original_width": 60, "original_height": 40}
        return {"id": f"r{number}", "type": kind, "to_name": "image", "value": value, **size}

    tag = region(1, "labels", ["axon"])
    results = [
        region(0, "rectanglelabels", ["neuron"]),
        region(1, "rectangle", []),
        region(2, "rectanglelabels", ["glia", "neuron"]),
        # Of a Labels tag.
        tag | {"value": {"labels": ["axon"]}},
    ]
    task = {"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": results}]}
    export = image.parent.parent / "export.json"
    export.write_text(json.dumps([task]))
    found: dict[int, ObjectClass] = {}
    read = labels_of(image, export)
    assert read is not None and read(None, found).max() == 3
    assert found == {1: ObjectClass("neuron"), 2: ObjectClass("axon"), 3: ObjectClass("glia")}


def test_a_class_stays_with_its_object_beside_faulty_ones(image: Path) -> None:
    labels = image.with_suffix(".txt")
    line = "{} 0.1 0.1 0.4 0.1 0.4 0.6\n".format
    labels.write_text(line(7) + "1 0.2 0.2\n" + "2 0.1 0.1 0.1 0.1 0.1 0.1\n" + line(5))
    found: dict[int, ObjectClass] = {}
    read = labels_of(image, labels)
    assert read is not None and read([], found).max() == 2
    assert found == {1: ObjectClass("7"), 2: ObjectClass("5")}


def test_the_label_map_of_results(image: Path, records: list[dict[str, Any]]) -> None:
    out = image.parent.parent / "out"
    written = write_results(out, image, np.zeros((*SIZE, 3), np.uint8), records, {})
    assert read_classes(written[0]) == GIVEN | {3: ObjectClass("glia, small", 0.75)}
    (out / "a.png.coco.json").write_text("{}")
    assert read_classes(written[0]) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content,
        lambda content: content.pop("given"),
        lambda content: content.update(given=[1, 2], predicted=None),
        lambda content: content.update(given={"x": "a", "-1": "b", "0": "c", "2": 5, "5": ""}),
        lambda content: content.update(predicted={"4": ["a"], "5": "b", "6": [None, 1]}),
    ],
)
def test_napari_files(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content: dict[str, Any] = {"given": {"1": "a"}, "predicted": {"2": ["b", 0.5], "1": ["b", 1]}}
    expected = {1: ObjectClass("a"), 2: ObjectClass("b", 0.5)}
    change(content)
    if "1" not in (content.get("given") or ()):
        expected[1] = ObjectClass("b", 1.0)
    if not isinstance(content.get("predicted"), dict):
        expected = {}
    elif "4" in content["predicted"]:
        expected = {1: ObjectClass("a")}
    path = tmp_path / "a.samlet.tif"
    description = json.dumps({"samlet": {"version": 1, "classes": content}})
    tifffile.imwrite(path, np.ones(SIZE, np.uint8), description=description)
    assert read_classes(path) == expected
    for damaged in ("[]", "{", '{"samlet": 5}', '{"samlet": {"classes": [1]}}'):
        tifffile.imwrite(path, np.ones(SIZE, np.uint8), description=damaged)
        assert read_classes(path) == {}
