"""All objects of a plane, or of a part of it."""

from collections.abc import Callable
from typing import Any

from samlet.everything.segment import segment_everything
from samlet.masks import Box, crop_mask
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


def _from_record(record: dict[str, Any], plane: Plane, seen: Box) -> FoundObject:
    cropped = crop_mask(record["segmentation"])
    left, top = seen[0] + cropped.x, seen[1] + cropped.y
    height, width = cropped.mask.shape
    points = tuple((seen[0] + x, seen[1] + y, True) for x, y in record["point_coords"])
    box = (left, top, left + width, top + height)
    return FoundObject(plane, (Step(points),), box, cropped.mask)
