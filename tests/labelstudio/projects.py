"""Projects of a real Label Studio with bundled images, and masks as Label Studio itself reads them.

Their configs call the image "image", and the smart controls "click" and "box".
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from label_studio_sdk.converter.brush import decode_rle

from samlet.masks import iou
from samlet.samples import IMAGES
from tests.labelstudio.backend import Backend
from tests.labelstudio.label_studio import ROOT, LabelStudio

CONFIGS = ROOT / "labelstudio_backend" / "configs"


@dataclass(frozen=True)
class Project:
    """A project that a backend is connected to.

    Attributes:
        server: that has it.
        number: its own.
        backend: number of the connection.
        tasks: their numbers by the image's name.
    """

    server: LabelStudio
    number: int
    backend: int
    tasks: dict[str, int]

    def predict(self, name: str, prompts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the page would show for prompts on an image."""
        drawn = [prompt | {"to_name": "image"} for prompt in prompts]
        answer = self.server.interactive(self.backend, self.tasks[name], drawn)
        assert "errors" not in answer, answer
        return list(answer["data"]["result"])

    def mask(self, name: str, prompts: Sequence[dict[str, Any]]) -> np.ndarray:
        """The same, where one brush mask is expected."""
        (region,) = self.predict(name, prompts)
        return brush_mask(region)


def init_project(
    server: LabelStudio, backend: Backend, title: str, names: Iterable[str], folder: Path
) -> Project:
    """Make a project with `samlet-labelstudio init-project` and upload bundled images.

    Args:
        server: where.
        backend: that is connected.
        title: of the project.
        names: of the images.
        folder: empty; the images are put there.
    """
    for name in names:
        shutil.copy(IMAGES / f"{name}.png", folder)
    arguments = ("--title", title, "--labels", "cell,debris", "--images", str(folder))
    output = backend.command("init-project", *arguments, "--backend-url", backend.url)
    number = int(output.partition("/projects/")[2].partition(",")[0])
    (connection,) = server.call("GET", "ml/", params={"project": number}).json()
    return Project(server, number, int(connection["id"]), tasks_by_name(server, number))


def connect_project(
    server: LabelStudio, backend: Backend, config: str, names: Iterable[str]
) -> Project:
    """Make a project through Label Studio's API.

    Args:
        server: where.
        backend: that is connected.
        config: a file's name in `labelstudio_backend/configs`.
        names: of bundled images.
    """
    text = (CONFIGS / config).read_text(encoding="utf-8")
    number = server.create_project(config, text, show_collab_predictions=False)
    connection = server.connect_backend(number, backend.url)
    tasks = {name: server.upload_image(number, IMAGES / f"{name}.png") for name in names}
    return Project(server, number, connection, tasks)


def tasks_by_name(server: LabelStudio, project: int) -> dict[str, int]:
    """Numbers of tasks by their image's name; Label Studio puts "12345678-" before it."""
    addresses = {task: server.task(task)["data"]["image"] for task in server.task_ids(project)}
    return {Path(url).stem.partition("-")[2]: task for task, url in addresses.items()}


def brush_mask(region: dict[str, Any]) -> np.ndarray:
    """A brush region, read by Label Studio's own converter."""
    size = region["original_height"], region["original_width"]
    alpha = decode_rle(region["value"]["rle"]).reshape(*size, 4)[..., 3]
    return alpha > 127


def mean_of_best(truth: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """The highest IoU that each object has with a found one, on average."""
    return float(np.mean([max(iou(mask, each) for each in found) for mask in truth]))
