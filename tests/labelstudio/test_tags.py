"""Labeling configs with other tags than the usual ones, over HTTP."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samlet
from samlet.datasets import find_labelled_images
from samlet.masks import iou
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training.annotations import ANNOTATIONS, IMAGES, export_annotations
from tests.labelstudio import payloads
from tests.labelstudio.test_images import Host
from tests.labelstudio.test_training import host, serve_tasks, service_of
from tests.models import quick_nuclei

__all__ = ["host"]

NAMES = ("fluorescence_2", "fluorescence_3")
FILES = [payloads.image_file(name) for name in NAMES]
NUCLEI = [payloads.objects(name) for name in NAMES]
SIZES = [nuclei[0].shape for nuclei in NUCLEI]
BARE = (
    '<View><Image name="img" value="$image"/>'
    '<Labels name="kind" toName="img"><Label value="cell"/><Label value="debris"/></Labels>'
    '<KeyPoint name="click" toName="img" smart="true"/>'
    '<Rectangle name="box" toName="img" smart="true"/><{tag} name="answer" toName="img"/></View>'
)
OF_TASK = (
    '<View><Image name="img" value="$image"/>'
    '<KeyPointLabels name="click" toName="img" smart="true" value="$kinds"/>'
    '<BitmaskLabels name="answer" toName="img" value="$kinds"/></View>'
)
PAGED = payloads.config("BitmaskLabels").replace('value="$image"', 'valueList="$pages"')


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """With the bundled model at half its size: what counts here are not the masks."""
    folder = tmp_path_factory.mktemp("backend")
    samlet.save(quick_nuclei(512), folder / "nuclei.safetensors")
    return Service(Settings(model=str(folder / "nuclei.safetensors"), folder=folder))


@pytest.fixture(scope="module")
def client(service: Service) -> Any:
    return create_app(service, 12).test_client()


def predicted(client: Any, text: str, task: payloads.Task, drawn: Any = None) -> Any:
    answer = client.post("/predict", json=payloads.request([task], drawn, text))
    assert answer.status_code == 200, answer.json
    (prediction,) = answer.json["results"]
    return prediction["result"]


def usual_mask(client: Any, page: int, drawn: payloads.Region) -> np.ndarray:
    """The mask in the usual config."""
    text = payloads.config(labels=["cell", "debris", "m", "other"])
    (region,) = predicted(client, text, payloads.task(FILES[page]), [drawn])
    return payloads.mask_of([region], SIZES[page])


def refused(client: Any, text: str, task: payloads.Task, drawn: Any = None) -> str:
    answer = client.post("/predict", json=payloads.request([task], drawn, text))
    assert answer.status_code == 400
    return str(answer.json["error"])


def bare(result: payloads.Region, label: str) -> list[payloads.Region]:
    """As Label Studio 1.23 sends a smart region whose label is in a Labels tag."""
    kind = result["type"].removesuffix("labels")
    value = {name: v for name, v in result["value"].items() if not name.endswith("labels")}
    if kind == "keypoint":
        value["labels"] = [label]
    named = {"from_name": "kind", "type": "labels", "value": {**value, "labels": [label]}}
    return [{**result, "type": kind, "value": value}, {**result, **named}]


def pages(*files: bytes) -> payloads.Task:
    return {"id": 1, "data": {"pages": [payloads.data_uri(file) for file in files]}}


@pytest.mark.parametrize("tag", ["Brush", "Bitmask", "Polygon", "Rectangle"])
@pytest.mark.parametrize("prompt", ["click", "box"])
def test_tags_whose_label_is_in_a_labels_tag(client: Any, tag: str, prompt: str) -> None:
    nucleus = NUCLEI[0][1]
    drawn = payloads.click_in(nucleus) if prompt == "click" else payloads.box_around(nucleus)
    text = BARE.replace("{tag}", tag)
    assert client.post("/setup", json={"project": "4", "schema": text}).status_code == 200
    task = payloads.task(FILES[0])
    shape, label = predicted(client, text, task, bare(drawn, "debris"))
    assert (shape["type"], shape["from_name"]) == (tag.lower(), "answer")
    assert (label["type"], label["from_name"]) == ("labels", "kind")
    assert label["id"] == shape["id"] and label["value"]["labels"] == ["debris"]
    least = {"Rectangle": 0.5, "Polygon": 0.9}.get(tag, 1.0)
    usual = usual_mask(client, 0, drawn)
    assert usual.any() and iou(payloads.mask_of([shape], SIZES[0]), usual) >= least


def test_boxes_whose_label_is_in_a_labels_tag(client: Any) -> None:
    text = BARE.replace("{tag}", "Brush")
    boxes = [
        each
        for i, nucleus in enumerate(NUCLEI[0][1:3])
        for each in bare(payloads.box_around(nucleus) | {"id": f"b{i}"}, "debris")
    ]
    given = [{"model_version": "yolo", "result": boxes}]
    results = predicted(client, text, payloads.task(FILES[0], predictions=given))
    labels = [each["value"]["labels"] for each in results if each["type"] == "labels"]
    assert len(results) == 4 and labels == [["debris"], ["debris"]]


def test_labels_that_come_with_the_task(client: Any) -> None:
    nucleus = NUCLEI[0][1]
    assert client.post("/setup", json={"project": "4", "schema": OF_TASK}).status_code == 200
    kinds = [{"value": "Mitosis", "alias": "m"}, {"value": "other"}]
    task = payloads.task(FILES[0])
    task["data"]["kinds"] = kinds
    for label in ("m", "other"):
        drawn = [payloads.click_in(nucleus, label)]
        (region,) = predicted(client, OF_TASK, task, drawn)
        assert region["value"]["bitmasklabels"] == [label]
        mask = payloads.mask_of([region], SIZES[0])
        assert np.array_equal(mask, usual_mask(client, 0, *drawn))
    assert {r["value"]["bitmasklabels"][0] for r in predicted(client, OF_TASK, task)} == {"m"}
    # Not those of the task before.
    del task["data"]["kinds"]
    sentence = refused(client, OF_TASK, task, [payloads.click_in(nucleus, "m")])
    assert sentence.startswith('The task has no labels in its data under "kinds", where ')


def test_clicks_on_pages(client: Any) -> None:
    task = pages(*FILES)
    for page in (1, 0):
        nucleus = NUCLEI[page][1]
        drawn = [payloads.click_in(nucleus) | {"item_index": page}]
        (region,) = predicted(client, PAGED, task, drawn)
        assert region["item_index"] == page
        assert (region["original_height"], region["original_width"]) == SIZES[page]
        mask = payloads.mask_of([region], SIZES[page])
        assert np.array_equal(mask, usual_mask(client, page, payloads.click_in(nucleus)))
    for wrong, more in ((task, {"item_index": 2}), (payloads.task(FILES[0]), {})):
        sentence = refused(client, PAGED, wrong, [payloads.click_in(NUCLEI[0][1]) | more])
        assert 'in its data under "pages", where the labeling config expects it' in sentence


def test_pages_are_pre_annotated(client: Any) -> None:
    alone = [
        predicted(client, payloads.config("BitmaskLabels"), payloads.task(file)) for file in FILES
    ]
    together = predicted(client, PAGED, pages(*FILES))
    for page, results in enumerate(alone):
        on_page = [result for result in together if result["item_index"] == page]
        masks, expected = (payloads.mask_of(r, SIZES[page]) for r in (on_page, results))
        assert len(on_page) == len(results) > 3 and np.array_equal(masks, expected)
    # Boxes of a detector, on one page: the other page has none.
    boxes = [payloads.box_around(NUCLEI[1][1]) | {"item_index": 1}]
    task = pages(*FILES) | {"predictions": [{"model_version": "yolo", "result": boxes}]}
    results = predicted(client, PAGED, task)
    assert [result["item_index"] for result in results] == [1]


def test_training_on_every_kind_of_region(client: Any, host: Host, tmp_path: Path) -> None:
    """What is answered and then submitted is what is learnt from."""
    tasks: list[dict[str, Any]] = []
    expected: dict[str, np.ndarray] = {}

    def submit(data: dict[str, Any], results: Any, names: list[str]) -> None:
        number = len(tasks) + 1
        annotation = {"id": number, "was_cancelled": False, "result": results}
        tasks.append({"id": number, "data": data, "annotations": [annotation]})
        for page, name in enumerate(names):
            on_page = [r for r in results if r.get("item_index", page) == page]
            shapes = [r for r in on_page if r["type"] != "labels"]
            expected[f"{number}{name}"] = payloads.mask_of(shapes, SIZES[page])

    urls = [f"/data/upload/3/{name}.png" for name in NAMES]
    for url, file in zip(urls, FILES, strict=True):
        host.respond(url, file)
    click = payloads.click_in(NUCLEI[0][1])
    for tag in payloads.ANSWERS:
        results = predicted(client, payloads.config(tag), payloads.task(FILES[0]), [click])
        submit({"image": urls[0]}, results, [".png"])
    for tag in ("Brush", "Bitmask"):
        text = BARE.replace("{tag}", tag)
        results = predicted(client, text, payloads.task(FILES[0]), bare(click, "cell"))
        submit({"image": urls[0]}, results, [".png"])
    drawn = [payloads.click_in(n[1]) | {"item_index": page} for page, n in enumerate(NUCLEI)]
    results = [r for d in drawn for r in predicted(client, PAGED, pages(*FILES), [d])]
    submit({"pages": urls}, results, ["-0.png", "-1.png"])

    serve_tasks(host, tasks)
    settings = service_of(host, tmp_path / "data").settings
    assert export_annotations("3", tmp_path / "job", settings) == len(expected)
    kept = json.loads((tmp_path / "job" / ANNOTATIONS).read_text())
    assert kept[-1]["data"]["pages"] == [f"{len(tasks)}-0.png", f"{len(tasks)}-1.png"]
    labelled = find_labelled_images(tmp_path / "job" / IMAGES, tmp_path / "job" / ANNOTATIONS)
    left_out: list[str] = []
    found = {each.path.name: each.read_layers(left_out) for each in labelled}
    assert left_out == [] and found.keys() == expected.keys()
    for name, mask in expected.items():
        assert np.array_equal(found[name][0] == 1, mask), name
