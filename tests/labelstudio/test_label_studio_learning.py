"""A training from Label Studio's own dialog, long enough for clicks that are better than before."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from samlet.masks import crop_mask, iou
from samlet_labelstudio.label_studio import labeling_config
from samlet_labelstudio.regions import to_results
from tests.labelstudio import backend as backends
from tests.labelstudio import payloads
from tests.labelstudio.backend import Backend
from tests.labelstudio.browser import Browser
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.projects import CONFIGS, Project
from tests.labelstudio.test_label_studio_training import poll

pytestmark = pytest.mark.slow

NAME = "phase_contrast_1"
"""The bundled model does not outline its cells well."""
STEPS = 60
LEAST_AREA = 200
"""Of an object that the border of a part does not make too small to click on."""


@pytest.fixture(scope="module")
def learner(server: LabelStudio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("learner")
    with backends.running(server, folder, SAMLET_TRAIN_STEPS=str(STEPS)) as started:
        yield started


def parts() -> dict[str, tuple[np.ndarray, list[np.ndarray]]]:
    """Four quarters of the image, and the masks of the objects in each."""
    image, objects = payloads.rgb(NAME), payloads.objects(NAME)
    height, width = (side // 2 for side in image.shape[:2])
    found = {}
    for row in (0, 1):
        for column in (0, 1):
            here = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
            masks = [mask[here] for mask in objects if mask[here].sum() >= LEAST_AREA]
            found[f"{row}{column}"] = image[here], masks
    return found


def test_clicks_are_better_afterwards(
    server: LabelStudio, learner: Backend, browser: Browser, tmp_path: Path
) -> None:
    """Three quarters of an image are annotated, and clicks are made in the fourth."""
    text = (CONFIGS / "brush.xml").read_text(encoding="utf-8")
    control = labeling_config.parse(text).result_control("image", "object")
    assert control is not None
    number = server.create_project("Learning", text)
    quarters, tasks = parts(), {}
    for name, (image, _) in quarters.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(payloads.png(image))
        tasks[name] = server.upload_image(number, path)
    project = Project(server, number, server.connect_backend(number, learner.url), tasks)
    *annotated, unseen = quarters
    for name in annotated:
        masks = map(crop_mask, quarters[name][1])
        regions = [to_results(mask, control, "object", 1.0)[0] for mask in masks]
        server.annotate(tasks[name], regions)

    def quality() -> float:
        objects = quarters[unseen][1]
        clicks = (payloads.click_in(mask, "object") for mask in objects)
        return float(
            np.mean(
                [
                    iou(project.mask(unseen, [click]), mask)
                    for click, mask in zip(clicks, objects, strict=True)
                ]
            )
        )

    before = quality()
    browser.start_training(number)
    (name,) = poll(learner, lambda: learner.versions(number)[1:])
    poll(learner, lambda: f"{name} was trained, and is used" in learner.log_text())
    after = quality()
    print(f"mean IoU of {len(quarters[unseen][1])} clicks: {before:.3f} before, {after:.3f} after")
    assert after > before, learner.log_text()
