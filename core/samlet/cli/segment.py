"""`samlet segment`: one object of an image from clicks or a box, or many from a file of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import samlet
from samlet.cli.common import (
    Also,
    Channels,
    EngineName,
    MaxPixels,
    Model,
    Out,
    PrecisionName,
    Series,
    Slice,
    class_names,
    find_images,
    parse_channels,
    parse_numbers,
    refuse_url,
    write_class_names,
)
from samlet.cli.measure import ResultsTable, measure_results
from samlet.cli.segment_file import predict_object, segment_prompt_file
from samlet.errors import UserError
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS
from samlet.storage.locations import parse_writable
from samlet.utils.console import console
from samlet.utils.messages import pluralize


def segment(
    image: Annotated[
        Path,
        typer.Argument(
            help="An image, or a stack with --slice; with --prompts a folder as well.",
            callback=refuse_url,
        ),
    ],
    out: Out,
    point: Annotated[
        list[str] | None, typer.Option(help="X,Y of a click on the object; repeatable.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="X,Y of a click on the background; repeatable.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="X1,Y1,X2,Y2 of a box around the object.")] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Clicks and boxes for many objects: CSV with the columns image, object, and "
            "x, y, label (1 or 0) or x1, y1, x2, y2, and class if you like; or COCO with boxes."
        ),
    ] = None,
    model: Model = "microscopy",
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    channels: Channels = None,
    slices: Slice = None,
    series: Series = None,
    also: Also = None,
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

    With --prompts, many objects in many images: the whole file is checked first, and nothing is
    segmented if a line is wrong. Images whose results exist already, from the same file, prompts,
    model and precision, are skipped, so an interrupted run resumes; if their prompts have changed,
    they are segmented again.
    """
    results_table = None if table is None else parse_writable(table)
    if prompts is not None:
        if point or negative or box is not None or add:
            raise UserError(
                "--prompts has all prompts: leave out --point, --negative, --box, --add."
            )
        segment_prompt_file(
            image,
            prompts,
            out,
            model,
            engine,
            precision,
            channels,
            slices,
            series,
            also,
            results_table,
            max_pixels,
            replace,
        )
        return
    from samlet.images import read
    from samlet.modeling.fingerprint import model_fingerprint
    from samlet.outputs.coco import category_numbers
    from samlet.outputs.further_formats import parse_formats
    from samlet.outputs.results import (
        further_formats,
        image_source,
        read_earlier,
        write_results,
    )

    positive = [parse_numbers(text, 2, "--point") for text in point or []]
    beside = [parse_numbers(text, 2, "--negative") for text in negative or []]
    corners = None if box is None else parse_numbers(box, 4, "--box")
    if not positive and corners is None:
        raise UserError("Give a prompt: --point X,Y on the object, or --box X1,Y1,X2,Y2 around it.")
    if add and replace:
        raise UserError("Give --add or --replace, not both.")
    formats = parse_formats(also)
    paths, _ = find_images(image, out, channels, slices, series)
    # Of several slices, the error of reading them all names what to choose.
    image = paths[0] if len(paths) == 1 else image
    pixels = read(image, channels=parse_channels(channels), max_pixels=max_pixels)
    before = read_earlier(out, image, replace)
    further = further_formats(formats, before)
    before = None if replace else before
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
    mask, score = predict_object(predictor, predictor.encode(pixels), coords, labels, corners)
    made = {
        "model": model,
        "weights": model_fingerprint(loaded),
        "precision": predictor.engine.precision,
    }
    info: dict[str, Any] = {**(made | source if before is None else before.info), **further}
    records: list[Mapping[str, Any]] = [*(() if before is None else before.records)]
    records.append({"segmentation": mask, "predicted_iou": score})
    own = {"points": coords, "point_labels": labels, "box": corners}
    info["prompts"] = [*info.get("prompts", ()), made | own]
    before_categories = () if before is None else before.categories
    categories = class_names(out, [*category_numbers(records, before_categories)])
    written = write_results(out, image, pixels, records, info, categories)
    write_class_names(out, info.get("also", ()), categories)
    console.print(f"{int(mask.sum())} pixels, predicted IoU {score:.2f}")
    for path in written:
        console.print(str(path))
    if results_table is not None:
        measure_results([image], [out], results_table, max_pixels)
