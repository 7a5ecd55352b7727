"""The label "all like cell": all objects like the one that is clicked on."""

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
import pytest

import samlet
from samlet.masks import crop_mask, iou
from samlet_labelstudio.label_studio.labeling_config import Control
from samlet_labelstudio.regions import to_results
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads
from tests.models import quick_nuclei

NAME = "fluorescence_2"
NUCLEI = payloads.objects(NAME)
SIZE = NUCLEI[0].shape
CONFIG = payloads.config().replace(
    '<KeyPointLabels name="click" toName="img" smart="true">',
    '<KeyPointLabels name="click" toName="img" smart="true"><Label value="all like cell"/>',
)
BRUSH = Control("answer", "BrushLabels", "img", ("cell", "debris"), False)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("backend")
    samlet.save(quick_nuclei(768), folder / "microscopy.safetensors")
    settings = Settings(model=str(folder / "microscopy.safetensors"), folder=folder)
    return create_app(Service(settings), 12).test_client()


def similar(client: Any, number: int, **saved: Any) -> list[np.ndarray]:
    """The masks that are answered to a click on a nucleus."""
    click = payloads.click_in(NUCLEI[number], "all like cell")
    task = payloads.task(payloads.image_file(NAME), **saved)
    answer = client.post("/predict", json=payloads.request([task], [click], CONFIG))
    assert answer.status_code == 200, answer.json
    (prediction,) = answer.json["results"]
    for region in prediction["result"]:
        assert region["from_name"] == "answer" and region["value"]["brushlabels"] == ["cell"]
    return [payloads.mask_of([region], SIZE) for region in prediction["result"]]


def is_among(number: int, masks: list[np.ndarray]) -> bool:
    return any(iou(mask, NUCLEI[number]) > 0.5 for mask in masks)


def regions(numbers: Iterable[int], label: str = "cell") -> list[dict[str, Any]]:
    """Nuclei as regions of an annotation."""
    return [
        result
        for number in numbers
        for result in to_results(crop_mask(NUCLEI[number]), BRUSH, label, 0.9)
    ]


@pytest.fixture(scope="module")
def found(client: Any) -> list[np.ndarray]:
    """What is found where nothing is labelled yet."""
    return similar(client, 1)


@pytest.fixture(scope="module")
def known(found: list[np.ndarray]) -> list[int]:
    """Two other nuclei that are found then."""
    return [number for number in range(2, 12) if is_among(number, found)][:2]


def test_all_objects_like_the_clicked_one(found: list[np.ndarray]) -> None:
    assert iou(found[0], NUCLEI[1]) > 0.6
    # Each once, and most of the larger nuclei.
    assert all(iou(a, b) < 0.3 for a, b in combinations(found, 2))
    assert sum(is_among(number, found) for number in range(12)) >= 7


@pytest.mark.parametrize("label", ["cell", "debris"])
def test_what_is_labelled_is_not_proposed_again(client: Any, known: list[int], label: str) -> None:
    again = similar(client, 1, drafts=[{"id": 5, "result": regions(known, label)}])
    assert is_among(1, again) and len(again) > 3
    assert not any(is_among(number, again) for number in known)


def test_a_labelled_object_can_be_clicked_on(client: Any) -> None:
    others = similar(client, 1, annotations=[{"id": 6, "result": regions([1])}])
    assert len(others) > 3 and not is_among(1, others)


