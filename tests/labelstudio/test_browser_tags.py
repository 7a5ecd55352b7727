"""Labeling configs with other tags than the usual ones: Label Studio's page in Chromium."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samlet.datasets.label_studio.regions import is_shape, to_mask, without_repetitions
from samlet.masks import box_xyxy, deepest_point, iou
from tests.labelstudio import payloads
from tests.labelstudio.backend import Backend
from tests.labelstudio.browser import Browser
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.test_browser import at

DYNAMIC = "return window.Htx.annotationStore.selected.regions.map(region => region.dynamic)"
TOOLS = """
const image = window.Htx.annotationStore.selected.objects.find(o => o.type === 'image');
return image.getToolsManager().allTools().map(tool => tool.fullName);
"""
NAMES = ("fluorescence_2", "fluorescence_3")
IMAGE = '<Image name="image" value="$image"/>'
LABELS = '<Label value="cell"/><Label value="debris"/>'
CLICK = f'<KeyPointLabels name="click" toName="image" smart="true">{LABELS}</KeyPointLabels>'
NO_SMART_TOOLS = ("Ellipse", "Polygon", "Vector")
SHAPES = ("Brush", "Bitmask", "Vector", "Polygon", "Ellipse", "Rectangle")


def bare(shape: str, smart: str = "KeyPoint") -> str:
    """A config whose tags have no labels of their own."""
    return (
        f'<Labels name="kind" toName="image">{LABELS}</Labels>'
        f'<{shape} name="mask" toName="image" closable="true"/>'
        f'<{smart} name="click" toName="image" smart="true"/>{IMAGE}'
    )


CONFIGS = {
    "labels of the task": (
        '<KeyPointLabels name="click" toName="image" value="$kinds" smart="true"/>'
        f'<BrushLabels name="mask" toName="image" value="$kinds"/>{IMAGE}'
    ),
    # Without RectangleLabels, Label Studio 1.23.2 cannot export pages with KeyPointLabels at all.
    "pages": (
        f'{CLICK}<RectangleLabels name="box" toName="image" smart="true">{LABELS}</RectangleLabels>'
        f'<BrushLabels name="mask" toName="image">{LABELS}</BrushLabels>'
        + IMAGE.replace("value", "valueList").replace("$image", "$pages")
    ),
}


def open_new_project(
    server: LabelStudio,
    browser: Browser,
    title: str,
    config: str,
    backend: Backend,
    data: dict[str, Any] | None = None,
) -> int:
    """Open the only task of a new project, with smart tools switched on."""
    project = server.create_project(title, f"<View>{config}</View>", show_collab_predictions=False)
    server.connect_backend(project, backend.url)
    image = payloads.data_uri(payloads.image_file(NAMES[0]))
    (task,) = server.import_tasks(project, [{"data": {"image": image, **(data or {})}}])
    browser.open_task(project, task)
    # As it is kept from page to page, another test may have left it on.
    browser.keep_label_selected(False)
    browser.auto_annotate()
    return project


def submitted(server: LabelStudio, project: int) -> list[dict[str, Any]]:
    """The entries of the only annotation, in Label Studio's JSON export."""
    (exported,) = json.loads(server.export(project))
    return list(exported["annotations"][0]["result"])


def read_again(region: dict[str, Any], truth: np.ndarray) -> float:
    """The IoU of an object with what `samlet finetune` reads of a region."""
    return iou(to_mask(region, Path("image"), truth.shape[:2], "The region"), truth)


@pytest.mark.parametrize("shape", ["Brush", pytest.param("Bitmask", marks=pytest.mark.slow)])
def test_strokes_are_not_sent(
    server: LabelStudio, backend: Backend, browser: Browser, shape: str
) -> None:
    """Label Studio has smart brushes, but only sends regions that are "dynamic"; these are not.

    If this fails, they are answered: change the guide's table of tags.
    """
    config = (
        f'<{shape}Labels name="stroke" toName="image" smart="true">{LABELS}</{shape}Labels>'
        f'<PolygonLabels name="mask" toName="image">{LABELS}</PolygonLabels>{IMAGE}'
    )
    project = open_new_project(server, browser, f"Smart {shape}", config, backend)
    nucleus = payloads.objects(NAMES[0])[1]
    x, y = deepest_point(nucleus)
    browser.choose_smart_tool(f"{shape}Tool")
    browser.choose_label("stroke", "debris")
    browser.drag([at((x + dx, y), nucleus) for dx in (-3, 0, 3)])
    browser.wait("return window.Htx.annotationStore.selected.regions.length === 1")
    assert browser.driver.execute_script(DYNAMIC) == [False]
    browser.submit()
    # It is an annotator's region like others, from which is learnt.
    (region,) = submitted(server, project)
    assert region["from_name"] == "stroke" and is_shape(region)
    assert to_mask(region, Path("image"), nucleus.shape, "The region")[y, x]


