"""An annotator at work: Label Studio's page in Chromium, and the backend's masks in the export."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver.support.ui import WebDriverWait

from samlet.datasets import find_labelled_images, iter_objects
from samlet.masks import box_xyxy, deepest_point, iou
from samlet.samples import IMAGES
from tests.labelstudio import payloads
from tests.labelstudio.backend import Backend
from tests.labelstudio.browser import WAIT_S, Browser
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.projects import CONFIGS, Project, brush_mask, init_project

STAINED = "stained_1"
CROWDED = "fluorescence_3"
FLUORESCENCE = "fluorescence_2"


@pytest.fixture(scope="module")
def project(
    server: LabelStudio, backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    folder = tmp_path_factory.mktemp("images")
    return init_project(server, backend, "In a browser", (STAINED, CROWDED, FLUORESCENCE), folder)


def at(point: tuple[int, int], mask: np.ndarray) -> tuple[float, float]:
    """Where the centre of a pixel (x, y) is, as a fraction of the image."""
    height, width = mask.shape
    return (point[0] + 0.5) / width, (point[1] + 0.5) / height


def suggested(browser: Browser) -> np.ndarray:
    """The mask that the page shows for the latest prompts."""
    (region,) = browser.suggestions()
    return brush_mask(region)


def submitted(project: Project, name: str) -> list[dict[str, Any]]:
    """The regions of an image's only annotation, in Label Studio's JSON export."""
    exported = json.loads(project.server.export(project.number))
    (task,) = [each for each in exported if each["id"] == project.tasks[name]]
    (annotation,) = task["annotations"]
    return list(annotation["result"])


def start(browser: Browser, project: Project, name: str, tool: str) -> None:
    """Open an image, and switch a smart tool on."""
    browser.open_task(project.number, project.tasks[name])
    browser.auto_annotate()
    browser.choose_smart_tool(tool)


def accept_and_submit(browser: Browser, project: Project, name: str) -> list[np.ndarray]:
    """The masks that Label Studio has afterwards."""
    browser.accept_suggestions()
    browser.submit()
    regions = submitted(project, name)
    for region in regions:
        assert (region["type"], region["from_name"]) == ("brushlabels", "mask")
        assert region["value"]["brushlabels"] == ["cell"]
    return [brush_mask(region) for region in regions]


def test_second_click_refines_the_first(browser: Browser, project: Project) -> None:
    mask = payloads.objects(STAINED)[8]
    start(browser, project, STAINED, "KeyPointTool")
    browser.choose_label("click", "cell")
    browser.click(*at(deepest_point(mask), mask))
    browser.wait_for_suggestions()
    first = suggested(browser)
    assert iou(first, mask) > 0.3

    browser.choose_label("click", "cell")
    browser.click(*at(deepest_point(mask & ~first), mask))
    browser.wait_for_suggestions()
    second = suggested(browser)
    assert iou(second, mask) > max(0.6, iou(first, mask))

    (kept,) = accept_and_submit(browser, project, STAINED)
    assert (kept == second).all()


def test_box_then_another_object_with_an_alt_click(browser: Browser, project: Project) -> None:
    boxed, clicked = (payloads.objects(CROWDED)[number] for number in (6, 14))
    x0, y0, x1, y1 = box_xyxy(boxed)
    height, width = boxed.shape
    start(browser, project, CROWDED, "RectangleTool")
    browser.choose_label("box", "cell")
    browser.drag([(x0 / width, y0 / height), (x1 / width, y1 / height)])
    browser.wait_for_suggestions()
    assert iou(suggested(browser), boxed) > 0.7
    browser.accept_suggestions()

    browser.choose_smart_tool("KeyPointTool")
    browser.choose_label("click", "cell")
    browser.click(*at(deepest_point(clicked), clicked))
    browser.wait_for_suggestions()
    x, y = deepest_point(suggested(browser) & ~clicked)
    browser.choose_label("click", "cell")
    browser.click(*at((x, y), clicked), negative=True)
    browser.wait_for_suggestions()
    assert not suggested(browser)[y, x]

    masks = accept_and_submit(browser, project, CROWDED)
    assert len(masks) == 2
    assert max(iou(mask, boxed) for mask in masks) > 0.7
    assert max(iou(mask, clicked) for mask in masks) > 0.4


def test_objects_that_were_accepted_with_the_label_kept(
    browser: Browser, project: Project, tmp_path: Path
) -> None:
    """Label Studio stores each of them twice, the second time with the smart tool's label."""
    truth = payloads.objects(FLUORESCENCE)[:2]
    start(browser, project, FLUORESCENCE, "KeyPointTool")
    browser.keep_label_selected()
    browser.choose_label("click", "cell")
    for mask in truth:
        browser.click(*at(deepest_point(mask), mask))
        browser.wait_for_suggestions()
        browser.accept_suggestions()
    browser.submit()
    regions = submitted(project, FLUORESCENCE)
    assert sorted(region["from_name"] for region in regions) == ["click", "click", "mask", "mask"]
    assert len({region["id"] for region in regions}) == 2

    (tmp_path / "images").mkdir()
    image = project.server.task(project.tasks[FLUORESCENCE])["data"]["image"]
    shutil.copy(IMAGES / f"{FLUORESCENCE}.png", tmp_path / "images" / Path(image).name)
    (tmp_path / "export.json").write_bytes(project.server.export(project.number))
    (item,) = find_labelled_images(tmp_path / "images", tmp_path / "export.json")
    objects = [mask for _, mask in iter_objects(item.read_layers())]
    assert len(objects) == 2
    for mask in truth:
        assert max(iou(mask, each) for each in objects) > 0.7


def has_saved_mask(project: Project, name: str) -> bool:
    """Whether Label Studio has saved a mask in the draft of an image."""
    drafts = project.server.task(project.tasks[name])["drafts"]
    return any(region["from_name"] == "mask" for draft in drafts for region in draft["result"])


@pytest.mark.slow
def test_all_objects_like_the_clicked_one(
    server: LabelStudio, backend: Backend, browser: Browser
) -> None:
    """The config of the guide; one object is accepted before, and saved in the draft."""
    truth = payloads.objects(FLUORESCENCE)
    config = (CONFIGS / "similar.xml").read_text()
    number = server.create_project("Similar", config, show_collab_predictions=False)
    connection = server.connect_backend(number, backend.url)
    data = {"image": payloads.data_uri(payloads.image_file(FLUORESCENCE))}
    (task,) = server.import_tasks(number, [{"data": data}])
    project = Project(server, number, connection, {FLUORESCENCE: task})
    browser.open_task(number, task)
    # As it is kept from page to page, another test may have left it on.
    browser.keep_label_selected(False)
    browser.auto_annotate()
    browser.choose_smart_tool("KeyPointTool")
    browser.choose_label("click", "object")
    browser.click(*at(deepest_point(truth[2]), truth[2]))
    browser.wait_for_suggestions()
    browser.accept_suggestions()
    WebDriverWait(browser.driver, WAIT_S).until(lambda _: has_saved_mask(project, FLUORESCENCE))
    browser.choose_label("click", "all like object")
    browser.click(*at(deepest_point(truth[1]), truth[1]))
    browser.wait_for_suggestions(4)
    browser.accept_suggestions()
    browser.submit()
    regions = submitted(project, FLUORESCENCE)
    assert {region["from_name"] for region in regions} == {"mask"}
    masks = [brush_mask(region) for region in regions]
    assert sum(any(iou(mask, nucleus) > 0.5 for mask in masks) for nucleus in truth[:12]) >= 7
    assert sum(iou(mask, truth[2]) > 0.5 for mask in masks) == 1
