"""Whether labels can be used, all of them, before anything is done with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from skimage.measure import label as connected

from samlet import images
from samlet.datasets.labelled_images import LabelledImage, LabelledImages, ReadLayers
from samlet.errors import UserError
from samlet.utils.messages import bullet_list, join_first, pluralize
from samlet.utils.prefetch import prefetch
from samlet.utils.progress import progress_bar

SPECK = 16
"""Parts with fewer pixels do not count where parts are counted."""

MOST_PARTS = 2.0
"""Mean number of parts of an object from which the objects are taken for classes."""

MOST_PARTS_OF_ONE = 1.5
"""The same where every image has but one object, with the same number in all."""

MOST_CLASSES = 40
"""With more different numbers an image, they are objects, in however many parts."""


@dataclass(frozen=True)
class _LabelStats:
    """What an image's labels hold.

    Attributes:
        numbers: of the objects, rising.
        parts: how many separate parts they are in.
        holes: how many parts the background is in, if one object covers most of the image; else 0.
    """

    numbers: np.ndarray
    parts: int
    holes: int


@dataclass(frozen=True)
class CheckedLabels:
    """Labels that can be used, and all that is to be known about the others.

    Attributes:
        found: what was checked.
        usable: the images whose labels can be used, sorted by path.
        with_objects: those of them that have an object.
        left_out: by image, a sentence for each object of it that is left out, or one for all.
        warnings: sentences about labels that are used, but look wrong.
    """

    found: LabelledImages
    usable: Sequence[LabelledImage]
    with_objects: frozenset[Path]
    left_out: dict[str, list[str]]
    warnings: Sequence[str]

    def messages(self) -> list[str]:
        """What to tell before the labels are used, a paragraph each."""
        found = self.found
        count = len(found) + len(found.unlabelled)
        has = "has" if len(found) == 1 else "have"
        paragraphs = [f"{len(found):,} of {pluralize(count, 'image')} {has} labels."]
        if found.unlabelled:
            paragraphs[0] += f" Without labels: {join_first([p.name for p in found.unlabelled])}."
        if found.unmatched:
            paragraphs[0] += f" Labels without an image: {join_first(found.unmatched)}."
        faults = [*found.faults, *(fault for of_one in self.left_out.values() for fault in of_one)]
        if faults:
            lost = len(found) - len(self.usable)
            paragraphs.append(
                f"Left out of the labels, {pluralize(lost, 'whole image')} among them:"
                f"{bullet_list(faults)}"
            )
        return paragraphs + [f"Warning: {doubt}" for doubt in self.warnings]


def check_labels(
    found: LabelledImages, split: bool | None = False, threads: int = 2
) -> CheckedLabels:
    """Read all labels with their images, once.

    An object that is faulty is left out, and so is an image whose labels are faulty altogether.

    Args:
        found: by `samlet.datasets.find_labelled_images`.
        split: True to take each connected part of an object as an object of its own; False to take
            objects as they are; None likewise, but to refuse what looks like masks of classes.
        threads: that read.

    Raises:
        UserError: no image has labels that can be used; or `split` is None and objects look like
            classes.
    """
    left_out = {"labels": list(found.faults)} if found.faults else {}
    usable, facts = [], []
    with progress_bar() as progress:
        task = progress.add_task("Checking labels", total=len(found))
        for item, told, faults in prefetch(found, _examine, threads, depth=2 * max(1, threads)):
            progress.advance(task)
            if faults:
                left_out[str(item.path)] = faults
            if told is not None:
                usable.append(item)
                facts.append(told)
    if not usable:
        faults = [fault for of_one in left_out.values() for fault in of_one]
        raise UserError(f"None of the labels can be used:{bullet_list(faults)}")
    doubts = _doubts(usable, facts)
    classes = _classes(usable, facts)
    if split:
        usable = [LabelledImage(item.path, partial(_split, item.read_layers)) for item in usable]
    elif classes is not None:
        if split is None:
            raise UserError(
                f"{classes}: give --split to take each separate part as an object, or --no-split "
                "if all parts of a number are one object."
            )
        doubts.append(f"{classes}. Give each object a number of its own if they are.")
    with_objects = frozenset(
        item.path for item, told in zip(usable, facts, strict=True) if len(told.numbers)
    )
    return CheckedLabels(found, usable, with_objects, left_out, doubts)


def _examine(item: LabelledImage) -> tuple[LabelledImage, _LabelStats | None, list[str]]:
    """What an image's labels hold, None if they cannot be used; and what is left out of them."""
    left_out: list[str] = []
    try:
        size = images.read(item.path).shape[:2]
        layers = item.read_layers(left_out)
    except UserError as error:
        return item, None, [str(error)]
    if layers.shape[1:] != size:
        return item, None, [f"The labels of {item.path} are of another size: export them again."]
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
    there = layers[layers > 0]
    if there.size and there.max() > layers.size:
        return np.unique(there)
    # Faster than to sort them, where they are no larger than that.
    return np.flatnonzero(np.bincount(there))


