"""How well objects are linked through stacks of which the truth is known.

A z-stack (napari's sample) and time-lapses of moving nuclei are made from a real image and its
labels. Each slice is segmented once; then the objects are linked with several minimum IoUs.

    python benchmarks/stacks.py
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

import samlet
from samlet.images import read
from samlet.images.stacks import ImageStack, SliceAxis
from samlet.outputs import read_label_map
from samlet.samples import IMAGES, LABELS
from samlet.stacks.linking import SliceLinker, Track
from samlet.stacks.segment import records_to_label_map
from samlet_napari import sample_data

FRAMES = 12
SPEEDS = (2.0, 5.0, 10.0, 20.0)
"""Mean pixels per frame; the nuclei are 47 pixels wide in the median."""
MIN_IOUS = (0.05, 0.1, 0.2, 0.3, 0.5)
SAME = 0.5
"""IoU from which an object that was found in a slice, or in the stack, is a true one."""


class Stack(NamedTuple):
    """A stack with its true labels, both N x H x W."""

    name: str
    values: np.ndarray
    truth: np.ndarray
    axis: SliceAxis


def stacks() -> Iterator[Stack]:
    """All stacks that are measured."""
    values = np.asarray(sample_data.stack()[0][0])
    yield Stack("z-stack", values, sample_data.stack_labels(), "z")
    for speed in SPEEDS:
        yield moving_nuclei(speed)


def moving_nuclei(speed: float) -> Stack:
    """Nuclei of a real image, each on a random walk with inertia, on its background with noise.

    Where two meet, the one of higher number is in front.
    """
    image = read(IMAGES / "fluorescence_1.png")[..., 0].astype(np.float32)
    labels = read_label_map(LABELS / "fluorescence_1.png")
    background = float(np.median(image[labels == 0]))
    rng = np.random.default_rng(7)
    values = np.full((FRAMES, *image.shape), background, np.float32)
    truth = np.zeros((FRAMES, *image.shape), np.uint16)
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        mask = labels[window] == label
        position = np.array([side.start for side in window], float)
        # Mean length of a Gaussian step in the plane: its standard deviation times 1.25.
        step = rng.normal(0, speed / 1.25, 2)
        for frame in range(FRAMES):
            _paste(values[frame], truth[frame], position, mask, image[window], label)
            position += step
            step = 0.7 * step + np.sqrt(1 - 0.7**2) * rng.normal(0, speed / 1.25, 2)
    values = ndimage.gaussian_filter(values, (0, 0.7, 0.7))
    values += rng.normal(0, 0.8 + 0.2 * np.sqrt(values))
    return Stack(f"{speed:g} px/frame", values.clip(0, 255).astype(np.uint8), truth, "time")


def _paste(
    values: np.ndarray,
    truth: np.ndarray,
    position: np.ndarray,
    mask: np.ndarray,
    texture: np.ndarray,
    label: int,
) -> None:
    rows, columns = (np.arange(n) + round(p) for n, p in zip(mask.shape, position, strict=True))
    row_inside = (rows >= 0) & (rows < truth.shape[0])
    column_inside = (columns >= 0) & (columns < truth.shape[1])
    seen = mask[np.ix_(row_inside, column_inside)]
    where = np.ix_(rows[row_inside], columns[column_inside])
    truth[where] = np.where(seen, label, truth[where])
    values[where] = np.where(seen, texture[np.ix_(row_inside, column_inside)], values[where])


class Scores(NamedTuple):
    """What is measured.

    Attributes:
        recall: share of the true objects of all slices that were found there.
        links: share of the true objects' steps between two slices, found in both, in which the
            label stays the same.
        identities: share of such steps of found objects that keep the label where the true object
            is another one.
        whole: share of true objects with an object of its own of IoU 0.5 in the whole stack.
        tracks: found objects per true object.
    """

    recall: float
    links: float
    identities: float
    whole: float
    tracks: float


def score(truth: np.ndarray, labels: np.ndarray, tracks: list[Track]) -> Scores:
    """Compare linked labels, N x H x W, with the truth."""
    found = [_matches(*planes) for planes in zip(truth, labels, strict=True)]
    total = sum(len(np.unique(plane[plane > 0])) for plane in truth)
    kept = steps = swapped = found_steps = 0
    for before, after in pairwise(found):
        for label in before.keys() & after.keys():
            steps += 1
            kept += before[label] == after[label]
        owner = {number: label for label, number in before.items()}
        for label, number in after.items():
            if number in owner:
                found_steps += 1
                swapped += owner[number] != label
    objects = len(np.unique(truth[truth > 0]))
    return Scores(
        sum(map(len, found)) / total,
        kept / steps,
        swapped / max(found_steps, 1),
        len(_matches(truth, labels)) / objects,
        len(tracks) / objects,
    )


def _matches(truth: np.ndarray, found: np.ndarray) -> dict[int, int]:
    """From true labels to those of found objects with an IoU of `SAME` or more."""
    pairs, shared = np.unique(np.stack([truth.ravel(), found.ravel()]), axis=1, return_counts=True)
    areas_true = dict(zip(*np.unique(truth, return_counts=True), strict=True))
    areas_found = dict(zip(*np.unique(found, return_counts=True), strict=True))
    true, other = (sorted(set(row[row > 0].tolist())) for row in pairs)
    ious = np.zeros((len(true), len(other)))
    for (a, b), count in zip(pairs.T.tolist(), shared.tolist(), strict=True):
        if a and b:
            union = areas_true[a] + areas_found[b] - count
            ious[true.index(a), other.index(b)] = count / union
    rows, columns = linear_sum_assignment(ious, maximize=True)
    return {
        true[row]: other[column]
        for row, column in zip(rows, columns, strict=True)
        if ious[row, column] >= SAME
    }


def main() -> None:
    """Segment the stacks, link their objects, and print a table."""
    predictor = samlet.Predictor(samlet.load("microscopy"), precision="float32")
    print("| stack | min. IoU | found | links kept | links wrong | whole objects | tracks |")
    print("|---|---|---|---|---|---|---|")
    for stack in stacks():
        maps = [
            records_to_label_map(samlet.segment_everything(predictor, image), image.shape[:2])
            for image in ImageStack.from_array(stack.values)
        ]
        for min_iou in MIN_IOUS:
            linker = SliceLinker(stack.axis, min_iou)
            labels = np.stack(list(linker.link(maps)))
            scores = score(stack.truth, labels, linker.tracks)
            shares = " | ".join(f"{100 * share:.1f} %" for share in scores[:4])
            print(f"| {stack.name} | {min_iou} | {shares} | {scores.tracks:.2f} |", flush=True)


if __name__ == "__main__":
    main()
