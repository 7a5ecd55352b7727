"""Options that several commands have, and how their values are read."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from samlet.errors import UserError
from samlet.images.formats.decoded_image import IMAGE_SUFFIXES
from samlet.images.rgb import parse_channels
from samlet.storage.locations import PROTOCOLS, Location
from samlet.storage.staging import staged_files
from samlet.utils.console import console

if TYPE_CHECKING:
    from samlet.everything.batch import Outcome
    from samlet.images.listing import ImageList


def refuse_url(path: Path | None) -> Path | None:
    """Check an option that is for this machine alone; for `callback` of typer.

    Raises:
        UserError: it was given as a URL.
    """
    protocol = str(path).partition(":")[0]
    if path is not None and path.parts[:1] == (f"{protocol}:",) and protocol in PROTOCOLS:
        rest = "/".join(path.parts[1:])
        raise UserError(
            f"{protocol}://{rest} is a URL, where a file or folder of this machine is needed: copy "
            "it here, or choose a folder."
        )
    return path


FILE_SUFFIXES = frozenset(
    (*IMAGE_SUFFIXES, ".csv", ".json", ".onnx", ".pt", ".pth", ".safetensors", ".xml", ".zip")
)


def check_folder(path: Path | None) -> Path | None:
    """Check an option for a folder, there or not, of several files; for `callback` of typer.

    Raises:
        UserError: it was given as a URL; a file is there, or its name is that of a file.
    """
    refuse_url(path)
    if path is None:
        return None
    if path.is_file() or (path.suffix.lower() in FILE_SUFFIXES and not path.is_dir()):
        raise UserError(
            f"{path} is the name of a file, where a folder for several files is needed: name a "
            f"folder, such as {path.with_suffix('')}."
        )
    return path


def check_table(path: Path | None) -> Path | None:
    """Check an option for a file that is written at the end; for `callback` of typer.

    Raises:
        UserError: it was given as a URL, or is a folder.
    """
    if path is not None and path.is_dir():
        raise UserError(f"{path} is a folder: give a file in it, such as {path / 'table.csv'}.")
    return refuse_url(path)


def unless_url(
    check: Callable[[Path | None], Path | None],
) -> Callable[[str | None], str | None]:
    """As `check_folder` or `check_table`, where a URL will do."""

    def check_text(text: str | None) -> str | None:
        if text is not None and "://" not in text:
            check(Path(text))
        return text

    return check_text


def check_model(name: str) -> str:
    """Check an option for a model, before anything else is read; for `callback` of typer.

    Raises:
        UserError: there is no such name or file.
    """
    from samlet.checkpoints.loading import check_name

    check_name(name)
    return name


Model = Annotated[
    str,
    typer.Option(help="Model name (see `samlet models`) or checkpoint file.", callback=check_model),
]
EngineName = Annotated[
    str, typer.Option("--engine", help="auto, torch or openvino (the fastest on a CPU).")
]
PrecisionName = Annotated[
    str,
    typer.Option(
        "--precision",
        help="Of the image encoder: auto, float32, or bfloat16 (faster, on processors that compute "
        "in it).",
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for the results.", callback=check_folder)]
OutOrUrl = Annotated[
    str,
    typer.Option(
        "--out",
        metavar="FOLDER|URL",
        help="Folder for the results, or its URL.",
        callback=unless_url(check_folder),
    ),
]
Images = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES",
        help="An image, a stack, a folder of them, the URL of one of these, or a text file with a "
        "path or URL per line.",
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(help="One to three channels of a multichannel image, counted from 0: 0,2."),
]
CLASSES_FILE = "classes.txt"
Slice = Annotated[
    str | None,
    typer.Option(
        "--slice",
        help="Slices of stacks, counted from 0: 3, or 3-7; t=0,z=3 where there are time and z.",
        show_default="all",
    ),
]
Series = Annotated[
    str | None,
    typer.Option(
        "--series",
        help="Series (image, scene, position) of files with several, counted from 0, or all.",
        show_default="the first",
    ),
]
MaxPixels = Annotated[int, typer.Option(help="Refuse images with more pixels than this.")]

Also = Annotated[
    str | None,
    typer.Option(
        help="Further files for each image, with commas: rois (a zip for ImageJ's ROI Manager), "
        "yolo (text of polygons), coco-polygons (in place of RLE)."
    ),
]


def parse_numbers(text: str, count: int, option: str) -> list[float]:
    """Read an option such as "120,80".

    Raises:
        UserError: it does not have so many numbers.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        form, example = ("X,Y", "120,80") if count == 2 else ("X1,Y1,X2,Y2", "120,80,180,140")
        raise UserError(
            f"{option} takes {form} in pixels, for example {option} {example}, not {text!r}."
        )
    return numbers


