"""Labeling configs with other tags than the usual ones: Label Studio's page in Chromium."""

import json
from pathlib import Path
from typing import Any

import pytest

from samlet.datasets.label_studio.regions import is_shape, to_mask, without_repetitions
from samlet.masks import deepest_point, iou
from samlet.samples import IMAGES
from tests.labelstudio import payloads
from tests.labelstudio.backend import Backend
from tests.labelstudio.browser import Browser
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.test_browser import at

NAMES = ("fluorescence_2", "fluorescence_3")
IMAGE = '<Image name="image" value="$image"/>'
LABELS = '<Label value="cell"/><Label value="debris"/>'
CLICK = f'<KeyPointLabels name="click" toName="image" smart="true">{LABELS}</KeyPointLabels>'
CONFIGS = {
    "bitmask": f'{CLICK}<BitmaskLabels name="mask" toName="image">{LABELS}</BitmaskLabels>{IMAGE}',
    "vector": (
        f'{CLICK}<VectorLabels name="mask" toName="image" closable="true">{LABELS}</VectorLabels>'
        + IMAGE
    ),
    "bare brush": (
        f'<Labels name="kind" toName="image">{LABELS}</Labels><Brush name="mask" toName="image"/>'
        f'<KeyPoint name="click" toName="image" smart="true"/>{IMAGE}'
    ),
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


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_click_is_answered_accepted_and_read_again(
    server: LabelStudio, backend: Backend, browser: Browser, kind: str
) -> None:
    project = server.create_project(
        kind, f"<View>{CONFIGS[kind]}</View>", show_collab_predictions=False
    )
    server.connect_backend(project, backend.url)
    urls = [payloads.data_uri((IMAGES / f"{name}.png").read_bytes()) for name in NAMES]
    data: dict[str, Any] = {"image": urls[0], "pages": urls}
    data["kinds"] = [{"value": "cell"}, {"value": "debris"}]
    (task,) = server.import_tasks(project, [{"data": data}])
    nucleus = payloads.objects(NAMES[0])[1]

    browser.open_task(project, task)
    # As it is kept from page to page, another test may have left it on.
    browser.keep_label_selected(False)
    browser.auto_annotate()
    browser.choose_smart_tool("KeyPointTool")
    browser.choose_label("kind" if kind == "bare brush" else "click", "debris")
    browser.click(*at(deepest_point(nucleus), nucleus))
    browser.wait_for_suggestions()
    browser.accept_suggestions()
    browser.submit()

    (exported,) = json.loads(server.export(project))
    results = exported["annotations"][0]["result"]
    (region,) = without_repetitions([each for each in results if is_shape(each)])
    assert region["from_name"] == "mask" and region.get("item_index", 0) == 0
    named = [each["value"].get(each["type"]) for each in results if "labels" in each["type"]]
    assert named == [["debris"]]
    mask = to_mask(region, Path("image"), nucleus.shape[:2], "The region")
    assert iou(mask, nucleus) > 0.8
