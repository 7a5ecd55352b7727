"""`samlet everything`: all objects of an image or a stack, or of a folder of them."""

from typing import Annotated

import typer

from samlet.cli.common import (
    Also,
    Channels,
    EngineName,
    Images,
    MaxPixels,
    Model,
    OutOrUrl,
    PrecisionName,
    Series,
    Slice,
    class_names,
    graceful_exit,
    list_locations,
    parse_channels,
    report_outcome,
    write_class_names,
)
from samlet.cli.measure import ResultsTable, measure_results
from samlet.cluster.options import RayAddress, WorkerCores, Workers, check_ray_options
from samlet.errors import UserError
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS
from samlet.utils.console import console


def everything(
    image: Images,
    out: OutOrUrl,
    model: Model = "microscopy",
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
        str | None,
        typer.Option(
            metavar="PATH|URL",
            help="Find only objects like these: a label map of the image, or labels of a folder, "
            "as for finetuning; a folder at a URL has label maps or zips of ImageJ ROIs.",
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
    also: Also = None,
    table: ResultsTable = None,
    axis: Annotated[
        str,
        typer.Option(help="What the slices of a stack are: z, time, or auto (as the file says)."),
    ] = "auto",
    channels: Channels = None,
    slices: Slice = None,
    series: Series = None,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Replace finished results, also those with objects from prompts."
        ),
    ] = False,
    ray: RayAddress = None,
    workers: Workers = None,
    worker_cores: WorkerCores = None,
) -> None:
    """Segment all objects of an image or a stack, or of all of them in a folder, without prompts.

    Images and results may also be in object storage: s3://, gs://, az://. With --ray, any number of
    machines work on them, and the results are the same: see docs/scale.md.

    In a stack (several slices along z or time) objects that overlap from slice to slice
    get the same number.

    With --like, examples (one to three are enough) come first in an image's results, as they are,
    and then the objects like them. Images and slices without labels are left out.

    Images whose results exist already, from the same file, model, precision and settings, are
    skipped, so an interrupted run resumes; a stack resumes at the slice where it was. Results with
    objects from `samlet segment` are kept. Files in OUT, and those that samlet wrote elsewhere (by
    their names), are not read as images.
    """
    from samlet.cli.everything_work import EverythingWork, segment_on_ray
    from samlet.cli.example_objects import list_with_examples
    from samlet.everything.batch import segment_images
    from samlet.everything.similar import DEFAULT_LIKENESS
    from samlet.images.stacks import parse_axis
    from samlet.outputs.further_formats import check_names, parse_formats
    from samlet.outputs.records import DEFAULT_CATEGORY
    from samlet.stacks.batch import segment_stacks
    from samlet.storage.locations import parse_location, parse_writable
    from samlet.utils.progress import progress_bar

    check_ray_options(ray, workers=workers, worker_cores=worker_cores)
    formats = parse_formats(also)
    parse_axis(axis)
    parse_channels(channels)
    source, results = parse_location(image), parse_writable(out)
    results_table = None if table is None else parse_writable(table)
    if like is None and likeness is not None:
        raise UserError(
            "--likeness needs examples: give their labels with --like, or leave it out."
        )
    listing = (results, channels, slices, series)
    if like is None:
        listed, examples = list_locations(source, *listing, axis), None
    else:
        listed, examples = list_with_examples(source, parse_location(like), *listing)
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
    categories = class_names(results, [DEFAULT_CATEGORY])
    work = EverythingWork(
        model=model,
        engine=engine,
        precision=precision,
        settings={name: it for name, it in options.items() if it is not None},
        tile=tile,
        overlap=overlap,
        examples=examples,
        likeness=DEFAULT_LIKENESS if likeness is None else likeness,
        channels=channels,
        axis=axis,
        max_pixels=max_pixels,
        replace=replace,
        out=results,
        categories=categories,
        formats=formats,
    )
    opened = work.open()
    images = listed if examples is None else listed.only(examples.by_image)
    if len(images.paths) < len(listed.paths):
        left_out = len(listed.paths) - len(images.paths)
        console.print(f"{left_out} of {len(listed.paths)} have no labels: left out.")
    check_names(formats, *images)
    # Before the first image, so that a run that is stopped leaves no numbers without names.
    write_class_names(results, formats, categories)
    with graceful_exit(), progress_bar() as progress:
        if ray is None:
            outcome = segment_images(*images, opened.batch, progress)
        else:
            from samlet.cluster.run import ray_run

            with ray_run(ray, workers, worker_cores, opened.predictor.model) as run:
                outcome = segment_on_ray(work, opened, images, run, progress)
        if formats and outcome.stacks:
            console.print("--also is for single images: stacks get their own files only.")
        if ray is None:
            segment_stacks(outcome, opened.open_stack, opened.segment, progress, replace)
    write_class_names(results, outcome.formats, categories)
    if results_table is not None:
        measure_results(*images, results_table, max_pixels)
    kept_as = "they hold objects from `samlet segment`"
    report_outcome(outcome, len(images.paths), results, kept_as)
