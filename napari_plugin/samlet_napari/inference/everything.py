"""All objects of a plane, of a part of it, or of all slices of a stack."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from samlet.everything.segment import segment_everything
from samlet.everything.similar import find_similar
from samlet.masks import Box, CroppedMask, crop_mask
from samlet.stacks.linking import SliceLinker
from samlet.utils.progress import progress_of_part
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.inference.objects import FoundObject
from samlet_napari.inference.prompts import Step
from samlet_napari.inference.roi import Roi, with_context
from samlet_napari.layers.plane import Plane


def find_objects(
    embeddings: EmbeddingProvider, plane: Plane, box: Box, progress: Callable[[float], None]
) -> list[FoundObject]:
    """Find the objects that lie entirely in a box of a plane.

    Args:
        embeddings: of the image.
        plane: the plane.
        box: the part, half open.
        progress: called with the fraction done, 0 to 1; what it raises ends the search.

    Raises:
        UserError: the pixels cannot be shown to the model.
    """
    seen = with_context(box, embeddings.snapshot.size(plane), embeddings.input_size)
    longer_side = max(seen[2] - seen[0], seen[3] - seen[1])
    pixels = embeddings.snapshot.read(plane, seen, longer_side)
    records = segment_everything(embeddings.predictor, pixels, progress=progress)
    found = [_from_record(record, plane, seen) for record in records]
    return [each for each in found if Roi(plane, box).contains(each.box)]


def find_similar_objects(
    embeddings: EmbeddingProvider,
    plane: Plane,
    examples: Sequence[CroppedMask],
    progress: Callable[[float], None],
) -> tuple[list[FoundObject], list[float]]:
    """Find the objects of a plane that are like some of it.

    Args:
        embeddings: of the image.
        plane: the plane.
        examples: the objects.
        progress: called with the fraction done, 0 to 1; what it raises ends the search.

    Returns:
        other objects, however much alike, and the likeness of each, see `samlet.find_similar`.

    Raises:
        UserError: the pixels cannot be shown to the model.
    """
    height, width = embeddings.snapshot.size(plane)
    whole = (0, 0, width, height)
    pixels = embeddings.snapshot.read(plane, whole, max(height, width))
    masks = [example.to_rle() for example in examples]
    records = find_similar(embeddings.predictor, pixels, masks, likeness=0, progress=progress)
    return (
        [_from_record(record, plane, whole) for record in records],
        [record["likeness"] for record in records],
    )


def find_linked_objects(
    embeddings: EmbeddingProvider,
    planes: Sequence[Plane],
    box: Box,
    progress: Callable[[float], None],
) -> Iterator[list[FoundObject]]:
    """Find the objects of each slice, and link those that overlap from slice to slice.

    Args:
        embeddings: of the image.
        planes: the slices, in their order.
        box: the part of each, half open.
        progress: called with the fraction done, 0 to 1; what it raises ends the search.

    Yields:
        the objects of one slice after another, with their tracks, as soon as the slice after it has
        been searched, or cannot be; `samlet.stacks.linking.SliceLinker` has the rules, those along
        z.

    Raises:
        UserError: the pixels cannot be shown to the model.
    """
    waiting: deque[tuple[Plane, list[FoundObject], np.ndarray]] = deque()
    ended_by: list[Exception] = []

    def label_maps() -> Iterator[np.ndarray]:
        for number, plane in enumerate(planes):
            within = progress_of_part(progress, number, len(planes))
            try:
                found = find_objects(embeddings, plane, box, within)
            except Exception as error:
                # Not before the slice that waits for this one has been given.
                ended_by.append(error)
                return
            labels = _to_label_map(found, box)
            waiting.append((plane, found, labels))
            yield labels

    for linked in SliceLinker().link(label_maps()):
        yield _with_tracks(*waiting.popleft(), linked, box)
    for error in ended_by:
        raise error


def _to_label_map(found: list[FoundObject], box: Box) -> np.ndarray:
    """The objects of a plane, which are by falling predicted IoU, in a box: i + 1 is object i."""
    labels = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint32)
    for number, each in reversed(list(enumerate(found, start=1))):
        labels[_within(each.box, box)][each.mask] = number
    return labels


def _with_tracks(
    plane: Plane, found: list[FoundObject], labels: np.ndarray, linked: np.ndarray, box: Box
) -> list[FoundObject]:
    """The objects of a plane with their tracks, and those that were filled in."""
    numbers, first = np.unique(labels, return_index=True)
    tracks = dict(zip(numbers.tolist(), linked.ravel()[first].tolist(), strict=True))
    objects = [
        each._replace(mask=linked[_within(each.box, box)] == tracks[number], track=tracks[number])
        for number, each in enumerate(found, start=1)
        # One that others cover completely has no number.
        if number in tracks
    ]
    known = {each.track for each in objects}
    filled = np.isin(linked, [track for track in np.unique(linked) if track not in known])
    parts = ndimage.find_objects(np.where(filled, linked, 0).astype(np.int32))
    for track, part in enumerate(parts, start=1):
        if part is not None:
            rows, columns = part
            place = (columns.start, rows.start, columns.stop, rows.stop)
            left, top, right, bottom = (side + box[i % 2] for i, side in enumerate(place))
            mask = linked[part] == track
            objects.append(FoundObject(plane, (), (left, top, right, bottom), mask, track))
    return objects


def _within(inner: Box, outer: Box) -> tuple[slice, slice]:
    """Index of a box in an array of another box that contains it."""
    left, top = outer[:2]
    return slice(inner[1] - top, inner[3] - top), slice(inner[0] - left, inner[2] - left)


def _from_record(record: dict[str, Any], plane: Plane, seen: Box) -> FoundObject:
    cropped = crop_mask(record["segmentation"])
    left, top = seen[0] + cropped.x, seen[1] + cropped.y
    height, width = cropped.mask.shape
    points = tuple((seen[0] + x, seen[1] + y, True) for x, y in record["point_coords"])
    box = (left, top, left + width, top + height)
    return FoundObject(plane, (Step(points),), box, cropped.mask)
