"""Clicks and boxes through the API of a real Label Studio, compared with the bundled labels."""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from samlet.errors import UserError
from samlet.masks import deepest_point, iou
from samlet.samples import IMAGES
from samlet_labelstudio.label_studio import project as init
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads
from tests.labelstudio.backend import Backend
from tests.labelstudio.label_studio import LabelStudio, free_port
from tests.labelstudio.projects import Project, connect_project, init_project

FLUORESCENCE = "fluorescence_2"
STAINED = "stained_1"
CROWDED = "fluorescence_3"


@pytest.fixture(scope="module")
def project(
    server: LabelStudio, backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    folder = tmp_path_factory.mktemp("images")
    return init_project(server, backend, "Clicks", (FLUORESCENCE, STAINED, CROWDED), folder)


def test_init_project_makes_all_that_clicks_need(project: Project, backend: Backend) -> None:
    server = project.server
    assert set(project.tasks) == {FLUORESCENCE, STAINED, CROWDED}
    made = server.project(project.number)
    assert made["title"] == "Clicks"
    assert not made["show_collab_predictions"]
    connected = server.backend(project.backend)
    assert (connected["url"], connected["state"]) == (backend.url, "CO")
    assert connected["is_interactive"]
    assert connected["model_version"] == "microscopy"


def test_init_project_twice(
    server: LabelStudio, backend: Backend, project: Project, tmp_path: Path
) -> None:
    arguments = ["init-project", "--title", "Clicks", "--backend-url", backend.url]
    for name in (FLUORESCENCE, "fluorescence_1"):
        shutil.copy(IMAGES / f"{name}.png", tmp_path)
    again = [*arguments, "--labels", "cell,debris", "--images", str(tmp_path)]
    assert f"/projects/{project.number}," in backend.command(*again)
    # Only the image that was not there is new, and nothing is connected twice.
    assert len(server.task_ids(project.number)) == len(project.tasks) + 1
    assert len(server.call("GET", "ml/", params={"project": project.number}).json()) == 1
    backend.command(*arguments, "--labels", "other", status=1)


def test_init_project_without_a_backend(server: LabelStudio, backend: Backend) -> None:
    before = server.call("GET", "projects/").json()["count"]
    url = f"http://127.0.0.1:{free_port()}"
    settings = Settings(label_studio_url=server.url, api_key=server.token)
    with pytest.raises(UserError) as refused:
        init.init_project(settings, "Nowhere", ["cell"], url, None)
    assert server.call("GET", "projects/").json()["count"] == before
    message = str(refused.value)
    assert "so no project was made: " in message and "Connection refused" in message
    assert "or give its address with --backend-url" in message and "<a" not in message
    with pytest.raises(UserError, match="The provided URL was not allowed"):
        init.init_project(settings, "Nowhere", ["cell"], "localhost:9", None)


def test_click_on_nuclei(project: Project) -> None:
    truth = payloads.objects(FLUORESCENCE)[:16:2]
    found = [project.mask(FLUORESCENCE, [payloads.click_in(mask)]) for mask in truth]
    assert np.mean([iou(*pair) for pair in zip(truth, found, strict=True)]) > 0.8


def test_regions_are_what_the_annotator_chose(project: Project) -> None:
    (mask, *_) = payloads.objects(FLUORESCENCE)
    (region,) = project.predict(FLUORESCENCE, [payloads.click_in(mask, "debris")])
    assert (region["type"], region["from_name"], region["to_name"]) == (
        "brushlabels",
        "mask",
        "image",
    )
    assert region["value"]["brushlabels"] == ["debris"]
    assert 0.5 < region["score"] <= 1


def test_second_click_adds_what_is_missing(project: Project) -> None:
    before, after = [], []
    for mask in payloads.objects(STAINED)[:24:2]:
        click = payloads.click_in(mask)
        first = project.mask(STAINED, [click])
        missing = deepest_point(mask & ~first)
        second = project.mask(STAINED, [click, payloads.click(*missing, mask.shape)])
        before.append(iou(first, mask))
        after.append(iou(second, mask))
    assert np.mean(after) > np.mean(before) + 0.01


def test_negative_click_takes_away(project: Project) -> None:
    gone = []
    for mask in payloads.objects(CROWDED)[2:48:2]:
        click = payloads.click_in(mask)
        wrong = project.mask(CROWDED, [click]) & ~mask
        if wrong.any():
            x, y = deepest_point(wrong)
            negative = payloads.click(x, y, mask.shape, positive=False)
            gone.append(not project.mask(CROWDED, [click, negative])[y, x])
    assert len(gone) >= 4
    assert np.mean(gone) > 0.7


def test_box_and_box_with_click(project: Project) -> None:
    truth = payloads.objects(STAINED)[4:20:2]
    boxed = [project.mask(STAINED, [payloads.box_around(mask)]) for mask in truth]
    both = [
        project.mask(STAINED, [payloads.box_around(mask), payloads.click_in(mask)])
        for mask in truth
    ]
    assert np.mean([iou(*pair) for pair in zip(truth, boxed, strict=True)]) > 0.6
    assert np.mean([iou(*pair) for pair in zip(truth, both, strict=True)]) > 0.6
    assert any((one != other).any() for one, other in zip(boxed, both, strict=True))


def test_refused_click_is_explained_in_the_log(project: Project, backend: Backend) -> None:
    (mask, *_) = payloads.objects(FLUORESCENCE)
    click = payloads.click_in(mask, "neither") | {"to_name": "image"}
    answer = project.server.interactive(project.backend, project.tasks[FLUORESCENCE], [click])
    assert "400" in str(answer["errors"])
    assert "The labeling config has nothing to draw neither with" in backend.log_text()
    assert project.mask(FLUORESCENCE, [payloads.click_in(mask)]).any()


def test_masks_survive_label_studios_own_export(project: Project) -> None:
    task = project.tasks[FLUORESCENCE]
    truth = payloads.objects(FLUORESCENCE)[:3]
    regions = [project.predict(FLUORESCENCE, [payloads.click_in(mask)])[0] for mask in truth]
    project.server.annotate(task, regions)
    with zipfile.ZipFile(
        io.BytesIO(project.server.export(project.number, "BRUSH_TO_PNG"))
    ) as zipped:
        exported = [np.asarray(Image.open(zipped.open(name))) > 127 for name in zipped.namelist()]
    assert len(exported) == 3
    for mask in truth:
        assert max(iou(mask, each) for each in exported) > 0.7


def test_polygons_and_their_export(server: LabelStudio, backend: Backend, tmp_path: Path) -> None:
    project = connect_project(server, backend, "polygon.xml", [FLUORESCENCE])
    truth = payloads.objects(FLUORESCENCE)[:4]
    regions = []
    for mask in truth:
        (region,) = project.predict(FLUORESCENCE, [payloads.click_in(mask, "object")])
        assert region["type"] == "polygonlabels"
        assert iou(payloads.mask_of([region], mask.shape), mask) > 0.7
        regions.append(region)
    server.annotate(project.tasks[FLUORESCENCE], regions)
    with zipfile.ZipFile(io.BytesIO(server.export(project.number, "COCO"))) as zipped:
        zipped.extractall(tmp_path)
    (file,) = tmp_path.glob("*.json")
    exported = COCO(file)
    masks = [exported.annToMask(each) > 0 for each in exported.loadAnns(exported.getAnnIds())]
    assert len(masks) == len(truth)
    assert all(iou(*pair) > 0.7 for pair in zip(truth, masks, strict=True))
