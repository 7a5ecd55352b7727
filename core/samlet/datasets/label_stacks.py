"""Label stacks: the slices of a stack with those of its labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from samlet.errors import UserError
from samlet.images import SlicePath, open_image


def pair_slices(
    labels: Path, slices: Sequence[Path], named: Mapping[str, range] | None = None
) -> list[tuple[Path, Path]]:
    """Pair slices of a stack with the slices of a label stack.

    Args:
        labels: the file of the labels, which has as many slices as the stack, or as are named.
        slices: of one file, see `samlet.images.list_slices`.
        named: slices along "T" and "Z" that the labels are for, where a name tells it.

    Returns:
        a slice and the path of its labels, for each slice that the labels are for. Where pages
        without a name have the labels of one image, they are its channels.

    Raises:
        UserError: a file cannot be read, or they do not have the same slices.
    """
    chosen = [SlicePath.parse(path) for path in slices]
    for axis, numbers in (named or {}).items():
        chosen = [one for one in chosen if axis in one.numbers and one.numbers[axis][0] in numbers]
    if not chosen:
        return []
    whole = SlicePath(chosen[0].file, chosen[0].series)
    with open_image(whole.path) as image:
        every = {axis: range(count) for axis, count in image.lengths.items()}
        may_be_channels = image.has_unknown_pages
    with open_image(labels) as own:
        found = own.lengths
    if not found and len(chosen) == 1:
        return [(chosen[0].path, labels)]
    if not found and may_be_channels:
        return [(whole.path, labels)]
    for meant in (every, every | {**(named or {})}):
        lengths = {axis: len(numbers) for axis, numbers in meant.items() if len(numbers) > 1}
        axes = {axis: axis for axis in lengths}
        if len(lengths) == len(found) == 1:
            # Many programs do not tell what the slices of labels are.
            axes = dict(zip(lengths, found, strict=True))
        if {axes[axis]: count for axis, count in lengths.items()} == found:
            return [
                (
                    one.path,
                    SlicePath(
                        labels,
                        None,
                        {
                            axes[axis]: _single(one.numbers[axis][0] - meant[axis][0])
                            for axis in lengths
                        },
                    ).path,
                )
                for one in chosen
            ]
    raise UserError(
        f"{labels} has {_described(found)}, and {whole.path} has "
        f"{_described({axis: len(numbers) for axis, numbers in every.items()})}: choose the labels "
        "of this stack."
    )


def _single(number: int) -> range:
    return range(number, number + 1)


def _described(lengths: Mapping[str, int]) -> str:
    names = {"T": "time points", "Z": "slices along z"}
    return " x ".join(f"{count} {names[axis]}" for axis, count in lengths.items()) or "one slice"
