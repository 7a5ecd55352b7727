"""`samlet measure`: a table of the objects of label maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from samlet.cli.common import MaxPixels
from samlet.errors import UserError
from samlet.images.decoded_image import DEFAULT_MAX_PIXELS
from samlet.utils.console import console
from samlet.utils.messages import pluralize

ResultsTable = Annotated[
    Path | None,
    typer.Option("--table", help="CSV file for measurements of the objects; see `samlet measure`."),
]
Table = Annotated[
    Path, typer.Option("--table", help="CSV file for the measurements, a line for each object.")
]


def measure(
    labels: Annotated[Path, typer.Argument(help="A label map, or a folder of them.")],
    table: Table,
    image: Annotated[
        Path | None, typer.Argument(help="Its image, or their folder, to measure intensities.")
    ] = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(help="Micrometres a pixel.", show_default="what the file says, if it does"),
    ] = None,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
) -> None:
    """Measure the objects of label maps: size, shape, position, and intensities.

    Intensities are the values of the image as it is stored, of each channel. Lengths and areas are
    in micrometres where the file says how large its pixels are (OME, ImageJ, TIFF's resolution).
    Files that cannot be measured are left out of the table, and named at the end.
    """
    from samlet.measurements.files import pair_files
    from samlet.utils.csv_files import write_csv

    if pixel_size is not None and not pixel_size > 0:
        raise UserError(f"--pixel-size takes micrometres, such as 0.65, not {pixel_size}.")
    pairs = pair_files(labels, image)
    rows, failed = _measure_pairs(pairs, pixel_size, max_pixels)
    if failed and len(failed) == len(pairs):
        raise UserError("\n".join(failed))
    write_csv(table, rows)
    measured = len(pairs) - len(failed)
    console.print(
        f"{table}: {pluralize(len(rows), 'object')} of {pluralize(measured, 'label map')}"
    )
    if failed:
        reasons = "\n".join(failed)
        raise UserError(f"{len(failed)} of {len(pairs)} label maps failed:\n{reasons}")


def measure_results(
    paths: Sequence[Path], folders: Sequence[Path], table: Path, max_pixels: int
) -> None:
    """Write a table of all objects in the results of images, also those from before.

    Args:
        paths: the images; those without results are left out.
        folders: where the results of each are.
        table: the CSV file.
        max_pixels: see `samlet.images.read`.
    """
    from samlet.outputs.results import label_map_of
    from samlet.utils.csv_files import write_csv

    pairs = [
        (labels, path)
        for path, folder in zip(paths, folders, strict=True)
        if (labels := label_map_of(folder, path)) is not None
    ]
    rows, left_out = _measure_pairs(pairs, None, max_pixels)
    write_csv(table, rows)
    console.print(f"{table}: {pluralize(len(rows), 'object')}")
    for reason in left_out:
        console.print(f"Left out of {table}: {reason}")


def _measure_pairs(
    pairs: Sequence[tuple[Path, Path | None]], pixel_size: float | None, max_pixels: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of label maps with their images, and a sentence on each that cannot be measured."""
    from samlet.measurements.files import measure_file
    from samlet.utils.progress import progress_bar

    rows, failed = [], []
    with progress_bar() as progress:
        for labels, image in progress.track(pairs, description="Measuring"):
            try:
                rows += measure_file(labels, image, pixel_size, max_pixels)
            except UserError as error:
                failed.append(str(error))
    return rows, failed
