"""The slices and stacks in files, of which each has a path of its own."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from samlet.errors import UserError
from samlet.images.formats.decoded_image import IMAGE_SUFFIXES
from samlet.images.image_file import ImageFile, open_image
from samlet.images.slice_paths import SliceChoice, SlicePath
from samlet.images.stacks import SliceAxis

PLAIN_SUFFIXES = {*IMAGE_SUFFIXES} - {".tif", ".tiff"}
"""Of formats that have no stacks, so that large folders of them are listed at once."""


def list_slices(
    paths: Iterable[Path],
    choice: SliceChoice | None = None,
    *,
    channels: Sequence[int] | None = None,
    along: SliceAxis | str | None = None,
    note: Callable[[str], object] = lambda text: None,
) -> list[Path]:
    """The paths of slices in files; of an image its own path.

    Args:
        paths: of images and stacks, of which only metadata is read. One that cannot be opened is
            kept as it is, so that reading it tells why; so are slices that do not exist.
        choice: which slices; None for all of the first series.
        channels: chosen by the user, for whom pages of unknown meaning are channels.
        along: list stacks instead, whose slices are along this axis; "auto" is z if there are both.
        note: gets a sentence on each file of which not all series are listed.

    Raises:
        UserError: a slice was chosen of a file that has several axes, without telling the axis.
    """
    choice = choice or SliceChoice()
    found: list[Path] = []
    for path in paths:
        parsed = SlicePath.parse(path)
        if choice == SliceChoice() and parsed.file.suffix.lower() in PLAIN_SUFFIXES:
            found.append(path)
            continue
        try:
            found += [
                one.path
                for series in _series(parsed, choice, note)
                for one in _in_series(series, choice, channels, along)
            ]
        except _AxisError:
            raise
        except UserError:
            found.append(path)
    return found


def list_series(paths: Iterable[Path]) -> list[Path]:
    """The paths of all images and stacks in files; of a file with a single one its own path.

    Args:
        paths: of images and stacks, of which only metadata is read. One that cannot be opened is
            kept as it is, so that reading it tells why.
    """
    every = SliceChoice(series="all")
    found: list[Path] = []
    for path in paths:
        if path.suffix.lower() in PLAIN_SUFFIXES:
            found.append(path)
            continue
        try:
            found += [one.path for one in _series(SlicePath.parse(path), every)]
        except UserError:
            found.append(path)
    return found


class _AxisError(UserError):
    """A choice that does not fit a file."""


def _series(
    path: SlicePath, choice: SliceChoice, note: Callable[[str], object] = lambda text: None
) -> Sequence[SlicePath]:
    if isinstance(choice.series, int):
        return [replace(path, series=choice.series)]
    if path.series is not None:
        return [path]
    with open_image(path.path, max_pixels=sys.maxsize) as file:
        count = file.series_count
    if choice.series == "all" and count > 1:
        return [replace(path, series=number) for number in range(count)]
    if count > 1:
        note(
            f"{path.file} has {count} series, of which the first is read: choose another one with "
            "--series, counted from 0, or --series all."
        )
    return [path]


def _in_series(
    path: SlicePath,
    choice: SliceChoice,
    channels: Sequence[int] | None,
    along: str | None,
) -> Iterator[SlicePath]:
    with open_image(path.path, max_pixels=sys.maxsize) as file:
        chosen = {**path.numbers, **_named(file, choice.numbers)}
        axes = file.slice_axes(channels, bool(chosen) or along in ("z", "time"))
        if not axes and not chosen:
            yield path
            return
        too_far = [axis for axis, n in chosen.items() if n[-1] >= file.lengths.get(axis, 1)]
        if too_far:
            yield replace(path, numbers=chosen)
            return
        numbers = {axis: chosen.get(axis, every) for axis, every in file.numbers.items()}
    several = [axis for axis, those in numbers.items() if len(those) > 1]
    linked = None
    if along is not None and several:
        linked = "T" if "T" in several and (along == "time" or "Z" not in several) else "Z"
    apart = {axis: those for axis, those in numbers.items() if axis != linked}
    kept = {linked: chosen[linked]} if linked in chosen else {}
    for place in product(*apart.values()):
        single = {axis: range(n, n + 1) for axis, n in zip(apart, place, strict=True)}
        yield replace(path, numbers=kept | single)


def _named(file: ImageFile, numbers: Mapping[str, range]) -> Mapping[str, range]:
    """Numbers with the axis that is meant."""
    if "" not in numbers:
        return numbers
    if len(file.lengths) > 1:
        raise _AxisError(
            f"{file.path.file} has slices along time and z: say which one, as in --slice t=0,z=3."
        )
    if not file.lengths:
        return {} if numbers[""] == range(1) else {"Z": numbers[""]}
    return dict.fromkeys(file.lengths, numbers[""])
