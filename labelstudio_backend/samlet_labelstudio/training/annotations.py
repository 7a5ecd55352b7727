"""A project's annotations and their images, as `samlet finetune` reads them."""

import json
import logging
from pathlib import Path
from typing import Any

from samlet.datasets.label_studio.export import image_key, page_number, pages_of
from samlet.datasets.label_studio.regions import is_shape
from samlet.errors import UserError
from samlet.images import IMAGE_SUFFIXES
from samlet_labelstudio.images.fetching import fetch
from samlet_labelstudio.label_studio.client import connect, label_studio_errors
from samlet_labelstudio.settings import Settings

log = logging.getLogger(__name__)

IMAGES = "images"
ANNOTATIONS = "annotations.json"
TIMEOUT_SECONDS = 600


def export_annotations(project: str, folder: Path, settings: Settings) -> int:
    """Write `images/` and `annotations.json`, Label Studio's own JSON, into a folder.

    Each image is named by its task's number, and its page if it has several. Tasks without a
    submitted shape, and images that cannot be fetched, are skipped.

    Args:
        project: its number.
        folder: made if need be.
        settings: where Label Studio is.

    Returns:
        how many images were written.

    Raises:
        UserError: Label Studio does not answer.
        OSError: the folder cannot be written.
    """
    client = connect(settings)
    with label_studio_errors(settings):
        exported = client.projects.exports.as_json(int(project or 0), timeout=TIMEOUT_SECONDS)
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    kept, count = [], 0
    for task in exported:
        shapes = _shapes(task)
        key = image_key(task.get("data", {}), shapes[0]) if shapes else None
        if key is None:
            continue
        urls = pages_of(task["data"][key])
        is_paged = isinstance(task["data"][key], list)
        names = [
            f"{task['id']}{f'-{page}' if is_paged else ''}{_suffix(url)}"
            for page, url in enumerate(urls)
        ]
        written = sum(
            _write_image(urls[page], folder / IMAGES / names[page], task, settings)
            for page in {page_number(shape) for shape in shapes}
            if 0 <= page < len(urls)
        )
        if written:
            kept.append(task | {"data": {key: names if is_paged else names[0]}})
            count += written
    (folder / ANNOTATIONS).write_text(json.dumps(kept), encoding="utf-8")
    return count


def _shapes(task: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        result
        for annotation in task.get("annotations", [])
        if not annotation.get("was_cancelled")
        for result in annotation.get("result", [])
        if is_shape(result)
    ]


def _write_image(url: str, path: Path, task: dict[str, Any], settings: Settings) -> bool:
    try:
        content = fetch(url, task.get("id"), settings)
    except UserError as error:
        log.warning("Task %s was skipped: %s", task.get("id"), error)
        return False
    path.write_bytes(content)
    return True


def _suffix(url: str) -> str:
    """The image's suffix; readers go by content, but consider only files that have one."""
    path = url.partition("?")[0] if "?d=" not in url else url
    suffix = Path(path).suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES and not url.startswith("data:") else ".png"
