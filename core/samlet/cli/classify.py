"""`samlet classify`: classes for all objects, learned from those of some."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    check_table,
    class_names,
    parse_channels,
    refuse_url,
    write_class_names,
)
from samlet.errors import UserError
from samlet.images.formats.decoded_image import DEFAULT_MAX_PIXELS
from samlet.utils.console import console
from samlet.utils.messages import bullet_list, pluralize

if TYPE_CHECKING:
    from samlet.classification.files import ObjectsOfImage
    from samlet.datasets.labelled_images import ObjectClass
    from samlet.images import SliceChoice


def classify(
    labels: Annotated[
        Path,
        typer.Argument(
            help="A label map, or a folder of them; or ImageJ ROIs, YOLO or COCO.",
            callback=refuse_url,
        ),
    ],
    image: Annotated[
        Path,
        typer.Argument(help="Its image, or the folder of the images.", callback=refuse_url),
    ],
    out: Out,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Classes of some objects: CSV with the columns image, label (the object's "
            "number) and class.",
            show_default="those that the labels carry",
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV file for the class and its probability, a line for each object.",
            callback=check_table,
        ),
    ] = None,
    also: Also = None,
    model: Model = "microscopy",
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    channels: Channels = None,
    slices: Slice = None,
    series: Series = None,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace other results of the images in OUT.")
    ] = False,
) -> None:
    """Give each labelled object a class, learned from the objects whose class is known.

    Known are the classes in the CSV file, and those that the labels carry: COCO categories, YOLO's
    classes, labels of Label Studio, names of ImageJ ROIs, classes given in napari. They are never
    changed. One example of each class is enough to begin with; correct what is wrong, and run the
    command again.

    The whole CSV file is checked first, and nothing is written if a line is wrong. Each image gets
    COCO and GeoJSON files. Results of samlet that the labels are part of can be in OUT: they are
    kept, and get the classes.
    """
    from samlet.classification.classifier import check_classes
    from samlet.classification.files import classify_objects
    from samlet.images import SliceChoice, is_folder_of_images, read
    from samlet.outputs.further_formats import check_names, parse_formats
    from samlet.utils.csv_files import write_csv
    from samlet.utils.progress import progress_bar

    formats = parse_formats(also)
    root = image if is_folder_of_images(image) else image.parent
    found = _read(labels, image, SliceChoice.parse(slices, series), max_pixels)
    given = _given(found, classes, root)
    names = check_classes(name for of_image in given for name in of_image.values())
    paths = [objects.image for objects in found]
    folders = [out / path.relative_to(root).parent for path in paths]
    check_names(formats, paths, folders)
    infos = [
        _info(objects, folder, formats, replace) | {"classified": {"model": model}}
        for objects, folder in zip(found, folders, strict=True)
    ]
    predictor = samlet.Predictor(samlet.load(model), engine, precision=precision)
    read_image = partial(read, channels=parse_channels(channels), max_pixels=max_pixels)
    with progress_bar() as progress:
        task = progress.add_task("Describing", total=len(found))
        classified = classify_objects(
            predictor, found, given, read_image, lambda _: progress.advance(task)
        )
    categories = class_names(out, names)
    write_class_names(out, {name for info in infos for name in info.get("also", ())}, categories)
    rows = []
    for objects, of_image, folder, info in zip(found, classified, folders, infos, strict=True):
        _write(objects, of_image, folder, info, categories)
        rows += _rows(objects.image.relative_to(root).as_posix(), of_image)
    if table is not None:
        write_csv(table, rows)
    counts = Counter(row["class"] for row in rows)
    told = ", ".join(f"{counts[name]} {name}" for name in names)
    examples = sum(map(len, given))
    console.print(
        f"{pluralize(len(rows), 'object')} of {pluralize(len(found), 'image')}: {told} "
        f"(learned from {examples})"
    )
    console.print(f"Results are in {out}")


def _read(
    labels: Path, image: Path, choice: "SliceChoice", max_pixels: int
) -> "list[ObjectsOfImage]":
    """The objects of all images; UserError if any cannot be read."""
    from samlet.classification.files import read_objects
    from samlet.measurements.files import pair_files
    from samlet.utils.progress import progress_bar

    found, failed = [], []
    with progress_bar() as progress:
        for source, path in progress.track(
            pair_files(labels, image, choice), description="Reading"
        ):
            assert path is not None
            try:
                found.append(read_objects(source, path, max_pixels))
            except UserError as error:
                failed.append(str(error))
    if failed:
        raise UserError(
            f"{pluralize(len(failed), 'file')} of labels cannot be used, so nothing was classified:"
            f"{bullet_list(failed)}"
        )
    return found


def _given(
    found: "Sequence[ObjectsOfImage]", classes: Path | None, root: Path
) -> list[dict[int, str]]:
    """The classes that are given to objects of each image; those of the file come first.

    Raises:
        UserError: the file has faults.
    """
    if classes is None:
        return [objects.given for objects in found]
    from samlet.cli.class_file import read_class_file

    file = read_class_file(classes, root, [objects.image for objects in found])
    given = [objects.given | file.classes_of(objects.image, objects.numbers) for objects in found]
    if file.faults:
        raise UserError(
            f"{classes} has {pluralize(len(file.faults), 'mistake')}, so nothing was classified:"
            f"{bullet_list(file.faults)}"
        )
    return given


def _info(
    objects: "ObjectsOfImage", folder: Path, formats: Sequence[str], replace: bool
) -> dict[str, Any]:
    """How the results of an image were made, without its classes.

    Raises:
        UserError: there are results of other objects.
    """
    from samlet.outputs.results import (
        check_owner,
        further_formats,
        image_source,
        label_map_of,
        read_earlier,
    )

    before = read_earlier(folder, objects.image, replace)
    source = image_source(objects.image)
    made = source if objects.results is None else {**objects.results.info}
    if before is not None and not replace:
        check_owner(before.info, source, objects.image, folder)
        is_same = objects.results is not None and before.info == objects.results.info
        # Without a label map, which would be left of the others, they are from this command.
        is_own = "classified" in before.info and label_map_of(folder, objects.image) is None
        if not is_same and not is_own:
            raise UserError(
                f"{folder} has other objects of {objects.image.name} already: give another --out, "
                "or --replace to replace them."
            )
    return made | further_formats(formats, before)


def _write(
    objects: "ObjectsOfImage",
    classes: "Mapping[int, ObjectClass]",
    folder: Path,
    info: Mapping[str, Any],
    categories: Sequence[str],
) -> None:
    from samlet.classification.files import with_classes
    from samlet.outputs.results import Results, write_classified

    records = with_classes(objects, classes)
    results = Results(records, info, objects.size, categories)
    write_classified(folder, objects.image, results)


def _rows(image: str, classes: "Mapping[int, ObjectClass]") -> list[dict[str, Any]]:
    from samlet.cli.class_file import COLUMNS, PROBABILITY

    columns = (*COLUMNS, PROBABILITY)
    # Without a probability where a person has given the class, see `read_class_file`.
    return [
        dict(zip(columns, (image, number, *known), strict=True))
        for number, known in classes.items()
    ]