def find_images(
    image: Path,
    out: Path | None,
    channels: str | None,
    slices: str | None,
    series: str | None,
) -> tuple[list[Path], Path]:
    """Find the images of a command, of stacks each slice.

    Args:
        image: an image, a stack, or a folder of them.
        out: folder of the results, which are no images.
        channels: value of --channels.
        slices: of --slice.
        series: of --series.

    Returns:
        their paths, and the folder to which these are relative.

    Raises:
        UserError: the folder holds no image, or an option is wrong.
    """
    from samlet import images

    options = _slice_options(channels, slices, series)
    is_folder = images.is_folder_of_images(image)
    if is_folder:
        found = images.find(image, out)
    else:
        images.check_exists(image)
        found = [image]
    paths = images.list_slices(found, **options)
    return paths, image if is_folder else image.parent


def list_locations(
    images: Location,
    results: Location,
    channels: str | None,
    slices: str | None,
    series: str | None,
    along: str | None = None,
    opened: Collection[Location] = (),
) -> "ImageList":
    """Find the images of a command, here or by URL; see `find_images` and `list_slices_at`.

    Raises:
        UserError: there is no image, or an option is wrong.
    """
    from samlet.images.listing import list_images, list_slices_at

    options = _slice_options(channels, slices, series)
    slices_of = partial(list_slices_at, along=along, opened=opened, **options)
    return list_images(images, results, slices_of)


def _slice_options(channels: str | None, slices: str | None, series: str | None) -> dict[str, Any]:
    """Those of `samlet.images.list_slices`."""
    from samlet.images import SliceChoice

    return {
        "choice": SliceChoice.parse(slices, series),
        "channels": parse_channels(channels),
        "note": console.print,
    }


@contextmanager
def graceful_exit(to: Console = console) -> Iterator[None]:
    """End a command that resumes with status 130 on Ctrl-C, and say so.

    Args:
        to: where it is said, unless what was stopped has said it already, and raised with a reason.
    """
    try:
        yield
    except KeyboardInterrupt as stopped:
        if not stopped.args:
            to.print("Stopped; run the same command again to resume.")
        raise typer.Exit(130) from None


def report_outcome(outcome: "Outcome", count: int, out: Location, kept_as: str) -> None:
    """Say how a batch ended.

    Args:
        outcome: of the batch.
        count: of its images.
        out: folder of the results.
        kept_as: why results were not replaced, to go on after "Kept, since".

    Raises:
        UserError: images failed.
    """
    if outcome.skipped:
        console.print(f"{outcome.skipped} of {count} were finished before and skipped.")
    if outcome.kept:
        kept = ", ".join(outcome.kept)
        console.print(f"Kept, since {kept_as} (--replace replaces them): {kept}")
    check_failures(outcome.failed, count)
    console.print(f"Results are in {out}")


def check_failures(failed: Sequence[str], count: int, kind: str = "image") -> None:
    """Say what failed, once everything else is done.

    Args:
        failed: a sentence for each that failed.
        count: how many there were.
        kind: what they are, in the singular.

    Raises:
        UserError: any failed.
    """
    if failed:
        reasons = "\n".join(failed)
        raise UserError(
            reasons if count == 1 else f"{len(failed)} of {count:,} {kind}s failed:\n{reasons}"
        )


def class_names(out: Location, categories: Sequence[str]) -> list[str]:
    """The categories in the order of YOLO's classes, which never changes within a folder.

    Args:
        out: folder of the results; those in its classes.txt come first.
        categories: of the objects that will be written.

    Raises:
        UserError: there is such a file, and it cannot be read.
    """
    from samlet.outputs.yolo import read_classes

    with staged_files(out, [CLASSES_FILE]) as here:
        return list(dict.fromkeys([*read_classes(here / CLASSES_FILE), *categories]))


def write_class_names(out: Location, formats: Collection[str], categories: Sequence[str]) -> None:
    """Write the names of YOLO's classes, if images were written in that format.

    Args:
        out: folder of the results.
        formats: in which images were written.
        categories: from `class_names`.

    Raises:
        UserError: the file cannot be written.
    """
    from samlet.outputs.yolo import write_classes

    if "yolo" in formats:
        with staged_files(out, [CLASSES_FILE]) as here:
            write_classes(here / CLASSES_FILE, categories)
