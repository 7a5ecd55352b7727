"""The annotations of a project as COCO instances, whatever tags they were drawn with.

Label Studio's own COCO export has rectangles and polygons only, its export of brush masks only
outlines without holes, and its YOLO export no polygons if there are KeyPointLabels.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from samlet import images
from samlet.datasets import json_files
from samlet.datasets.label_studio.export import newest_annotation, shapes_by_image
from samlet.datasets.label_studio.regions import to_mask
from samlet.errors import UserError
from samlet.masks import area, box_xyxy, to_rle
from samlet.utils.files import atomic_path
from samlet_labelstudio.images.fetching import fetch
from samlet_labelstudio.label_studio.client import connect, label_studio_errors
from samlet_labelstudio.regions.prompts import labels_by_region
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training.annotations import TIMEOUT_SECONDS

WITHOUT_LABEL = "object"
"""The category of regions that have no label."""


@dataclass
class CocoExport:
    """What `export_coco` has written.

    Attributes:
        images: entries of the images, with and without objects.
        annotations: entries of the objects.
        categories: the number of each label.
        skipped: a sentence for each task or region that was left out.
    """

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    categories: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def add_image(self, url: str, size: tuple[int, int]) -> int:
        """Add an image at a URL, of a size (H, W), and give its number."""
        number = len(self.images) + 1
        named = {"id": number, "file_name": file_name(url, number)}
        self.images.append({**named, "height": size[0], "width": size[1]})
        return number

    def add_region(
        self, image: int, result: dict[str, Any], label: str, url: str, where: str
    ) -> None:
        """Add a region of an image.

        Raises:
            UserError: it cannot be read, or covers no pixel.
        """
        of_image = self.images[image - 1]
        size = (of_image["height"], of_image["width"])
        mask = to_mask(result, Path(of_image["file_name"]), size, where)
        if not mask.any():
            raise UserError(f"{where}, region {result.get('id')}, covers no pixel of its image.")
        rle = to_rle(mask)
        x0, y0, x1, y1 = (float(side) for side in box_xyxy(mask))
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image,
                "category_id": self.categories.setdefault(label, len(self.categories) + 1),
                "iscrowd": 0,
                "segmentation": rle,
                "area": int(area(mask)),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
            }
        )

    def content(self) -> dict[str, Any]:
        """The COCO file."""
        categories = [
            {"id": number, "name": name, "supercategory": ""}
            for name, number in self.categories.items()
        ]
        return {
            "info": {"description": "Written by samlet from annotations in Label Studio"},
            "images": self.images,
            "categories": categories,
            "annotations": self.annotations,
        }


def export_coco(project: int, out: Path, settings: Settings) -> CocoExport:
    """Write the annotations of a project as COCO instances, their masks as RLE.

    Of each task the newest annotation counts that was not cancelled. Images are fetched only where
    there are no regions that say how large they are.

    Args:
        project: its number.
        out: the JSON file.
        settings: where Label Studio is.

    Raises:
        UserError: Label Studio does not answer, or the file cannot be written.
    """
    client = connect(settings)
    with label_studio_errors(settings):
        tasks = client.projects.exports.as_json(project, timeout=TIMEOUT_SECONDS)
    made = CocoExport()
    for task in tasks:
        where = f"Task {task.get('id')}"
        try:
            _add_task(made, task, where, settings)
        except UserError as error:
            made.skipped.append(str(error))
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(made.content()), encoding="utf-8")
    return made


def file_name(url: str, number: int) -> str:
    """The name of the file at an address of a task; one made of a number for a data URI."""
    if url.startswith("data:"):
        return f"{number}.png"
    parts = urlsplit(url)
    # Local files: /data/local-files/?d=folder/name.png
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    return path.replace("\\", "/").rpartition("/")[2]


def _add_task(made: CocoExport, task: dict[str, Any], where: str, settings: Settings) -> None:
    annotation = newest_annotation(task, where)
    if annotation is None:
        return
    labels = labels_by_region(annotation["result"])
    for url, results in shapes_by_image(task, annotation, where).items():
        image = made.add_image(url, _size(url, results, task, settings, where))
        for result in results:
            try:
                made.add_region(image, result, _label(result, labels), url, where)
            except UserError as error:
                made.skipped.append(str(error))


def _size(
    url: str, results: list[dict[str, Any]], task: dict[str, Any], settings: Settings, where: str
) -> tuple[int, int]:
    for result in results:
        stated = json_files.stated_size(result, "original_width", "original_height", where)
        if stated is not None:
            return int(stated[0]), int(stated[1])
    content = fetch(url, task.get("id"), settings)
    height, width = images.read(
        f"The image of {where}", content=content, max_pixels=settings.max_pixels
    ).shape[:2]
    return height, width


def _label(result: dict[str, Any], labels: dict[str, Any]) -> str:
    """The first label of a region, in its own field or in an entry of its Labels tag."""
    found = result.get("value", {}).get(result["type"]) or labels.get(str(result.get("id")))
    return str(found[0]) if isinstance(found, list) and found else WITHOUT_LABEL
