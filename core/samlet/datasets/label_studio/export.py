"""Labels as Label Studio exports them ("JSON"): https://labelstud.io/guide/task_format."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from samlet.datasets import json_files
from samlet.datasets.label_studio.filenames import is_image, match
from samlet.datasets.label_studio.regions import (
    is_shape,
    label_of,
    labels_by_region,
    to_mask,
    without_repetitions,
)
from samlet.datasets.labelled_images import (
    LabelledImage,
    LabelledImages,
    ObjectClass,
    Region,
    class_named,
    draw_regions,
    image_size,
)
from samlet.datasets.layers import pack_layers
from samlet.errors import UserError
from samlet.utils.messages import bullet_list, pluralize


def find_in_export(
    images: Path, paths: Sequence[Path], source: Path, tasks: list[Any]
) -> LabelledImages:
    """Find the images of the annotated tasks; see `samlet.datasets.find_labelled_images`.

    Of each task the newest annotation counts that was not cancelled (skipped); without shapes, it
    means that there are no objects. Of an image with several pages, those with shapes count. Tasks
    whose image is not in the folder are ignored.

    Args:
        images: the folder of the images.
        paths: image files below it.
        source: the JSON file.
        tasks: what it holds.

    Raises:
        UserError: there is no annotation that can be used, or none of an image in the folder.
    """
    faults: list[str] = []
    twice: set[str] = set()
    named: dict[str, tuple[str, list[dict[str, Any]]]] = {}
    labels: dict[str, dict[str, str]] = {}
    for i, task in enumerate(tasks):
        number = task.get("id", i) if isinstance(task, dict) else i
        where = f"Task {number} of {source}"
        try:
            annotation = newest_annotation(task, where)
            by_image = {} if annotation is None else shapes_by_image(task, annotation, where)
        except UserError as error:
            faults.append(str(error))
            continue
        for reference, results in by_image.items():
            if reference in named:
                faults.append(
                    f"{where} labels {reference.rpartition('/')[2]} as {named[reference][0]} does: "
                    "keep one of the tasks and export again."
                )
                twice.add(reference)
            named.setdefault(reference, (where, results))
            labels[reference] = labels_by_region([] if annotation is None else annotation["result"])
    for reference in twice:
        del named[reference]
    matches = match(images, paths, {reference: where for reference, (where, _) in named.items()})
    found = [
        LabelledImage(
            path,
            partial(
                _read_layers, path, named[reference][1], named[reference][0], labels[reference]
            ),
        )
        for reference, path in matches.paths.items()
    ]
    faults += matches.faults
    if not found and faults:
        raise UserError(f"{source} has no task with labels that can be used:{bullet_list(faults)}")
    if not found and not matches.unmatched:
        raise UserError(
            f"{source} has no annotation that was submitted: label images and export again."
        )
    if not found:
        raise UserError(
            f"{source} labels {pluralize(len(matches.unmatched), 'image')}, such as "
            f"{matches.unmatched[0]}, and none is below {images}: put the images there under the "
            "names that Label Studio knows."
        )
    return LabelledImages(found, unmatched=matches.unmatched, faults=faults)


def newest_annotation(task: Any, where: str) -> dict[str, Any] | None:
    """Find the annotation of a task that counts: the newest that was not cancelled (skipped).

    Args:
        task: an entry of the export.
        where: names the task, to start a sentence.

    Returns:
        The annotation, with a list "result"; None if there is none.

    Raises:
        UserError: the task is not of this format.
    """
    if isinstance(task, dict) and "annotations" not in task:
        raise UserError(
            f'{where} has no "annotations": choose the format JSON, not JSON-MIN, when exporting '
            "from Label Studio."
        )
    annotations = json_files.get_field(task, "annotations", list, where)
    newest, newest_time = None, datetime.min.replace(tzinfo=UTC)
    for i, annotation in enumerate(annotations):
        at = f"{where}, annotations[{i}],"
        json_files.get_field(annotation, "result", list, at)
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


def shapes_by_image(
    task: dict[str, Any], annotation: dict[str, Any], where: str
) -> dict[str, list[dict[str, Any]]]:
    """The shapes of each image, by its path or URL; a task without any still has its image.

    Args:
        task: an entry of the export.
        annotation: one of its annotations.
        where: names the task, to start a sentence.

    Raises:
        UserError: a field is missing or wrong, or the task has no image.
    """
    data = json_files.get_field(task, "data", dict, where)
    shapes: dict[str, list[dict[str, Any]]] = {}
    for i, result in enumerate(annotation["result"]):
        json_files.get_field(result, "type", str, f"{where}, result[{i}],")
        if is_shape(result):
            shapes.setdefault(_reference(data, result, where), []).append(result)
    if not shapes:
        return {reference: [] for reference in _references(data, {}, where)}
    return {reference: without_repetitions(results) for reference, results in shapes.items()}


def image_key(data: dict[str, Any], result: dict[str, Any]) -> str | None:
    """Find the key of a task's data that holds the image of a result's shape; None if none does.

    Args:
        data: the task's.
        result: an entry of an annotation's "result"; {} for a task without any.

    Returns:
        The key of a path or URL, or of a list of them, one for each page of the image.
    """
    # Either names the key of the image, but the name of the tag only by convention.
    for key in (str(result.get("source", "")).removeprefix("$"), result.get("to_name")):
        if isinstance(key, str) and pages_of(data.get(key)):
            return key
    for key, value in data.items():
        pages = pages_of(value)
        if pages and is_image(pages[0]):
            return key
    return None


def pages_of(value: Any) -> list[str]:
    """The paths or URLs in a field of a task's data: of one image, or of its pages; else none."""
    pages = value if isinstance(value, list) else [value]
    return pages if all(isinstance(page, str) for page in pages) else []


def page_number(result: dict[str, Any]) -> int:
    """On which page a shape was drawn; 0 if the image has only one."""
    number = result.get("item_index")
    return number if isinstance(number, int) else 0


def _reference(data: dict[str, Any], result: dict[str, Any], where: str) -> str:
    references = _references(data, result, where)
    number = page_number(result)
    if not 0 <= number < len(references):
        raise UserError(
            f"{where}, region {result.get('id')}, is on page {number + 1}, and the image has "
            f"{pluralize(len(references), 'page')}: export the labels again."
        )
    return references[number]


def _references(data: dict[str, Any], result: dict[str, Any], where: str) -> list[str]:
    key = image_key(data, result)
    if key is None:
        raise UserError(
            f'{where} names no image in its "data" ({", ".join(data)}): '
            "export a project that labels images, one a task."
        )
    return pages_of(data[key])


def _read_layers(
    image: Path,
    results: list[dict[str, Any]],
    where: str,
    labels: dict[str, str],
    left_out: list[str] | None = None,
    classes: dict[int, ObjectClass] | None = None,
) -> np.ndarray:
    size = image_size(image)
    regions = [
        Region(
            f"{where}, region {result.get('id')},",
            partial(to_mask, result, image, size, where),
            class_named(label_of(result) or labels.get(str(result.get("id")))),
        )
        for result in results
    ]
    return pack_layers(draw_regions(regions, left_out, classes), size)
