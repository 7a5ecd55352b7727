"""Files of prompts for many objects in many images: CSV, or COCO JSON with boxes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from samlet.datasets.coco import annotations_by_id, category_names, entry_id, images_by_name
from samlet.datasets.json_files import get_field, read_json
from samlet.datasets.label_studio.filenames import match
from samlet.errors import UserError
from samlet.images.decoding import decode
from samlet.outputs.records import DEFAULT_CATEGORY
from samlet.utils.csv_files import read_csv
from samlet.utils.messages import join_first, pluralize

REQUIRED, POINT, BOX, CATEGORY = ("image", "object"), ("x", "y"), ("x1", "y1", "x2", "y2"), "class"


class Prompt(NamedTuple):
    """A click or a box.

    Attributes:
        where: its place in the file, to start a sentence with.
        point: (x, y) in pixels of the image; None for a box.
        label: of the point: 1 on the object, 0 on the background.
        box: x1, y1, x2, y2; None for a point.
    """

    where: str
    point: tuple[float, float] | None
    label: int
    box: tuple[float, float, float, float] | None


@dataclass
class PromptedObject:
    """An object, and its prompts in the order of the file.

    Attributes:
        name: of the object, unique within its image.
        category: None if the file has none.
        prompts: clicks, and one box at most.
    """

    name: str
    category: str | None
    prompts: list[Prompt] = field(default_factory=list)

    @property
    def points(self) -> list[list[float]]:
        """N x 2 of (x, y)."""
        return [list(prompt.point) for prompt in self.prompts if prompt.point is not None]

    @property
    def point_labels(self) -> list[int]:
        """1 or 0 for each point."""
        return [prompt.label for prompt in self.prompts if prompt.point is not None]

    @property
    def box(self) -> list[float] | None:
        """The box, if it has one."""
        return next((list(prompt.box) for prompt in self.prompts if prompt.box is not None), None)


@dataclass
class PromptFile:
    """What a file of prompts holds.

    Attributes:
        by_image: the objects of each image, in the order of the file, or of their numbers.
        faults: a sentence about each entry that cannot be used.
        notes: sentences on what is left out on purpose.
    """

    by_image: dict[Path, list[PromptedObject]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def categories(self) -> list[str]:
        """Names of all categories, sorted; with that of objects without one, if there are such."""
        objects = (one for of_image in self.by_image.values() for one in of_image)
        return sorted({one.category or DEFAULT_CATEGORY for one in objects})


class _Entry(NamedTuple):
    """A line of the file."""

    image: str
    object: str
    category: str | None
    prompt: Prompt


def read_prompt_file(file: Path, root: Path, paths: Sequence[Path]) -> PromptFile:
    """Read prompts, and find the images that they belong to.

    An image is meant by the end of its path, see `samlet.datasets.label_studio.filenames`.

    Args:
        file: .json is COCO, whose annotations have a "bbox"; everything else CSV with the columns
            image, object, and x, y, label for a click or x1, y1, x2, y2 for a box; class is
            optional. Coordinates are in pixels of the image.
        root: the folder of the images.
        paths: the images.

    Raises:
        UserError: the file cannot be read, or is neither of the two.
    """
    found = PromptFile()
    is_coco = file.suffix.lower() == ".json"
    entries = list(_coco_entries(file, found) if is_coco else _csv_entries(file, found))
    first = {entry.image: entry.prompt.where for entry in reversed(entries)}
    matches = match(root, paths, first)
    found.faults += matches.faults
    missing = (
        f"not {paths[0]}: check the name, or give the folder of the images"
        if len(paths) == 1
        else f"not below {root}: check the name"
    )
    found.faults += [
        f"{first[name]} is for the image {name}, which is {missing}." for name in matches.unmatched
    ]
    objects: dict[tuple[Path, str], PromptedObject] = {}
    for entry in entries:
        path = matches.paths.get(entry.image)
        if path is None:
            continue
        key = path, entry.object
        if key not in objects:
            objects[key] = PromptedObject(entry.object, entry.category)
            found.by_image.setdefault(path, []).append(objects[key])
        _add(objects[key], entry, found.faults)
    for one in objects.values():
        if one.box is None and 1 not in one.point_labels:
            found.faults.append(
                f"{one.prompts[0].where} is on the background of object {one.name}, which has "
                "neither a click on it nor a box: add one."
            )
    for of_image in found.by_image.values():
        # So that objects 1 to n have these numbers in the label map.
        if all(one.name.isdecimal() for one in of_image):
            of_image.sort(key=lambda one: int(one.name))
    if not entries and not found.faults:
        raise UserError(f"{file} has no prompt: check that it is the right file.")
    return found


def outside(path: Path, objects: Sequence[PromptedObject], max_pixels: int) -> list[str]:
    """A sentence about each prompt that is outside its image, or about an image that is broken."""
    try:
        height, width = decode(path, max_pixels=max_pixels).values.shape[:2]
    except UserError as error:
        return [f"{objects[0].prompts[0].where}: {error}"]
    beyond = f"outside {path}, which is {width} x {height} pixels."
    faults = []
    for prompt in (prompt for one in objects for prompt in one.prompts):
        if prompt.point is not None:
            x, y = prompt.point
            if not (0 <= x <= width and 0 <= y <= height):
                faults.append(f"{prompt.where}: the point {x:g},{y:g} lies {beyond}")
        if prompt.box is not None:
            x1, y1, x2, y2 = prompt.box
            if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
                faults.append(f"{prompt.where}: the box {x1:g},{y1:g},{x2:g},{y2:g} lies {beyond}")
    return faults


def _add(one: PromptedObject, entry: _Entry, faults: list[str]) -> None:
    where = entry.prompt.where
    if entry.category != one.category:
        faults.append(
            f"{where}: object {one.name} is of the class {entry.category}, and in "
            f"{one.prompts[0].where} of {one.category}: give it one."
        )
    if entry.prompt.box is not None and one.box is not None:
        faults.append(f"{where} is a second box of object {one.name}: give each object its own.")
    one.prompts.append(entry.prompt)


def _csv_entries(file: Path, found: PromptFile) -> Iterator[_Entry]:
    columns, lines = read_csv(file, found.faults)
    _check_columns(file, columns, found)
    for where, values in lines:
        try:
            yield _csv_entry(where, values)
        except UserError as error:
            found.faults.append(str(error))


def _check_columns(file: Path, columns: Sequence[str], found: PromptFile) -> None:
    has_points = {*POINT, "label"} <= {*columns}
    if not {*REQUIRED} <= {*columns} or not (has_points or {*BOX} <= {*columns}):
        raise UserError(
            f"{file} has the columns {join_first(columns, 9)}: its first line must name image and "
            "object, and x, y and label for clicks, or x1, y1, x2 and y2 for boxes, or all of them."
        )
    known = {*REQUIRED, *POINT, "label", *BOX, CATEGORY}
    if unknown := [name for name in columns if name not in known]:
        found.notes.append(f"{file}: columns that are not used: {join_first(unknown)}.")


def _csv_entry(where: str, values: Mapping[str, str]) -> _Entry:
    for name in REQUIRED:
        if not values.get(name):
            raise UserError(f"{where} has no {name}: fill it in.")
    is_point = any(values.get(name) for name in (*POINT, "label"))
    is_box = any(values.get(name) for name in BOX)
    if is_point and is_box:
        raise UserError(f"{where} has a click and a box: give each a line of its own.")
    if not is_point and not is_box:
        raise UserError(f"{where} has neither a click (x, y, label) nor a box: fill it in.")
    if is_box:
        x1, y1, x2, y2 = (_number(values, name, where) for name in BOX)
        prompt = _box(where, x1, y1, x2, y2)
    else:
        x, y, label = (_number(values, name, where) for name in (*POINT, "label"))
        if label not in (0, 1):
            raise UserError(
                f"{where} has the label {values['label']}: it must be 1 on the object, or 0 on the "
                "background."
            )
        prompt = Prompt(where, (x, y), int(label), None)
    return _Entry(values["image"], values["object"], values.get(CATEGORY) or None, prompt)


def _number(values: Mapping[str, str], name: str, where: str) -> float:
    text = values.get(name, "")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise UserError(f"{where}: {name} is {text!r}, which is not a number: correct it.")
    return value


def _box(where: str, x1: float, y1: float, x2: float, y2: float) -> Prompt:
    if x1 >= x2 or y1 >= y2:
        raise UserError(
            f"{where}: the box {x1:g},{y1:g},{x2:g},{y2:g} is inside out: give x1,y1,x2,y2 with "
            "x1 < x2 and y1 < y2."
        )
    return Prompt(where, None, 1, (x1, y1, x2, y2))


def _coco_entries(file: Path, found: PromptFile) -> Iterator[_Entry]:
    content = read_json(file)
    listed = get_field(content, "images", list, str(file))
    annotations = get_field(content, "annotations", list, str(file))
    ids, by_name = images_by_name(listed, file, found.faults)
    by_id = annotations_by_id(annotations, ids, file, found.faults)
    categories = category_names(content)
    crowds = 0
    for name, entries in by_name.items():
        numbers = dict.fromkeys(entry_id(entry, "id", where) for where, entry in entries)
        own = (item for number in numbers for item in by_id[number])
        for count, (where, annotation) in enumerate(own, start=1):
            if annotation.get("iscrowd") and "attributes" not in annotation:
                crowds += 1
                continue
            try:
                prompt = _coco_box(where, annotation)
            except UserError as error:
                found.faults.append(str(error))
                continue
            category = categories.get(str(annotation.get("category_id")))
            yield _Entry(name, str(annotation.get("id", f"number {count}")), category, prompt)
    if crowds:
        found.notes.append(
            f"{file}: {pluralize(crowds, 'annotation')} marked iscrowd, which means several "
            "objects in one, left out."
        )


def _coco_box(where: str, annotation: Any) -> Prompt:
    box = get_field(annotation, "bbox", list, where, "give each annotation its box")
    numbers = [side for side in box if isinstance(side, int | float) and isfinite(side)]
    if len(numbers) != 4 or len(box) != 4:
        raise UserError(f'{where} has a "bbox" that is not x, y, width, height: correct it.')
    x, y, width, height = map(float, numbers)
    return _box(where, x, y, x + width, y + height)
