"""`samlet measure`: a table of the objects of label maps."""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samlet.cli.common import (
    MaxPixels,
    Series,
    Slice,
    check_failures,
    check_table,
    unless_url,
)
from samlet.cluster.options import RayAddress, WorkerCores, Workers, check_ray_options
from samlet.errors import UserError
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS
from samlet.storage.locations import Location, Url, parse_location, parse_writable
from samlet.storage.staging import staged_files
from samlet.utils.console import console
from samlet.utils.messages import pluralize

if TYPE_CHECKING:
    from rich.progress import Progress

    from samlet.cluster.run import RayRun
    from samlet.datasets.labelled_images import ReadLayers
    from samlet.images import SliceChoice
    from samlet.measurements.files import Measured

    AnyPair = tuple[Location | ReadLayers, Location | None]

ResultsTable = Annotated[
    str | None,
    typer.Option(
        "--table",
        metavar="FILE|URL",
        help="CSV file for measurements of the objects; see `samlet measure`.",
        callback=unless_url(check_table),
    ),
]
Table = Annotated[
    str | None,
    typer.Option(
        "--table",
        metavar="FILE|URL",
        help="CSV file for the measurements, a line for each object.",
        callback=unless_url(check_table),
        show_default="standard output",
    ),
]


def measure(
    labels: Annotated[
        str,
        typer.Argument(
            metavar="LABELS",
            help="A label map, or a folder of them, or the URL of one of these; with images also "
            "ImageJ ROIs, YOLO or COCO.",
        ),
    ],
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGES",
            help="Its image, or their folder, or the URL of one of these, to measure intensities.",
        ),
    ] = None,
    table: Table = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(help="Micrometres a pixel.", show_default="what the file says, if it does"),
    ] = None,
    slices: Slice = None,
    series: Series = None,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    ray: RayAddress = None,
    workers: Workers = None,
    worker_cores: WorkerCores = None,
) -> None:
    """Measure labelled objects: size, shape, position, and intensities.

    Intensities are the values of the image as it is stored, of each channel. Lengths and areas are
    in micrometres where the file says how large its pixels are (OME, ImageJ, TIFF's resolution).
    Files that cannot be measured are left out of the table, and named at the end.

    Label maps, zips of ImageJ ROIs, images and the table may also be in object storage: s3://,
    gs://, az://. With --ray, any number of machines measure: see docs/scale.md.
    """
    from samlet.images import SliceChoice
    from samlet.measurements.at_urls import pair_at_urls
    from samlet.measurements.files import pair_files
    from samlet.utils.progress import progress_bar

    check_ray_options(ray, workers=workers, worker_cores=worker_cores)
    if pixel_size is not None and not pixel_size > 0:
        raise UserError(f"--pixel-size takes micrometres, such as 0.65, not {pixel_size}.")
    choice = SliceChoice.parse(slices, series)
    source, own = parse_location(labels), None if image is None else parse_location(image)
    out = None if table is None else parse_writable(table)
    pairs: Sequence[AnyPair]
    if isinstance(source, Url) or isinstance(own, Url):
        pairs = pair_at_urls(source, own)
    else:
        pairs = pair_files(source, own, choice)
    measurer = PairMeasurer(pixel_size, max_pixels, choice)
    with progress_bar() as progress:
        if ray is None:
            measured = map(measurer.measure, progress.track(pairs, description="Measuring"))
            results = list(measured)
        else:
            from samlet.cluster.run import ray_run

            with ray_run(ray, workers, worker_cores, None) as run:
                results = _measure_on_ray(run, measurer, pairs, progress)
    failed = [reason for result in results for reason in result.failed]
    count = sum(result.succeeded for result in results)
    if failed and not count:
        raise UserError("\n".join(failed))
    kind = "label map" if all(isinstance(each, Path | Url) for each, _ in pairs) else "image"
    _write_table(out, results, f" of {pluralize(count, kind)}")
    check_failures(failed, len(failed) + count, kind)


def measure_results(
    paths: Sequence[Location], folders: Sequence[Location], table: Location, max_pixels: int
) -> None:
    """Write a table of all objects in the results of images, also those from before.

    Args:
        paths: the images; those without results are left out.
        folders: where the results of each are.
        table: the CSV file.
        max_pixels: see `samlet.images.read`.
    """
    from samlet.measurements.at_urls import measure_result
    from samlet.utils.progress import progress_bar

    with progress_bar() as progress:
        places = list(zip(paths, folders, strict=True))
        results = [
            measure_result(*place, max_pixels)
            for place in progress.track(places, description="Measuring")
        ]
    # The command itself has told which images failed.
    _write_table(table, [result._replace(left_out=result.failed) for result in results])


def _write_table(table: Location | None, results: "Sequence[Measured]", of: str = "") -> None:
    from samlet.utils.csv_files import print_csv, write_csv

    rows = [row for result in results for row in result.rows]
    reasons = [reason for result in results for reason in result.left_out]
    if table is None:
        print_csv(sys.stdout, rows)
        for reason in reasons:
            print(f"Left out: {reason}", file=sys.stderr)
        return
    with staged_files(table.parent, []) as here:
        write_csv(here / table.name, rows)
    console.print(f"{table}: {pluralize(len(rows), 'object')}{of}")
    for reason in reasons:
        console.print(f"Left out of {table}: {reason}")


@dataclass(frozen=True)
class PairMeasurer:
    """Measures labels with their images, in this process or in a worker; arguments as `measure`."""

    pixel_size: float | None
    max_pixels: int
    choice: "SliceChoice"

    def open(self, device: str) -> "Callable[[AnyPair, Callable[[], None]], Measured]":
        """See `samlet.cluster.run.RayRun`."""
        return lambda pair, check: self.measure(pair)

    def measure(self, pair: "AnyPair") -> "Measured":
        """Measure labels, or say why that cannot be done."""
        from samlet.measurements.at_urls import measure_at_urls
        from samlet.measurements.files import measure_pairs

        labels, image = pair
        if isinstance(labels, Url) or (isinstance(labels, Path) and isinstance(image, Url)):
            return measure_at_urls(labels, image, self.choice, self.pixel_size, self.max_pixels)
        assert not isinstance(image, Url)
        return measure_pairs([(labels, image)], self.pixel_size, self.max_pixels)


def _measure_on_ray(
    run: "RayRun", measurer: PairMeasurer, pairs: "Sequence[AnyPair]", progress: "Progress"
) -> "list[Measured]":
    """What `measurer` finds, in the order of the pairs."""
    from samlet.cluster.run import Numbered, died_message
    from samlet.cluster.workers import Died
    from samlet.measurements.files import Measured

    results: dict[int, Measured] = {}
    first = next(each for each in pairs[0] if isinstance(each, Path | Url))
    work, items = Numbered(measurer), list(enumerate(pairs))
    with closing(run.process(work, items, first, None, progress, "Measuring")) as made:
        for (number, pair), result in made:
            if isinstance(result, Died):
                result = Measured(failed=[died_message(pair[1] or pair[0], result)])
            results[number] = result
    return [results[number] for number in range(len(pairs))]
