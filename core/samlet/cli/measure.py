"""`samlet measure`: a table of the objects of label maps."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from samlet.cli.common import MaxPixels, Series, Slice
from samlet.cluster.options import RayAddress, WorkerCores, Workers
from samlet.errors import UserError
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS
from samlet.storage.locations import Location
from samlet.utils.console import console
from samlet.utils.messages import pluralize

if TYPE_CHECKING:
    from rich.progress import Progress

    from samlet.cluster.run import RayRun
    from samlet.datasets.labelled_images import ReadLayers
    from samlet.measurements.files import Row

    Pair = tuple[Path | ReadLayers, Path | None]

ResultsTable = Annotated[
    Path | None,
    typer.Option("--table", help="CSV file for measurements of the objects; see `samlet measure`."),
]
Table = Annotated[
    Path, typer.Option("--table", help="CSV file for the measurements, a line for each object.")
]


def measure(
    labels: Annotated[
        Path,
        typer.Argument(
            help="A label map, or a folder of them; with images also ImageJ ROIs, YOLO or COCO."
        ),
    ],
    table: Table,
    image: Annotated[
        Path | None, typer.Argument(help="Its image, or their folder, to measure intensities.")
    ] = None,
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
    """
    from samlet.images import SliceChoice
    from samlet.measurements.files import pair_files
    from samlet.utils.csv_files import write_csv
    from samlet.utils.progress import progress_bar

    if pixel_size is not None and not pixel_size > 0:
        raise UserError(f"--pixel-size takes micrometres, such as 0.65, not {pixel_size}.")
    pairs = pair_files(labels, image, SliceChoice.parse(slices, series))
    measurer = PairMeasurer(pixel_size, max_pixels)
    with progress_bar() as progress:
        if ray is None:
            measured = map(measurer.measure, progress.track(pairs, description="Measuring"))
            results = list(measured)
        else:
            from samlet.cluster.run import ray_run

            with ray_run(ray, workers, worker_cores, None) as run:
                results = _measure_on_ray(run, measurer, pairs, progress)
    rows = [row for result in results for row in result.rows]
    left_out = [reason for result in results for reason in result.left_out]
    failed = [result.failure for result in results if result.failure]
    if failed and len(failed) == len(pairs):
        raise UserError("\n".join(failed))
    write_csv(table, rows)
    count = len(pairs) - len(failed)
    kind = "label map" if all(isinstance(source, Path) for source, _ in pairs) else "image"
    console.print(f"{table}: {pluralize(len(rows), 'object')} of {pluralize(count, kind)}")
    _print_left_out(table, left_out)
    if failed:
        reasons = "\n".join(failed)
        raise UserError(f"{len(failed)} of {len(pairs)} {kind}s failed:\n{reasons}")


def measure_results(
    paths: Sequence[Location], folders: Sequence[Location], table: Path, max_pixels: int
) -> None:
    """Write a table of all objects in the results of images, also those from before.

    Args:
        paths: the images; those without results are left out.
        folders: where the results of each are.
        table: the CSV file.
        max_pixels: see `samlet.images.read`.
    """
    from samlet.measurements.files import measure_result
    from samlet.utils.csv_files import write_csv
    from samlet.utils.progress import progress_bar

    rows: list[Row] = []
    left_out: list[str] = []
    with progress_bar() as progress:
        places = list(zip(paths, folders, strict=True))
        for path, folder in progress.track(places, description="Measuring"):
            rows += measure_result(path, folder, max_pixels, left_out)
    write_csv(table, rows)
    console.print(f"{table}: {pluralize(len(rows), 'object')}")
    _print_left_out(table, left_out)


def _print_left_out(table: Path, reasons: Sequence[str]) -> None:
    for reason in reasons:
        console.print(f"Left out of {table}: {reason}")


class Measured(NamedTuple):
    """The objects of a file.

    Attributes:
        rows: of the table.
        left_out: a sentence on each faulty object.
        failure: why nothing could be measured; empty if something could.
    """

    rows: "list[Row]"
    left_out: list[str]
    failure: str = ""


@dataclass(frozen=True)
class PairMeasurer:
    """Measures labels with their images, in this process or in a worker; arguments as `measure`."""

    pixel_size: float | None
    max_pixels: int

    def open(self, device: str) -> "Callable[[tuple[int, Pair], Callable[[], None]], Measured]":
        """See `samlet.cluster.run.RayRun`; items have their place in the table."""
        return lambda item, check: self.measure(item[1])

    def measure(self, pair: "Pair") -> Measured:
        """Measure labels, or say why that cannot be done."""
        from samlet.measurements.files import measure_file

        left_out: list[str] = []
        try:
            rows = measure_file(*pair, self.pixel_size, self.max_pixels, left_out)
        except UserError as error:
            return Measured([], left_out, str(error))
        return Measured(rows, left_out)


def _measure_on_ray(
    run: "RayRun", measurer: PairMeasurer, pairs: "Sequence[Pair]", progress: "Progress"
) -> list[Measured]:
    """What `measurer` finds, in the order of the pairs."""
    from samlet.cluster.run import died_message
    from samlet.cluster.workers import Died

    results: dict[int, Measured] = {}
    first = next(each for each in pairs[0] if isinstance(each, Path))
    items = list(enumerate(pairs))
    with closing(run.process(measurer, items, first, None, progress, "Measuring")) as made:
        for (number, pair), result in made:
            if isinstance(result, Died):
                result = Measured([], [], died_message(pair[1] or pair[0], result))
            results[number] = result
    return [results[number] for number in range(len(pairs))]
