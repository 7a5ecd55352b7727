"""`samlet segment`: one object of an image, from clicks or a box."""

from pathlib import Path
from typing import Annotated

import typer

import samlet
from samlet.cli.common import (
    Channels,
    EngineName,
    MaxPixels,
    Model,
    Out,
    PrecisionName,
    parse_numbers,
    read_image,
)
from samlet.cli.measure import ResultsTable, measure_results
from samlet.errors import UserError
from samlet.images.decoded_image import DEFAULT_MAX_PIXELS
from samlet.utils.console import console
from samlet.utils.messages import pluralize


def segment(
    image: Annotated[Path, typer.Argument(help="PNG, JPEG, TIFF or another image file.")],
    out: Out,
    point: Annotated[
        list[str] | None, typer.Option(help="X,Y of a click on the object; repeatable.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="X,Y of a click on the background; repeatable.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="X1,Y1,X2,Y2 of a box around the object.")] = None,
    model: Model = "nuclei",
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    channels: Channels = None,
    table: ResultsTable = None,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    add: Annotated[
        bool, typer.Option("--add", help="Add the object to this image's results in OUT.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace this image's results in OUT.")
    ] = False,
) -> None:
    """Segment one object from clicks, a box, or both, in pixels from the upper left corner.

    A single click is ambiguous, so three masks are predicted, and the one with the highest
    predicted IoU is kept. With more prompts one mask is predicted.
    """
    from samlet.modeling.fingerprint import model_fingerprint
    from samlet.outputs.results import Results, image_source, read_results, write_results

    positive = [parse_numbers(text, 2, "--point") for text in point or []]
    beside = [parse_numbers(text, 2, "--negative") for text in negative or []]
    corners = None if box is None else parse_numbers(box, 4, "--box")
    if not positive and corners is None:
        raise UserError("Give a prompt: --point X,Y on the object, or --box X1,Y1,X2,Y2 around it.")
    if add and replace:
        raise UserError("Give --add or --replace, not both.")
    pixels = read_image(image, channels, max_pixels)
    before = None if replace else read_results(out, image)
    source = image_source(image)
    if before is not None and not add:
        raise UserError(
            f"{out} has {pluralize(len(before.records), 'object')} of {image.name} already: give "
            "--add to add this one, --replace to replace them, or another --out."
        )
    if before is not None and before.info["image"] != source["image"]:
        raise UserError(
            f"The objects of {image.name} in {out} are of another image, or {image} has changed "
            "since: give --replace to replace them, or another --out."
        )
    coords = positive + beside
    labels = [1] * len(positive) + [0] * len(beside)
    loaded = samlet.load(model)
    predictor = samlet.Predictor(loaded, engine, precision=precision)
    prediction = predictor.segment(
        predictor.encode(pixels),
        coords or None,
        labels or None,
        corners,
        multimask_output=len(coords) == 1 and corners is None,
    )
    mask, score = prediction.best, float(prediction.iou_predictions[prediction.best_index])
    if not mask.any():
        raise UserError("The mask is empty: click elsewhere on the object, or give a box.")
    made = {
        "model": model,
        "weights": model_fingerprint(loaded),
        "precision": predictor.engine.precision,
    }
    records, info = before or Results([], made | source)
    records.append({"segmentation": mask, "predicted_iou": score})
    prompts = {"points": coords, "point_labels": labels, "box": corners}
    info["prompts"] = [*info.get("prompts", ()), made | prompts]
    written = write_results(
        out, image, pixels, records, info, coords, labels, [corners] if corners else None
    )
    console.print(f"{int(mask.sum())} pixels, predicted IoU {score:.2f}")
    for path in written:
        console.print(str(path))
    if table is not None:
        measure_results([image], [out], table, max_pixels)
