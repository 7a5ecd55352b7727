"""Check labels, all of them, before anything is done with them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from skimage.measure import label as connected

from samlet.datasets.labelled_images import LabelledImage, LabelledImages, ObjectClass, ReadLayers
from samlet.errors import UserError
from samlet.utils.messages import bullet_list, join_first, pluralize
from samlet.utils.prefetch import prefetch
from samlet.utils.progress import progress_bar

MIN_PART_AREA = 16
"""Connected parts with fewer pixels are not counted."""

CLASS_PARTS = 2.0
"""Mean number of parts per object from which on objects are taken for classes."""

SINGLE_CLASS_PARTS = 1.5
"""The same if each image has only one object, with the same number in all images."""

MAX_CLASSES = 40
"""With more objects per image than this they are not taken for classes."""


@dataclass(frozen=True)
class _LabelStats:
    """What the labels of one image have in them.

    Attributes:
        numbers: of the objects, rising.
        parts: number of connected parts of all objects.
        holes: number of connected parts of the background if there is only one object and it covers
            most of the image; else 0.
    """

    numbers: np.ndarray
    parts: int
    holes: int


@dataclass(frozen=True)
class CheckedLabels:
    """Labels that can be used, and what is to be said about them and the others.

    Attributes:
        found: what was checked.
        usable: the images whose labels can be used, sorted by path.
        with_objects: paths of those of them that have an object.
        left_out: by image, a sentence for each object that is left out, or one for all of them.
        warnings: sentences about labels that are used, but look wrong.
        unlabelled_slices: number of slices of label stacks in which there is nothing.
    """

    found: LabelledImages
    usable: Sequence[LabelledImage]
    with_objects: frozenset[Path]
    left_out: dict[str, list[str]]
    warnings: Sequence[str]
    unlabelled_slices: int = 0

    def messages(self) -> list[str]:
        """What the user should know before the labels are used, as paragraphs."""
        found = self.found
        count = len(found) + len(found.unlabelled)
        has = "has" if len(found) == 1 else "have"
        paragraphs = [f"{len(found):,} of {pluralize(count, 'image')} {has} labels."]
        if found.unlabelled:
            paragraphs[0] += f" Without labels: {join_first([p.name for p in found.unlabelled])}."
        if found.unmatched:
            paragraphs[0] += f" Labels without an image: {join_first(found.unmatched)}."
        if self.unlabelled_slices:
            paragraphs.append(
                f"{pluralize(self.unlabelled_slices, 'slice')} without objects in a label stack, "
                "as if nobody had labelled them: left out."
            )
        if faults := _flatten(self.left_out):
            count = len(found) - len(self.usable) - self.unlabelled_slices
            images_left_out = pluralize(count, "whole image")
            paragraphs.append(
                f"Left out of the labels, {images_left_out} among them:{bullet_list(faults)}"
            )
        return paragraphs + [f"Warning: {warning}" for warning in self.warnings]


def check_labels(
    found: LabelledImages, split: bool | None = False, threads: int = 2
) -> CheckedLabels:
    """Read all images and their labels once, and leave out what is faulty.

    A faulty object is left out; so is an image whose labels cannot be used at all.

    Args:
        found: from `samlet.datasets.find_labelled_images`.
        split: True makes each connected part of an object an object of its own; False takes objects
            as they are; None does so, too, but refuses labels that look like class masks.
        threads: number of threads that read.

    Raises:
        UserError: no image has usable labels; or `split` is None and the labels look like class
            masks (semantic segmentation).
    """
    left_out = {"labels": list(found.faults)} if found.faults else {}
    usable, stats = [], []
    unlabelled_slices = 0
    with progress_bar() as progress:
        task = progress.add_task("Checking labels", total=len(found))
        for item, item_stats, faults in prefetch(
            found, _read_stats, threads, depth=2 * max(1, threads)
        ):
            progress.advance(task)
            if faults:
                left_out[str(item.path)] = faults
            if item_stats is not None and item.may_be_unlabelled and not len(item_stats.numbers):
                unlabelled_slices += 1
            elif item_stats is not None:
                usable.append(item)
                stats.append(item_stats)
    if not usable:
        faults = _flatten(left_out) or ["There is no object in the label stacks."]
        raise UserError(f"None of the labels can be used:{bullet_list(faults)}")
    warnings = _warnings(usable, stats)
    classes = _describe_classes(usable, stats)
    if split:
        usable = [replace(item, read_layers=partial(_split, item.read_layers)) for item in usable]
    elif classes is not None:
        if split is None:
            raise UserError(
                f"{classes}: add --split to make each separate part an object, or --no-split if "
                "all parts of a number are one object."
            )
        warnings.append(f"{classes}. If they are, give each object its own number.")
    with_objects = frozenset(
        item.path for item, of_item in zip(usable, stats, strict=True) if len(of_item.numbers)
    )
    return CheckedLabels(found, usable, with_objects, left_out, warnings, unlabelled_slices)


def _flatten(left_out: dict[str, list[str]]) -> list[str]:
    return [fault for faults in left_out.values() for fault in faults]


def _read_stats(item: LabelledImage) -> tuple[LabelledImage, _LabelStats | None, list[str]]:
    """Read an image and its labels.

    Returns:
        the image; its statistics, None if its labels cannot be used; what is left out of them.
    """
    left_out: list[str] = []
    try:
        _, layers = item.read(left_out)
    except UserError as error:
        return item, None, [str(error)]
    numbers = _numbers(layers)
    if not len(numbers) and left_out:
        return item, None, left_out
    background = layers[0] == 0
    is_covered = len(numbers) == 1 and 2 * np.count_nonzero(background) < background.size
    parts = sum(_count_parts(layer) for layer in layers)
    return (
        item,
        _LabelStats(numbers, parts, _count_parts(background) if is_covered else 0),
        left_out,
    )


def _numbers(layers: np.ndarray) -> np.ndarray:
    """The numbers of the objects, rising."""
    numbers = layers[layers > 0]
    if numbers.size and numbers.max() > layers.size:
        return np.unique(numbers)
    # Counting is faster than sorting, unless there are large numbers.
    return np.flatnonzero(np.bincount(numbers))


def _count_parts(layer: np.ndarray) -> int:
    parts = connected(layer, connectivity=2)
    return int((np.bincount(parts.ravel())[1:] >= MIN_PART_AREA).sum())


def _describe_classes(usable: Sequence[LabelledImage], stats: Sequence[_LabelStats]) -> str | None:
    """A sentence without full stop if the labels look like class masks; None if they do not."""
    objects = sum(len(of_image.numbers) for of_image in stats)
    parts = sum(max(of_image.parts, len(of_image.numbers)) for of_image in stats)
    different = set[int]().union(*(of_image.numbers.tolist() for of_image in stats))
    threshold = SINGLE_CLASS_PARTS if len(different) == 1 else CLASS_PARTS
    # Numbered objects would not begin with 255.
    is_binary = different == {255} and parts > objects
    if objects > MAX_CLASSES * len(stats) or not (is_binary or 0 < threshold * objects <= parts):
        return None
    worst = max(range(len(stats)), key=lambda i: stats[i].parts / max(1, len(stats[i].numbers)))
    numbers = stats[worst].numbers.tolist()
    return (
        f"The labels look like class masks (semantic segmentation), as "
        f"{pluralize(objects, 'object')} {'is' if objects == 1 else 'are'} in {parts:,} separate "
        f"parts, and all parts of a number would be one object ({usable[worst].path.name}: "
        f"{'number' if len(numbers) == 1 else 'numbers'} {join_first(numbers, 3)} in "
        f"{stats[worst].parts:,} parts)"
    )


def _warnings(usable: Sequence[LabelledImage], stats: Sequence[_LabelStats]) -> list[str]:
    """Sentences about labels that mark borders, or the background in place of objects."""
    with_borders = [
        item.path.name
        for item, of_item in zip(usable, stats, strict=True)
        if len(of_item.numbers) > 1 and of_item.numbers[-1] in (255, 65535)
        if of_item.numbers[-2] < of_item.numbers[-1] - 1
    ]
    inverted = [
        item.path.name for item, of_item in zip(usable, stats, strict=True) if of_item.holes > 1
    ]
    warnings = []
    if 2 * len(with_borders) > len(stats):
        warnings.append(
            f"The labels of {join_first(with_borders, 3)} have the number 255 or 65535 beside "
            "small ones: if it marks borders or what to ignore, as in PASCAL VOC, set it to 0."
        )
    if 2 * len(inverted) > len(stats):
        warnings.append(
            f"The only object of {join_first(inverted, 3)} covers most of the image and has holes: "
            "if it is the background, invert the labels."
        )
    return warnings


def _split(
    read: ReadLayers,
    left_out: list[str] | None = None,
    classes: dict[int, ObjectClass] | None = None,
) -> np.ndarray:
    """Read layers, with each connected part of an object as an object of its own."""
    layers, last = [], 0
    of_whole: dict[int, ObjectClass] = {}
    for layer in read(left_out, of_whole):
        parts = connected(np.maximum(layer, 0), connectivity=2)
        layers.append(np.where(parts, parts + last, 0))
        if classes is not None:
            numbers, first = np.unique(parts, return_index=True)
            whole = layer.ravel()[first].tolist()
            for number, old in zip(numbers.tolist(), whole, strict=True):
                if number and old in of_whole:
                    classes[number + last] = of_whole[old]
        last += int(parts.max())
    return np.stack(layers).astype(np.int32)
