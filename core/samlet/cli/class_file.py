"""Files of classes for objects that are labelled already: CSV with image, label and class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samlet.datasets.label_studio.filenames import match
from samlet.errors import UserError
from samlet.outputs.records import DEFAULT_CATEGORY
from samlet.utils.csv_files import CsvLine, read_csv
from samlet.utils.messages import join_first

COLUMNS = ("image", "label", "class")
PROBABILITY = "class_probability"


@dataclass
class ClassFile:
    """What a file of classes holds.

    Attributes:
        by_image: of each image, by the number of the object, its line in the file, to start a
            sentence with, and its class.
        faults: a sentence about each line that cannot be used.
    """

    by_image: dict[Path, dict[int, tuple[str, str]]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def classes_of(self, path: Path, numbers: Sequence[int]) -> dict[int, str]:
        """The classes that are given to objects of an image; of others there are faults then.

        Args:
            path: of the image.
            numbers: of all its objects.
        """
        lines = self.by_image.get(path, {})
        known = set(numbers)
        self.faults += [
            f"{where}: {path} has no object {number}, but {join_first(numbers) or 'none at all'}."
            for number, (where, _) in lines.items()
            if number not in known
        ]
        return {number: name for number, (_, name) in lines.items() if number in known}


def read_class_file(file: Path, root: Path, paths: Sequence[Path]) -> ClassFile:
    """Read classes, and find the images that they belong to.

    Lines with a class_probability are left out: a classifier has given their classes, and not a
    person. So a table that `samlet classify` has written can be corrected, and given to it again.

    Args:
        file: CSV with the columns image, label (the number of an object) and class. An image is
            meant by the end of its path, see `samlet.datasets.label_studio.filenames`.
        root: the folder of the images.
        paths: the images.

    Raises:
        UserError: the file cannot be read, or has other columns.
    """
    found = ClassFile()
    columns, rows = read_csv(file, found.faults)
    if missing := [name for name in COLUMNS if name not in columns]:
        raise UserError(
            f"{file} has no column {missing[0]}: its first line must name image, label and class."
        )
    lines = [line for line in rows if not line.values.get(PROBABILITY)]
    names = {line.values.get("image", ""): line.where for line in reversed(lines)}
    names.pop("", None)
    matches = match(root, paths, names)
    found.faults += matches.faults
    found.faults += [
        f"{names[name]} is for the image {name}, which is not below {root} or has no labels: check "
        "the name."
        for name in matches.unmatched
    ]
    for line in lines:
        try:
            _add(found, line, matches.paths)
        except UserError as error:
            found.faults.append(str(error))
    return found


def _add(found: ClassFile, line: CsvLine, paths: Mapping[str, Path]) -> None:
    where, values = line
    for name in COLUMNS:
        if not values.get(name):
            raise UserError(f"{where} has no {name}: fill it in, or remove the line.")
    if not values["label"].isdecimal() or not int(values["label"]):
        raise UserError(
            f"{where} has the label {values['label']}, which is not the number of an object: give "
            "that of the label map."
        )
    if values["class"] == DEFAULT_CATEGORY:
        raise UserError(
            f"{where} has the class {DEFAULT_CATEGORY}, which stands for objects without a class: "
            "give another name."
        )
    if values["image"] not in paths:
        return
    of_image = found.by_image.setdefault(paths[values["image"]], {})
    number, name = int(values["label"]), values["class"]
    first_where, first_name = of_image.setdefault(number, (where, name))
    if first_name != name:
        raise UserError(
            f"{where}: object {number} is of the class {name}, and in {first_where} of "
            f"{first_name}: give it one."
        )
