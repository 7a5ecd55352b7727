"""Whether a real Label Studio keeps our regions of every tag as predictions and as annotations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samlet.datasets.label_studio.regions import is_shape, to_mask, without_repetitions
from samlet.masks import crop_mask, iou
from samlet_labelstudio.label_studio.labeling_config import parse
from samlet_labelstudio.regions import to_results
from tests.labelstudio.label_studio import LabelStudio

SIZE = (90, 160)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]
DISC = (X - 80) ** 2 / 40**2 + (Y - 45) ** 2 / 25**2 < 1
LABELS = '<Label value="cell"/><Label value="debris"/>'
SHAPES = ("Brush", "Bitmask", "Polygon", "Vector", "Ellipse", "Rectangle")


def config(shape: str, kind: str) -> str:
    pages = 'valueList="$pages"' if kind == "pages" else 'value="$image"'
    image = f'<Image name="image" {pages}/>'
    if kind == "bare":
        tags = f'<Labels name="kind" toName="image">{LABELS}</Labels>'
        return f'<View>{tags}<{shape} name="mask" toName="image" closable="true"/>{image}</View>'
    labels, value = ("", 'value="$kinds"') if kind == "of the task" else (LABELS, "")
    control = f'<{shape}Labels name="mask" toName="image" closable="true" {value}>{labels}'
    return f"<View>{control}</{shape}Labels>{image}</View>"


# Label Studio 1.23.2 refuses tasks with labels for BitmaskLabels and VectorLabels.
KINDS = [
    (shape, kind)
    for shape in SHAPES
    for kind in ("labels", "bare", "of the task", "pages")
    if kind != "of the task" or shape not in ("Bitmask", "Vector")
]


@pytest.mark.parametrize(("shape", "kind"), KINDS)
def test_regions_are_kept(server: LabelStudio, shape: str, kind: str) -> None:
    text = config(shape, kind)
    data: dict[str, Any] = {
        "image": "/data/upload/1/a.png",
        "pages": ["/data/upload/1/a.png", "/data/upload/1/b.png"],
        "kinds": [{"value": "cell"}, {"value": "debris"}],
    }
    of_task = parse(text).for_task({"data": data})
    control = of_task.result_control("image", "debris")
    assert control is not None
    page = 1 if kind == "pages" else None
    regions = to_results(crop_mask(DISC), control, "debris", 0.9, page=page)
    prediction = {"model_version": "nuclei", "score": 0.9, "result": regions}

    project = server.create_project(f"{shape} {kind}", text)
    # Both ways in which predictions arrive: with tasks, and through the API.
    (imported,) = server.import_tasks(project, [{"data": data, "predictions": [prediction]}])
    (task,) = server.import_tasks(project, [{"data": data}])
    server.call("POST", "predictions/", json={"task": task, **prediction})
    for number in (imported, task):
        (kept,) = server.predictions(number)
        assert kept["result"] == regions and kept["score"] == 0.9
    server.annotate(task, regions)
    exported = json.loads(server.export(project))
    (annotation,) = [each["annotations"][0] for each in exported if each["id"] == task]
    assert annotation["result"] == regions
    (region,) = without_repetitions([each for each in annotation["result"] if is_shape(each)])
    mask = to_mask(region, Path("image"), SIZE, "The region")
    assert iou(mask, DISC) > (0.7 if shape == "Rectangle" else 0.9)
