"""`samlet everything`: all objects of an image or a stack, or of a folder of them."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

import samlet
from samlet.cli.common import (
    Channels,
    EngineName,
    MaxPixels,
    Model,
    Out,
    PrecisionName,
    parse_channels,
)
from samlet.cli.measure import ResultsTable, measure_results
from samlet.errors import UserError
from samlet.images.decoded_image import DEFAULT_MAX_PIXELS
from samlet.utils.console import console


def everything(
    image: Annotated[Path, typer.Argument(help="An image, a stack, or a folder of them.")],
    out: Out,
    model: Model = "nuclei",
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    prompts: Annotated[
        str | None,
        typer.Option(
            help="How to find objects: by the model's own proposals, by distances or watershed "
            "(micro-sam's models), or by points as regions, grid or hierarchical.",
            show_default="distances or proposals if the model has them, or else regions",
        ),
    ] = None,
    points_per_side: Annotated[
        int | None,
        typer.Option(
            help="Points along each side of the grid; implies --prompts grid.", min=1, max=256
        ),
    ] = None,
    pred_iou_thresh: Annotated[
        float | None,
        typer.Option(
            help="Minimum predicted IoU of masks.", show_default="the model's", min=0, max=1
        ),
    ] = None,
    stability_score_thresh: Annotated[
        float | None,
        typer.Option(
            help="Minimum stability score of masks.", show_default="the model's", min=0, max=1
        ),
    ] = None,
    max_covered: Annotated[
        float | None,
        typer.Option(
            help="Drop masks that better ones cover by a larger share.",
            show_default="the model's",
            min=0,
            max=1,
        ),
    ] = None,
    center_distance_threshold: Annotated[
        float | None,
        typer.Option(
            help="Maximum distance to the centre, in the middle of an object (distance maps).",
            show_default="the model's, or 0.5",
            min=0,
            max=1,
        ),
    ] = None,
    boundary_distance_threshold: Annotated[
        float | None,
        typer.Option(
            help="Maximum value there of the distance to the boundary, which is 1 at the boundary.",
            show_default="the model's, or 0.5",
            min=0,
            max=1,
        ),
    ] = None,
    foreground_threshold: Annotated[
        float | None,
        typer.Option(
            help="Minimum probability of the foreground (distance maps).",
            show_default="the model's, or 0.5",
            min=0,
            max=1,
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            help="Find only objects like these: a label map of the image, or labels of a folder, "
            "as for finetuning."
        ),
    ] = None,
    likeness: Annotated[
        float | None,
        typer.Option(
            help="Minimum likeness to one of them (--like).", show_default="0.5", min=0, max=1
        ),
    ] = None,
    min_area: Annotated[
        int, typer.Option(help="Fill holes and remove islands of fewer pixels.", min=0)
    ] = 0,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Tile side for large images, in pixels.",
            show_default="by the objects' size, or the model's input size",
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            help="Overlap of neighbouring tiles, in pixels.", show_default="a quarter of the tile"
        ),
    ] = None,
    table: ResultsTable = None,
    axis: Annotated[
        str,
        typer.Option(help="What the slices of a stack are: z, time, or auto (as the file says)."),
    ] = "auto",
    channels: Channels = None,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Replace finished results, also those with objects from prompts."
        ),
    ] = False,
) -> None:
    """Segment all objects of an image or a stack, or of all of them in a folder, without prompts.

    In a stack (a TIFF with several slices along z or time) objects that overlap from slice to slice
    get the same number.

    With --like, examples (one to three are enough) come first in an image's results, as they are,
    and then the objects like them. Images without labels are left out.

    Images whose results exist already, from the same file, model, precision and settings, are
    skipped, so an interrupted run resumes; a stack resumes at the slice where it was. Results with
    objects from `samlet segment` are kept. Files in OUT, and those that samlet wrote elsewhere (by
    their names), are not read as images.
    """
    from samlet import images
    from samlet.cli.example_objects import find_examples
    from samlet.everything.batch import segment_images
    from samlet.everything.segment import open_generator, segment_everything
    from samlet.everything.settings import EverythingSettings, complete_settings
    from samlet.everything.similar import DEFAULT_LIKENESS, segment_similar, similar_settings
    from samlet.images.stacks import parse_axis
    from samlet.modeling.fingerprint import model_fingerprint
    from samlet.stacks.batch import segment_stacks
    from samlet.utils.progress import progress_bar

    slices_are, chosen_channels = parse_axis(axis), parse_channels(channels)
    paths = images.find(image, out) if image.is_dir() else [image]
    root = image if image.is_dir() else image.parent
    if like is None and likeness is not None:
        raise UserError(
            "--likeness needs examples: give their labels with --like, or leave it out."
        )
    read_examples = None
    if like is not None:
        labelled, read_examples = find_examples(image, paths, like, out)
        if len(labelled) < len(paths):
            console.print(f"{len(paths) - len(labelled)} of {len(paths)} have no labels: left out.")
        paths = labelled
    loaded = samlet.load(model)
    predictor = samlet.Predictor(loaded, engine, precision=precision)
    options = {
        "prompts": prompts,
        "points_per_side": points_per_side,
        "pred_iou_thresh": pred_iou_thresh,
        "stability_score_thresh": stability_score_thresh,
        "max_covered": max_covered,
        "center_distance_threshold": center_distance_threshold,
        "boundary_distance_threshold": boundary_distance_threshold,
        "foreground_threshold": foreground_threshold,
        "min_mask_region_area": min_area,
    }
    chosen: dict[str, Any] = {name: it for name, it in options.items() if it is not None}
    if like is None:
        settings = complete_settings(loaded, cast(EverythingSettings, chosen))
        # Wrong settings are refused before the first image is read.
        open_generator(predictor, tile, overlap, **settings)
        segment = partial(segment_everything, predictor, tile=tile, overlap=overlap, **settings)
    else:
        settings = similar_settings(loaded, cast(EverythingSettings, chosen))
        least = DEFAULT_LIKENESS if likeness is None else likeness
        segment = partial(
            segment_similar, predictor, likeness=least, tile=tile, overlap=overlap, **chosen
        )
        settings["likeness"] = least
    info = {
        "model": model,
        "weights": model_fingerprint(loaded),
        "precision": predictor.engine.precision,
        "settings": settings | {"tile": tile, "overlap": overlap},
        "channels": channels,
    }
    is_stack = partial(images.is_stack, axis=slices_are, channels=chosen_channels)
    read = partial(images.read, channels=chosen_channels, max_pixels=max_pixels)
    open_stack = partial(
        images.open_stack, axis=slices_are, channels=chosen_channels, max_pixels=max_pixels
    )
    folders = [out / path.relative_to(root).parent for path in paths]
    try:
        with progress_bar() as progress:
            outcome = segment_images(
                paths,
                folders,
                read,
                segment,
                info,
                progress,
                replace,
                is_stack,
                read_examples,
            )
            if like is not None and outcome.stacks:
                raise UserError(
                    f"{outcome.stacks[0].path} is a stack, and --like is for single images: save "
                    "its slices as images, or leave out --like."
                )
            segment_stacks(outcome, open_stack, segment, progress, replace)
    except KeyboardInterrupt:
        console.print("Stopped; run the same command again to resume.")
        raise typer.Exit(130) from None
    if table is not None:
        measure_results(paths, folders, table, max_pixels)
    if outcome.skipped:
        console.print(f"{outcome.skipped} of {len(paths)} were finished before and skipped.")
    if outcome.kept:
        console.print(
            "Kept, since they hold objects from `samlet segment` (--replace replaces them): "
            f"{', '.join(outcome.kept)}"
        )
    if outcome.failed:
        reasons = "\n".join(outcome.failed)
        raise UserError(
            reasons
            if len(paths) == 1
            else f"{len(outcome.failed)} of {len(paths)} images failed:\n{reasons}"
        )
    console.print(f"Results are in {out}")
