"""`samlet segment --prompts`: many objects in many images, from a file of clicks and boxes."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import samlet
from samlet.cli.common import (
    class_names,
    find_images,
    graceful_exit,
    parse_channels,
    report_outcome,
    write_class_names,
)
from samlet.cli.measure import measure_results
from samlet.errors import UserError
from samlet.storage.locations import Location
from samlet.utils.console import console
from samlet.utils.messages import bullet_list, pluralize

if TYPE_CHECKING:
    import numpy as np

    from samlet.cli.prompt_file import PromptedObject, PromptFile
    from samlet.outputs.results import Results
    from samlet.predict.embedding import ImageEmbedding


def predict_object(
    predictor: "samlet.Predictor",
    embedding: "ImageEmbedding",
    points: Sequence[Sequence[float]],
    point_labels: Sequence[int],
    box: Sequence[float] | None,
) -> "tuple[np.ndarray, float]":
    """Segment an object: its mask, bool, H x W, and the predicted IoU.

    Raises:
        UserError: the mask is empty, or see `samlet.Predictor.segment`.
    """
    prediction = predictor.segment(
        embedding,
        points or None,
        point_labels or None,
        box,
        multimask_output=len(points) == 1 and box is None,
    )
    mask, score = prediction.best, float(prediction.iou_predictions[prediction.best_index])
    if not mask.any():
        raise UserError("The mask is empty: click elsewhere on the object, or give a box.")
    return mask, score


def segment_prompt_file(
    image: Path,
    prompts: Path,
    out: Path,
    model: str,
    engine: str,
    precision: str,
    channels: str | None,
    slices: str | None,
    series: str | None,
    also: str | None,
    table: Location | None,
    max_pixels: int,
    replace: bool,
) -> None:
    """Segment the objects of a file of prompts; arguments are the options of `samlet segment`.

    Raises:
        UserError: the file has faults, so that nothing was done; or images failed.
    """
    from samlet import images
    from samlet.everything.batch import ImageBatch, ImageInput, segment_images
    from samlet.modeling.fingerprint import model_fingerprint
    from samlet.outputs.further_formats import check_names, parse_formats
    from samlet.utils.progress import progress_bar

    formats = parse_formats(also)
    found, root = find_images(image, out, channels, slices, series)
    prompted = _checked(prompts, root, found, max_pixels)
    paths = sorted(prompted.by_image)
    folders = [out / path.relative_to(root).parent for path in paths]
    check_names(formats, paths, folders)
    loaded = samlet.load(model)
    predictor = samlet.Predictor(loaded, engine, precision=precision)
    made = {
        "model": model,
        "weights": model_fingerprint(loaded),
        "precision": predictor.engine.precision,
    }
    info = made | {"channels": channels}
    categories = class_names(out, prompted.categories)

    def prepare(path: Location, here: Path) -> ImageInput:
        objects = prompted.by_image[here]
        return ImageInput(
            {"objects": objects}, {"prompts": [made | _described(o) for o in objects]}
        )

    read = partial(images.read, channels=parse_channels(channels), max_pixels=max_pixels)
    segment = partial(_segment_objects, predictor)
    # Before the first image, so that a run that is stopped leaves no numbers without names.
    write_class_names(out, formats, categories)
    with graceful_exit(), progress_bar() as progress:
        batch = ImageBatch(
            read,
            segment,
            info,
            replace,
            prepare=prepare,
            is_kept=_is_of_another_kind,
            categories=categories,
            formats=formats,
        )
        outcome = segment_images(paths, folders, batch, progress)
    write_class_names(out, outcome.formats, categories)
    if table is not None:
        measure_results(paths, folders, table, max_pixels)
    report_outcome(outcome, len(paths), out, "not all of their objects are from a file of prompts")


def _checked(prompts: Path, root: Path, paths: Sequence[Path], max_pixels: int) -> "PromptFile":
    """Read a file of prompts; UserError if anything in it is wrong, before the model is loaded."""
    from samlet.cli.prompt_file import outside, read_prompt_file
    from samlet.utils.progress import progress_bar

    found = read_prompt_file(prompts, root, paths)
    with progress_bar() as progress:
        for path, objects in progress.track(found.by_image.items(), description="Checking"):
            found.faults += outside(path, objects, max_pixels)
    if found.faults:
        raise UserError(
            f"{prompts} has {pluralize(len(found.faults), 'mistake')}, so nothing was segmented:"
            f"{bullet_list(found.faults)}"
        )
    for note in found.notes:
        console.print(note)
    return found


def _described(one: "PromptedObject") -> dict[str, Any]:
    """An object's prompts for the record of how results were made."""
    return {
        "object": one.name,
        "category": one.category,
        "points": one.points,
        "point_labels": one.point_labels,
        "box": one.box,
    }


def _is_of_another_kind(results: "Results") -> bool:
    """Whether results have objects that did not come from a file of prompts."""
    from_files = [prompt for prompt in results.info.get("prompts", ()) if "object" in prompt]
    return len(from_files) < len(results.records)


def _segment_objects(
    predictor: "samlet.Predictor",
    pixels: "np.ndarray",
    objects: "Sequence[PromptedObject]",
    progress: Callable[[float], None],
) -> list[dict[str, Any]]:
    from samlet.masks import to_rle

    embedding = predictor.encode(pixels)
    records = []
    for number, one in enumerate(objects, start=1):
        try:
            mask, score = predict_object(
                predictor, embedding, one.points, one.point_labels, one.box
            )
        except UserError as error:
            raise UserError(f"{one.prompts[0].where}, object {one.name}: {error}") from error
        record = {"segmentation": to_rle(mask), "predicted_iou": score}
        records.append(record if one.category is None else record | {"category": one.category})
        progress(number / len(objects))
    return records
