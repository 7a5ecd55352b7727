"""`samlet encode`: the embeddings of images, before somebody works on them."""

from pathlib import Path
from typing import Annotated

import typer

from samlet.cli.common import (
    Channels,
    EngineName,
    Images,
    MaxPixels,
    Model,
    PrecisionName,
    Series,
    Slice,
    check_failures,
    check_folder,
    graceful_exit,
    list_locations,
    parse_channels,
)
from samlet.cluster.options import RayAddress, WorkerCores, Workers, check_ray_options
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS
from samlet.utils.console import console
from samlet.utils.messages import pluralize


def encode(
    image: Images,
    model: Model = "microscopy",
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    channels: Channels = None,
    slices: Slice = None,
    series: Series = None,
    full_range: Annotated[
        bool,
        typer.Option(
            "--full-range",
            help="Scale images beyond 8 bits from their lowest to their highest value, as napari "
            "shows them at first, not by percentiles as Label Studio's backend does.",
        ),
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the embeddings.",
            callback=check_folder,
            show_default="that of napari and Label Studio's backend",
        ),
    ] = None,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    ray: RayAddress = None,
    workers: Workers = None,
    worker_cores: WorkerCores = None,
) -> None:
    """Encode images ahead, all slices of stacks among them, so that the first click need not wait.

    The embeddings go to the cache in which napari and Label Studio's backend look for them, and
    are found by the pixels of the image, the model and the precision. Those that are there already
    are skipped, so an interrupted run resumes.

    With --ray, any number of machines work on them, which have to share the folder of --cache: see
    docs/scale.md.
    """
    from samlet.cli.encode_work import EncodeTotals, EncodeWork, encode_images, encode_on_ray
    from samlet.predict.embedding_cache import check_room
    from samlet.storage.locations import parse_location
    from samlet.utils.cache_folder import embeddings_dir, embeddings_limit
    from samlet.utils.progress import progress_bar

    check_ray_options(ray, workers=workers, worker_cores=worker_cores)
    limit = embeddings_limit()
    parse_channels(channels)
    folder = embeddings_dir() if cache is None else cache
    paths = list_locations(parse_location(image), folder, channels, slices, series).paths
    work = EncodeWork(
        model=model,
        engine=engine,
        precision=precision,
        channels=channels,
        full_range=full_range,
        folder=folder.absolute(),
        limit=limit,
        max_pixels=max_pixels,
    )
    encoder = work.open()
    check_room(encoder.embeddings, encoder.predictor, len(paths))
    totals = EncodeTotals()
    with graceful_exit(), progress_bar() as progress:
        if ray is None:
            encode_images(encoder, paths, totals, progress)
        else:
            from samlet.cluster.run import ray_run

            with ray_run(ray, workers, worker_cores, encoder.predictor.model) as run:
                encode_on_ray(work, encoder, paths, totals, run, progress)
    cached = len(paths) - totals.encoded - len(totals.failed)
    console.print(
        f"{pluralize(totals.encoded, 'image')} encoded, {cached:,} were in the cache before: "
        f"{folder}"
    )
    if totals.large:
        console.print(
            f"{pluralize(totals.large, 'image')} with more than {encoder.longest:.0f} pixels along "
            "a side: Label Studio's backend takes these whole; napari encodes the part that you "
            "look at itself."
        )
    if totals.removed:
        console.print(
            f"{pluralize(totals.removed, 'embedding')} of other images, used longest ago, made "
            f"room for them: the cache holds {limit // 1_000_000:,} MB (SAMLET_DISK_MB)."
        )
    check_failures(totals.failed, len(paths))
