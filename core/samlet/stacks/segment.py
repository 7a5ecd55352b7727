"""All objects of a stack in memory, each with one number in all of its slices."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Unpack

import numpy as np

from samlet.errors import UserError
from samlet.everything.segment import segment_everything
from samlet.everything.settings import EverythingSettings
from samlet.images.stacks import ImageStack, SliceAxis
from samlet.masks import to_label_map
from samlet.predict.predictor import Predictor
from samlet.stacks.linking import MIN_IOU, SliceLinker, Track
from samlet.utils.progress import progress_of_part


class StackObjects(NamedTuple):
    """The objects of a stack.

    Attributes:
        labels: N x H x W, 0 is background; uint16, or uint32 beyond 65535 objects.
        tracks: an entry for each object, by its number in `labels`.
    """

    labels: np.ndarray
    tracks: list[Track]


def segment_stack(
    predictor: Predictor,
    slices: np.ndarray | ImageStack | Sequence[np.ndarray],
    *,
    axis: SliceAxis | None = None,
    min_iou: float = MIN_IOU,
    tile: int | None = None,
    overlap: int | None = None,
    progress: Callable[[float], None] | None = None,
    **settings: Unpack[EverythingSettings],
) -> StackObjects:
    """Find all objects of each slice, and link those that overlap from slice to slice.

    See `samlet.stacks.linking.SliceLinker` for the rules, and for objects that split or are missing
    in a slice. The slices are segmented one after another, and only their labels are kept.

    Args:
        predictor: what predicts.
        slices: N x H x W or N x H x W x C, scaled alike; or `samlet.images.open_stack`, which reads
            a file slice by slice; or images of one size as `segment_everything` takes them, of
            which each is scaled by itself unless it is uint8.
        axis: what the slices are; None takes what an opened file says, or else "z".
        min_iou: least IoU of an object's masks in neighbouring slices.
        tile: see `segment_everything`.
        overlap: see there.
        progress: called with the fraction done, above 0 to 1. What it raises ends the work and
            reaches the caller.
        settings: see `segment_everything`.

    Returns:
        the labels of all slices, and their objects.

    Raises:
        UserError: there is no slice, they are not images of one size, or a setting is out of its
            range.

    Examples:
        >>> predictor = samlet.Predictor(samlet.load("microscopy"))
        >>> labels, tracks = samlet.segment_stack(predictor, volume)
        >>> [track.label for track in tracks if track.parent == 0]
    """
    if isinstance(slices, np.ndarray):
        slices = ImageStack.from_array(slices)
    count = len(slices)
    if count == 0:
        raise UserError("The stack has no slice.")
    if axis is None:
        axis = slices.axis if isinstance(slices, ImageStack) else "z"
    linker = SliceLinker(axis, min_iou)

    def label_maps() -> Iterator[np.ndarray]:
        for number in range(count):
            image = slices[number]
            advance = None if progress is None else progress_of_part(progress, number, count)
            records = segment_everything(
                predictor, image, tile=tile, overlap=overlap, progress=advance, **settings
            )
            yield records_to_label_map(records, image.shape[:2])

    planes = [_as_short(plane) for plane in linker.link(label_maps())]
    return StackObjects(np.stack(planes), linker.tracks)


def records_to_label_map(records: Sequence[dict[str, Any]], size: tuple[int, ...]) -> np.ndarray:
    """A label map of size (H, W); where masks overlap, the higher predicted IoU is on top."""
    masks = [record["segmentation"] for record in records]
    scores = [record["predicted_iou"] for record in records]
    return to_label_map(masks or np.zeros((0, *size), dtype=bool), scores)


def _as_short(labels: np.ndarray) -> np.ndarray:
    fits = labels.max(initial=0) <= np.iinfo(np.uint16).max
    return labels.astype(np.uint16) if fits else labels
