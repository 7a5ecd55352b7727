"""What Label Studio sends to a backend, about the bundled images, and how answers are read."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from samlet.datasets.label_studio.regions import to_mask
from samlet.masks import box_xyxy, deepest_point
from samlet.samples import IMAGES, LABELS

Task = dict[str, Any]
Region = dict[str, Any]
ANSWERS = (
    "BrushLabels",
    "PolygonLabels",
    "RectangleLabels",
    "EllipseLabels",
    "BitmaskLabels",
    "VectorLabels",
)


def config(answer: str = "BrushLabels", labels: Sequence[str] = ("cell", "debris")) -> str:
    """A labeling config with smart clicks, boxes and strokes, and one control that answers."""
    inner = "".join(f'<Label value="{label}"/>' for label in labels)
    closable = ' closable="true"' if answer == "VectorLabels" else ""
    return (
        '<View><Image name="img" value="$image"/>'
        f'<{answer} name="answer" toName="img"{closable}>{inner}</{answer}>'
        f'<KeyPointLabels name="click" toName="img" smart="true">{inner}</KeyPointLabels>'
        f'<RectangleLabels name="box" toName="img" smart="true">{inner}</RectangleLabels>'
        "</View>"
    )


def png(image: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def image_file(name: str) -> bytes:
    return (IMAGES / f"{name}.png").read_bytes()


def data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def rgb(name: str) -> np.ndarray:
    return np.asarray(Image.open(IMAGES / f"{name}.png").convert("RGB"))


def label_map(name: str) -> np.ndarray:
    return np.asarray(Image.open(LABELS / f"{name}.png"))


def objects(name: str) -> list[np.ndarray]:
    """The masks of a bundled image's labels, the largest first."""
    labels = label_map(name)
    masks = [labels == number for number in np.unique(labels)[1:]]
    return sorted(masks, key=lambda mask: -int(mask.sum()))


def task(content: bytes | str, number: int = 1, **more: Any) -> Task:
    """A task whose image is a file's content, or is at an address."""
    url = content if isinstance(content, str) else data_uri(content)
    return {"id": number, "data": {"image": url}, **more}


def click(
    x: float, y: float, size: tuple[int, int], label: str = "cell", positive: bool = True
) -> Region:
    """A smart click on the centre of a pixel of an image of a size (H, W)."""
    value = {"x": 100 * (x + 0.5) / size[1], "y": 100 * (y + 0.5) / size[0], "width": 0.3}
    return _region("click", "keypointlabels", value, size, label) | {"is_positive": positive}


def click_in(mask: np.ndarray, label: str = "cell", positive: bool = True) -> Region:
    x, y = deepest_point(mask)
    return click(x, y, mask.shape[:2], label, positive)


def box_around(mask: np.ndarray, label: str = "cell") -> Region:
    return box(box_xyxy(mask), mask.shape[:2], label)


def box(
    corners: tuple[float, float, float, float], size: tuple[int, ...], label: str = "cell"
) -> Region:
    """A box by x0, y0, x1, y1 along pixel edges, in an image of a size (H, W)."""
    x0, y0, x1, y1 = (float(side) for side in corners)
    height, width = size
    value = {
        "x": 100 * x0 / width,
        "y": 100 * y0 / height,
        "width": 100 * (x1 - x0) / width,
        "height": 100 * (y1 - y0) / height,
        "rotation": 0,
    }
    return _region("box", "rectanglelabels", value, size, label)


def _region(
    control: str, kind: str, value: dict[str, Any], size: tuple[int, ...], label: str
) -> Region:
    return {
        "id": "abc",
        "from_name": control,
        "to_name": "img",
        "type": kind,
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "value": {**value, kind: [label]},
    }


def request(
    tasks: Sequence[Task],
    drawn: Sequence[Region] | None = None,
    text: str | None = None,
    project: str = "1.1700000000",
) -> dict[str, Any]:
    """The body of a request to /predict; `drawn`: what an annotator drew with smart tools."""
    context = None if drawn is None else {"result": list(drawn)}
    return {
        "tasks": list(tasks),
        "project": project,
        "label_config": config() if text is None else text,
        "params": {"login": None, "password": None, "context": context},
    }


def mask_of(results: Sequence[Region], size: tuple[int, ...]) -> np.ndarray:
    """Draw regions again, with the code that reads Label Studio's exports."""
    height, width = size[:2]
    mask = np.zeros((height, width), bool)
    for result in results:
        mask |= to_mask(result, Path("a.png"), (height, width), "The answer")
    return mask
