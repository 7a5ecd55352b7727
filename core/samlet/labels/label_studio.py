"""Labels as Label Studio exports them ("JSON"): https://labelstud.io/guide/task_format."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from samlet.errors import UserError
from samlet.labels import json_files
from samlet.labels.labelled import Labelled, image_size
from samlet.labels.layers import pack
from samlet.labels.regions import is_shape, to_mask
from samlet.labels.uploads import Uploads, is_image


def find(images: Path, paths: Sequence[Path], source: Path, tasks: list[Any]) -> list[Labelled]:
    """Find the images of the annotated tasks; see `samlet.labels.find`.

    Of each task the newest annotation counts that was not cancelled (skipped); without shapes, it
    says that there are no objects. Tasks whose image is not in the folder are passed over.

    Args:
        images: the folder of the images.
        paths: image files below it.
        source: the JSON file.
        tasks: what it holds.

    Raises:
        UserError: fields are missing, a name fits two images, two tasks label one image, or there
            is no annotation or none of an image in the folder.
    """
    uploads = Uploads(paths)
    found: dict[Path, tuple[str, Labelled]] = {}
    passed_over = []
    for i, task in enumerate(tasks):
        named = task.get("id", i) if isinstance(task, dict) else i
        where = f"Task {named} of {source}"
        annotation = _newest(task, where)
        if annotation is None:
            continue
        for reference, results in _by_image(task, annotation, where).items():
            path = uploads.find(reference, where)
            if path is None:
                passed_over.append(reference)
                continue
            if path in found:
                raise UserError(
                    f"{where} labels {path.name} as {found[path][0]} does: "
                    "keep one of the tasks and export again."
                )
            found[path] = (where, Labelled(path, partial(_read_layers, path, results, where)))
    if not found and not passed_over:
        raise UserError(
            f"{source} has no annotation that was submitted: label images and export again."
        )
    if not found:
        raise UserError(
            f"{source} labels {len(passed_over)} images, such as {passed_over[0]}, and none is "
            f"below {images}: put the images there under the names that Label Studio knows."
        )
    return [labelled for _, labelled in found.values()]


def _newest(task: Any, where: str) -> dict[str, Any] | None:
    if isinstance(task, dict) and "annotations" not in task:
        raise UserError(
            f'{where} has no "annotations": choose the format JSON, not JSON-MIN, when exporting '
            "from Label Studio."
        )
    annotations = json_files.field(task, "annotations", list, where)
    newest, newest_time = None, datetime.min.replace(tzinfo=UTC)
    for i, annotation in enumerate(annotations):
        at = f"{where}, annotations[{i}],"
        json_files.field(annotation, "result", list, at)
        time = _time(annotation, at)
        if not annotation.get("was_cancelled") and time >= newest_time:
            newest, newest_time = annotation, time
    return newest


def _time(annotation: dict[str, Any], where: str) -> datetime:
    text = annotation.get("updated_at") or annotation.get("created_at")
    if text is None:
        return datetime.min.replace(tzinfo=UTC)
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where} was made at {text!r}, which is no ISO 8601 time: export the labels again."
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _by_image(
    task: dict[str, Any], annotation: dict[str, Any], where: str
) -> dict[str, list[dict[str, Any]]]:
    """The shapes of each image, by its path or URL; a task without any still has its image."""
    data = json_files.field(task, "data", dict, where)
    shapes: dict[str, list[dict[str, Any]]] = {}
    for i, result in enumerate(annotation["result"]):
        kind = json_files.field(result, "type", str, f"{where}, result[{i}],")
        if is_shape(kind):
            shapes.setdefault(_reference(data, result, where), []).append(result)
    return shapes or {_reference(data, {}, where): []}


def image_key(data: dict[str, Any], result: dict[str, Any]) -> str | None:
    """Find the key of a task's data that holds the image of a result's shape; None if none does.

    Args:
        data: the task's.
        result: an entry of an annotation's "result"; {} for a task without any.
    """
    # Either names the key of the image, but the name of the tag only by convention.
    for key in (str(result.get("source", "")).removeprefix("$"), result.get("to_name")):
        if isinstance(key, str) and isinstance(data.get(key), str):
            return key
    for key, value in data.items():
        if isinstance(value, str) and is_image(value):
            return key
    return None


def _reference(data: dict[str, Any], result: dict[str, Any], where: str) -> str:
    key = image_key(data, result)
    if key is None:
        raise UserError(
            f'{where} names no image in its "data" ({", ".join(data)}): '
            "export a project that labels images, one a task."
        )
    return str(data[key])


def _read_layers(image: Path, results: list[dict[str, Any]], where: str) -> np.ndarray:
    size = image_size(image)
    return pack((to_mask(result, image, size, where) for result in results), size)