def test_the_latest_draft_counts(
    client: Any, known: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """And of that only regions of this image that can be read."""
    there, also = regions(known)
    broken = there | {"id": "broken", "value": {"rle": "?", "brushlabels": ["cell"]}}
    elsewhere = there | {"id": "elsewhere", "to_name": "other"}
    latest = {"updated_at": "2026-11-30T08:00:01Z", "result": [broken, elsewhere, "?", also]}
    older = {"updated_at": "2026-11-30T08:00:00Z", "result": [there]}
    annotations = [{"result": [there]}]
    again = similar(client, 1, drafts=[latest, older, 3], annotations=annotations)
    assert [is_among(number, again) for number in known] == [True, False]
    assert "no example for similar objects" in caplog.text and "broken" in caplog.text


def test_how_alike_they_must_be(client: Any, found: list[np.ndarray]) -> None:
    click = payloads.click_in(NUCLEI[1], "all like cell")
    task = payloads.task(payloads.image_file(NAME))
    counts = []
    for likeness in (0, 1):
        setup = {"project": "7.17", "schema": CONFIG, "extra_params": {"likeness": likeness}}
        assert client.post("/setup", json=setup).status_code == 200
        body = payloads.request([task], [click], CONFIG, project="7.17")
        (prediction,) = client.post("/predict", json=body).json["results"]
        counts.append(len(prediction["result"]))
    assert counts[0] >= len(found) > counts[1] == 1


def model(client: Any) -> str:
    return str(client.post("/versions", json={}).json["versions"][0])


def retrieve(client: Any, config: str = CONFIG, **saved: Any) -> Any:
    """What *Retrieve Predictions* gets for the task."""
    task = payloads.task(payloads.image_file(NAME), **saved)
    answer = client.post("/predict", json=payloads.request([task], None, config))
    assert answer.status_code == 200, answer.json
    (prediction,) = answer.json["results"]
    return prediction


def test_an_annotation_is_completed(client: Any, known: list[int]) -> None:
    annotated = [*regions([1]), *regions(known[:1], "debris")]
    # Of skipped annotations, and earlier ones, nothing counts.
    skipped = {"was_cancelled": True, "updated_at": "2026-11-30T09", "result": regions(known)}
    earlier = {"updated_at": "2026-11-30T07", "result": regions(known)}
    latest = {"updated_at": "2026-11-30T08", "result": annotated}
    saved: Any = {"annotations": [skipped, latest, earlier]}
    prediction = retrieve(client, **saved)
    version = prediction["model_version"]
    assert version.endswith("microscopy.safetensors (all like 1 cell)")
    assert prediction["result"][:2] == annotated
    found = prediction["result"][2:]
    assert {region["value"]["brushlabels"][0] for region in found} == {"cell"}
    masks = [payloads.mask_of([region], SIZE) for region in found]
    assert is_among(known[1], masks) and len(masks) > 3
    assert not is_among(1, masks) and not is_among(known[0], masks)
    assert np.isclose(prediction["score"], np.mean([region["score"] for region in found]))
    # Once for these objects.
    stored = {"model_version": version, "result": prediction["result"]}
    assert retrieve(client, **saved, predictions=[stored]) == []


def test_annotations_without_that_label_are_not_completed(client: Any) -> None:
    for config, label in ((CONFIG, "debris"), (payloads.config(), "cell")):
        saved: Any = {"annotations": [{"result": regions([1], label)}]}
        # In the box of another model, which is quick.
        box = payloads.box_around(NUCLEI[1])
        other = {"model_version": "detector", "result": [box]}
        # The same by samlet itself is no other's.
        own = other | {"model_version": f"{model(client)} (all like 2 cell)"}
        prediction = retrieve(client, config, **saved, predictions=[other, own])
        assert prediction["model_version"].endswith("microscopy.safetensors")
        (region,) = prediction["result"]
        assert iou(payloads.mask_of([region], SIZE), NUCLEI[1]) > 0.6


def test_a_label_that_only_begins_like_the_tool(client: Any) -> None:
    """There is no label "all like dust": it is a label like any other."""
    label = "all like dust"
    config = payloads.config(labels=["cell", label])
    click = payloads.click_in(NUCLEI[1], label)
    task = payloads.task(payloads.image_file(NAME))
    answer = client.post("/predict", json=payloads.request([task], [click], config))
    (region,) = answer.json["results"][0]["result"]
    assert region["value"]["brushlabels"] == [label]


def test_the_box_of_the_prompt_is_no_object(client: Any, found: list[np.ndarray]) -> None:
    """Label Studio may have saved it in the draft before the request arrives."""
    box = payloads.box_around(NUCLEI[1], "all like cell")
    stale = payloads.box_around(NUCLEI[3], "all like cell") | {"id": "stale"}
    config = CONFIG.replace(
        '<RectangleLabels name="box" toName="img" smart="true">',
        '<RectangleLabels name="box" toName="img" smart="true"><Label value="all like cell"/>',
    )
    task = payloads.task(
        payloads.image_file(NAME), drafts=[{"result": [box, stale]}], annotations=7
    )
    answer = client.post("/predict", json=payloads.request([task], [box], config))
    (prediction,) = answer.json["results"]
    masks = [payloads.mask_of([region], SIZE) for region in prediction["result"]]
    assert is_among(1, masks) and is_among(3, masks) == is_among(3, found)