@pytest.mark.parametrize("shape", NO_SMART_TOOLS)
def test_tags_without_a_smart_tool(
    server: LabelStudio, backend: Backend, browser: Browser, shape: str
) -> None:
    """If this fails, Label Studio has one: change the guide's table of tags."""
    config = (
        f'<{shape}Labels name="shape" toName="image" smart="true" closable="true">{LABELS}'
        f"</{shape}Labels>{IMAGE}"
    )
    open_new_project(server, browser, f"Smart {shape}", config, backend)
    assert browser.driver.execute_script(TOOLS)
    assert not any(name.endswith("-dynamic") for name in browser.driver.execute_script(TOOLS))


def submit_clicked(browser: Browser, labels: str) -> np.ndarray:
    """Click on a nucleus as debris, accept what is suggested and submit it; gives the nucleus."""
    nucleus = payloads.objects(NAMES[0])[1]
    browser.choose_smart_tool("KeyPointTool")
    browser.choose_label(labels, "debris")
    browser.click(*at(deepest_point(nucleus), nucleus))
    browser.wait_for_suggestions()
    browser.accept_suggestions()
    browser.submit()
    return nucleus


@pytest.mark.parametrize(
    "shape", [*SHAPES[:1], *(pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES[1:])]
)
def test_tags_whose_label_is_in_a_labels_tag(
    server: LabelStudio, backend: Backend, browser: Browser, shape: str
) -> None:
    project = open_new_project(server, browser, f"Bare {shape}", bare(shape), backend)
    nucleus = submit_clicked(browser, "kind")
    region, label = submitted(server, project)
    assert (region["from_name"], region["type"]) == ("mask", shape.lower())
    assert (label["id"], label["type"], label["value"]["labels"]) == (
        region["id"],
        "labels",
        ["debris"],
    )
    assert read_again(region, nucleus) > (0.6 if shape == "Rectangle" else 0.8)


def test_a_box_whose_label_is_in_a_labels_tag(
    server: LabelStudio, backend: Backend, browser: Browser
) -> None:
    config = bare("Bitmask", smart="Rectangle")
    project = open_new_project(server, browser, "Bare box", config, backend)
    nucleus = payloads.objects(NAMES[0])[1]
    x0, y0, x1, y1 = box_xyxy(nucleus)
    height, width = nucleus.shape
    browser.choose_smart_tool("RectangleTool")
    browser.choose_label("kind", "debris")
    browser.drag([(x0 / width, y0 / height), (x1 / width, y1 / height)])
    browser.wait_for_suggestions()
    browser.accept_suggestions()
    browser.submit()
    region, label = submitted(server, project)
    assert (region["from_name"], label["value"]["labels"]) == ("mask", ["debris"])
    assert read_again(region, nucleus) > 0.8


@pytest.mark.parametrize("kind", CONFIGS)
def test_labels_of_the_task_and_pages(
    server: LabelStudio, backend: Backend, browser: Browser, kind: str
) -> None:
    urls = [payloads.data_uri(payloads.image_file(name)) for name in NAMES]
    data = {"pages": urls, "kinds": [{"value": "cell"}, {"value": "debris"}]}
    project = open_new_project(server, browser, kind, CONFIGS[kind], backend, data)
    nucleus = submit_clicked(browser, "click")
    (region,) = without_repetitions(submitted(server, project))
    assert region["from_name"] == "mask" and region.get("item_index", 0) == 0
    assert region["value"][region["type"]] == ["debris"]
    assert read_again(region, nucleus) > 0.8
