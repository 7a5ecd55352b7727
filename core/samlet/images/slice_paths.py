"""Paths of slices: that of the file, with the numbers of series, time point and depth at its end.

`film.nd2.s2.t0.z3` is the slice at time 0 and depth 3 of the third series of `film.nd2`, and
`film.nd2.s2.t0` all slices of that time point. Wherever samlet takes the path of an image, it takes
such a path as well; results, tables and files of labels name slices by it. A file that really has
such a name is that file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from samlet.errors import UserError
from samlet.storage.locations import Location, Url

LETTERS = {"T": "t", "Z": "z"}
"""In paths and options, by the axis in OME's order of axes."""

AXIS_NAMES = {"T": "time", "Z": "z"}
"""What people call the axes of slices."""

_AXES = {letter: axis for axis, letter in LETTERS.items()}
_ENDING = re.compile(r"(?P<file>.+?)(?P<numbers>(?:\.(?:s\d+|[tz]\d+(?:-\d+)?))+)")
_NUMBERS = re.compile(r"([stz])(\d+)(?:-(\d+))?")
_CHOICE = re.compile(r"\s*(?:([tz])\s*=\s*)?(\d+)(?:-(\d+))?\s*")


@dataclass(frozen=True)
class SlicePath:
    """A path taken apart.

    Attributes:
        file: of the image or stack.
        series: counted from 0; None where it is not named, which means the first one.
        numbers: of slices along "T" and "Z", where they are named.
    """

    file: Path
    series: int | None = None
    numbers: Mapping[str, range] = field(default_factory=dict)

    @classmethod
    def parse(cls, path: str | Path) -> "SlicePath":
        """Take a path apart; what exists under its whole name is a file, and no slice."""
        parsed = cls.of_name(path)
        return cls(Path(path)) if parsed.ending and Path(path).exists() else parsed

    @classmethod
    def of_name(cls, path: str | Path) -> "SlicePath":
        """Take a path apart by its name alone."""
        path = Path(path)
        matched = _ENDING.fullmatch(path.name)
        if matched is None:
            return cls(path)
        found: dict[str, range] = {}
        parts = _NUMBERS.findall(matched["numbers"])
        for letter, first, last in parts:
            found[letter] = range(int(first), int(last or first) + 1)
        if len(found) < len(parts) or not all(found.values()):
            return cls(path)
        series = found.pop("s")[0] if "s" in found else None
        numbers = {_AXES[letter]: chosen for letter, chosen in found.items()}
        return cls(path.with_name(matched["file"]), series, numbers)

    @property
    def path(self) -> Path:
        """The path as a whole."""
        return self.file.with_name(f"{self.file.name}{self.ending}")

    @property
    def ending(self) -> str:
        """What is added to the name of the file: ".s2.t0.z3"."""
        series = "" if self.series is None else f".s{self.series}"
        return series + "".join(
            f".{letter}{format_numbers(self.numbers[axis])}"
            for axis, letter in LETTERS.items()
            if axis in self.numbers
        )

    @property
    def stem(self) -> str:
        """The name without the suffix of the file: "film.s2.t0.z3"."""
        return f"{self.file.stem}{self.ending}"


def split_slice(place: Location) -> tuple[Location, str]:
    """The file of a slice, and the ending that tells the slice; "" of a whole file."""
    if isinstance(place, Url):
        return Url(place.text), place.ending
    parsed = SlicePath.parse(place)
    return parsed.file, parsed.ending


def slice_path(
    file: str | Path, *, series: int | None = None, t: int | None = None, z: int | None = None
) -> Path:
    """The path of a slice, or of several slices of a file.

    Args:
        file: an image or a stack.
        series: image, scene or position of a file with several, counted from 0; None for the first.
        t: time point, counted from 0; None for all.
        z: depth, counted from 0; None for all.

    Examples:
        >>> slice_path("film.nd2", t=0, z=3).name
        'film.nd2.t0.z3'
    """
    chosen = {axis: range(n, n + 1) for axis, n in (("T", t), ("Z", z)) if n is not None}
    return SlicePath(Path(file), series, chosen).path


@dataclass(frozen=True)
class SliceChoice:
    """Which slices of files a user wants.

    Attributes:
        numbers: of slices along "T" and "Z"; under "" along the only axis of slices of a file.
        series: counted from 0; None for the first one.
    """

    numbers: Mapping[str, range] = field(default_factory=dict)
    series: int | Literal["all"] | None = None

    @classmethod
    def parse(cls, slices: str | None, series: str | None = None) -> "SliceChoice":
        """Read the options --slice and --series.

        Args:
            slices: a number counted from 0, or the first and the last one: "3", "3-7"; with several
                axes "t=0,z=3-7".
            series: a number counted from 0, or "all".

        Raises:
            UserError: they are something else.
        """
        numbers: dict[str, range] = {}
        for part in [] if slices is None else slices.split(","):
            matched = _CHOICE.fullmatch(part)
            axis = "" if matched is None else _AXES.get(matched[1], "")
            if matched is None or axis in numbers or (numbers and "" in (axis, *numbers)):
                raise UserError(
                    "--slice takes a number counted from 0, or the first and the last one, such as "
                    f"3 or 3-7, and t=0,z=3 where there are several axes, not {slices!r}."
                )
            numbers[axis] = range(int(matched[2]), int(matched[3] or matched[2]) + 1)
            if not numbers[axis]:
                raise UserError(f"--slice {slices} ends before it begins: turn it round.")
        if series is None or series == "all":
            return cls(numbers, None if series is None else "all")
        if not series.isdecimal():
            raise UserError(f"--series takes a number counted from 0, or all, not {series!r}.")
        return cls(numbers, int(series))


def format_numbers(numbers: range) -> str:
    """A number, or the first and the last one: "3", "3-7"."""
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