def _count_parts(layer: np.ndarray) -> int:
    parts = connected(layer, connectivity=2)
    return int((np.bincount(parts.ravel())[1:] >= SPECK).sum())


def _classes(usable: Sequence[LabelledImage], facts: Sequence[_LabelStats]) -> str | None:
    """A sentence, less its end, if what counts as objects seems to be classes."""
    numbers = sum(len(told.numbers) for told in facts)
    parts = sum(max(told.parts, len(told.numbers)) for told in facts)
    different = set[int]().union(*(told.numbers.tolist() for told in facts))
    most = MOST_PARTS_OF_ONE if len(different) == 1 else MOST_PARTS
    # Nobody who numbers objects begins with 255.
    is_mask = different == {255} and parts > numbers
    if numbers > MOST_CLASSES * len(facts) or not (is_mask or 0 < most * numbers <= parts):
        return None
    worst = max(range(len(facts)), key=lambda i: facts[i].parts / max(1, len(facts[i].numbers)))
    one = facts[worst]
    return (
        f"The labels look like masks of classes, as {pluralize(numbers, 'object')} "
        f"{'is' if numbers == 1 else 'are'} in {parts:,} separate parts, and each would be learnt "
        f"as one object ({usable[worst].path.name}: "
        f"{'number' if len(one.numbers) == 1 else 'numbers'} "
        f"{join_first(one.numbers.tolist(), 3)} in {one.parts:,} parts)"
    )


def _doubts(usable: Sequence[LabelledImage], facts: Sequence[_LabelStats]) -> list[str]:
    apart = [
        item.path.name
        for item, told in zip(usable, facts, strict=True)
        if len(told.numbers) > 1 and told.numbers[-1] in (255, 65535)
        if told.numbers[-2] < told.numbers[-1] - 1
    ]
    inverted = [item.path.name for item, told in zip(usable, facts, strict=True) if told.holes > 1]
    doubts = []
    if 2 * len(apart) > len(facts):
        doubts.append(
            f"The labels of {join_first(apart, 3)} have the number 255 or 65535 beside small ones: "
            "if it marks borders or what to ignore, as in PASCAL VOC, make it 0."
        )
    if 2 * len(inverted) > len(facts):
        doubts.append(
            f"The one object of {join_first(inverted, 3)} covers most of the image and has holes: "
            "if it is the background, invert the labels."
        )
    return doubts


def _split(read: ReadLayers, left_out: list[str] | None = None) -> np.ndarray:
    """Connected parts of objects, as objects."""
    layers, last = [], 0
    for layer in read(left_out):
        parts = connected(np.maximum(layer, 0), connectivity=2)
        layers.append(np.where(parts, parts + last, 0))
        last += int(parts.max())
    return np.stack(layers).astype(np.int32)
