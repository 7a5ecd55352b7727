"""A project's annotations and their images, as `samlet finetune` reads them."""

import json
import logging
from pathlib import Path
from typing import Any

from samlet.datasets.label_studio.export import image_key
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

    Each image is named by its task's number. Tasks without a submitted shape, and those whose image
    cannot be fetched, are skipped.

    Args:
        project: its number.
        folder: made if need be.
        settings: where Label Studio is.

    Returns:
        how many tasks were written.

    Raises:
        UserError: Label Studio does not answer.
        OSError: the folder cannot be written.
    """
    client = connect(settings)
    with label_studio_errors(settings):
        exported = client.projects.exports.as_json(int(project or 0), timeout=TIMEOUT_SECONDS)
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    kept = []
    for task in exported:
        key = _image_key(task)
        url = None if key is None else task["data"].get(key)
        if not isinstance(url, str):
            continue
        try:
            content = fetch(url, task.get("id"), settings)
        except UserError as error:
            log.warning("Task %s was skipped: %s", task.get("id"), error)
            continue
        name = f"{task['id']}{_suffix(url)}"
        (folder / IMAGES / name).write_bytes(content)
        kept.append(task | {"data": {key: name}})
    (folder / ANNOTATIONS).write_text(json.dumps(kept), encoding="utf-8")
    return len(kept)


def _image_key(task: dict[str, Any]) -> str | None:
    """The key of a task's data whose image has shapes; None if there is none."""
    shapes = (
        result
        for annotation in task.get("annotations", [])
        if not annotation.get("was_cancelled")
        for result in annotation.get("result", [])
        if is_shape(result)
    )
    shape = next(shapes, None)
    return None if shape is None else image_key(task.get("data", {}), shape)


def _suffix(url: str) -> str:
    """The image's suffix; readers go by content, but consider only files that have one."""
    path = url.partition("?")[0] if "?d=" not in url else url
    suffix = Path(path).suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES and not url.startswith("data:") else ".png"
