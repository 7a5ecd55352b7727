"""From masks of neighbouring tiles to masks of the image: cut ones are joined, duplicates dropped.

Masks are kept as run lengths within their boxes, so that nothing is as large as the image.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from samlet.everything.candidates import Candidate
from samlet.everything.crops import is_cut_off
from samlet.masks import Box, CroppedMask, area, crop_mask, from_rle, to_rle

SAME_OBJECT_IOU = 0.5
"""Masks of several tiles that agree better than this (IoU) are the same object."""


@dataclass(frozen=True)
class TilePart:
    """A mask as one tile shows it.

    Attributes:
        tile: (x0, y0, x1, y1), half open, as all boxes here.
        box: the mask's, in the image.
        rle: the mask within its box.
        area: its pixels.
        record: the rest of the tile's record, in the image's coordinates.
    """

    tile: Box
    box: Box
    rle: dict[str, Any]
    area: int
    record: dict[str, Any]

    @staticmethod
    def of(record: Mapping[str, Any], tile: Box) -> "TilePart":
        """Move a tile's record into the image."""
        left, top = tile[:2]
        cutout = crop_mask(record["segmentation"])
        rows, columns = cutout.slices
        box = (left + columns.start, top + rows.start, left + columns.stop, top + rows.stop)
        crop_x, crop_y, *crop_sides = record["crop_box"]
        moved = {
            "point_coords": [[left + x, top + y] for x, y in record["point_coords"]],
            "crop_box": [left + crop_x, top + crop_y, *crop_sides],
        }
        rest = {key: value for key, value in record.items() if key != "segmentation"}
        return TilePart(tile, box, to_rle(cutout.mask), record["area"], rest | moved)

    @staticmethod
    def of_candidate(candidate: Candidate) -> "TilePart":
        """A candidate is in the image already."""
        x0, y0, x1, y1 = candidate.box
        left, top, right, bottom = candidate.crop
        record: dict[str, Any] = {
            "predicted_iou": candidate.predicted_iou,
            "point_coords": [candidate.point],
            "stability_score": candidate.stability_score,
            "crop_box": [left, top, right - left, bottom - top],
        }
        if candidate.likeness is not None:
            record["likeness"] = candidate.likeness
        pixels = area(from_rle(candidate.rle))
        return TilePart(candidate.crop, (x0, y0, x1 + 1, y1 + 1), candidate.rle, pixels, record)

    def pixels(self, window: Box) -> np.ndarray:
        """What of the mask lies in a window within its box: bool, h x w."""
        x0, y0, x1, y1 = window
        left, top = self.box[:2]
        return from_rle(self.rle)[y0 - top : y1 - top, x0 - left : x1 - left]


@dataclass(frozen=True)
class TiledObject:
    """A mask of one part, or of several from as many tiles or more."""

    parts: tuple[TilePart, ...]

    @cached_property
    def box(self) -> Box:
        """The mask's box in the image."""
        x0, y0, x1, y1 = zip(*(part.box for part in self.parts), strict=True)
        return min(x0), min(y0), max(x1), max(y1)

    @cached_property
    def area(self) -> int:
        """Pixels of the mask."""
        if len(self.parts) == 1:
            return self.parts[0].area
        return area(self.pixels(self.box))

    @cached_property
    def tiles(self) -> frozenset[Box]:
        """The tiles that show it."""
        return frozenset(part.tile for part in self.parts)

    def pixels(self, window: Box) -> np.ndarray:
        """What of the mask lies in a window: bool, h x w."""
        x0, y0, x1, y1 = window
        painted = np.zeros((y1 - y0, x1 - x0), dtype=bool)
        for part in self.parts:
            if common := intersection(part.box, window):
                left, top, right, bottom = common
                painted[top - y0 : bottom - y0, left - x0 : right - x0] |= part.pixels(common)
        return painted

    def record(self, size: tuple[int, int]) -> dict[str, Any]:
        """The object's record in an image of (H, W), see `TiledMaskGenerator.generate`."""
        x0, y0, x1, y1 = self.box
        found = {
            "segmentation": CroppedMask(self.pixels(self.box), x0, y0, size).to_rle(),
            "area": self.area,
            "bbox": [x0, y0, x1 - x0 - 1, y1 - y0 - 1],
        }
        if len(self.parts) == 1:
            return self.parts[0].record | found
        areas = [part.area for part in self.parts]
        records = [part.record for part in self.parts]
        for score in ("predicted_iou", "stability_score"):
            found[score] = float(np.average([r[score] for r in records], weights=areas))
        found["point_coords"] = [point for r in records for point in r["point_coords"]]
        left, top, width, height = np.array([r["crop_box"] for r in records]).T
        corner = [int(left.min()), int(top.min())]
        far = [int((left + width).max()), int((top + height).max())]
        found["crop_box"] = [*corner, far[0] - corner[0], far[1] - corner[1]]
        return records[int(np.argmax(areas))] | found


class TileMerger:
    """Collects the masks of one tile after another, and makes objects of them.

    Args:
        tiles: all tiles of the image.
        size: (H, W) of the image.
        tolerance: masks that end this near to a border between tiles count as cut there, in pixels.
    """

    def __init__(self, tiles: Sequence[Box], size: tuple[int, int], tolerance: int) -> None:
        self._tiles, self._size, self._tolerance = tiles, size, tolerance
        self._whole: list[TiledObject] = []
        self._cut: list[TilePart] = []

    def add(self, parts: Iterable[TilePart]) -> None:
        """Add the masks of a tile."""
        for part in parts:
            if not self._is_cut(part, part.tile):
                self._whole.append(TiledObject((part,)))
            elif not any(
                intersection(part.box, other) == part.box and not self._is_cut(part, other)
                for other in self._tiles
                if other != part.tile and intersection(other, part.tile)
            ):
                self._cut.append(part)

    def records(self) -> list[dict[str, Any]]:
        """The objects' records, see `TiledMaskGenerator.generate`."""
        kept = without_tile_duplicates(self._whole, list(joined_parts(self._cut)))
        records = (found.record(self._size) for found in kept)
        return sorted(records, key=lambda record: -record["predicted_iou"])

    def _is_cut(self, part: TilePart, tile: Box) -> bool:
        return is_cut_off(part.box, tile, self._size, self._tolerance)


def joined_parts(parts: Sequence[TilePart]) -> Iterator[TiledObject]:
    """Join the parts of each object that tiles have cut."""
    boxes = np.array([part.box for part in parts]).reshape(-1, 4)
    pairs = [
        (i, j)
        for i, part in enumerate(parts)
        for j in _indices_that_meet(boxes[:i], part.box)
        if part.tile != parts[j].tile and _agree(part, parts[j])
    ]
    links = np.array(pairs, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (links[0], links[1])), shape=(len(parts), len(parts)))
    count, group_of = connected_components(graph, directed=False)
    for group in range(count):
        yield TiledObject(tuple(parts[i] for i in np.flatnonzero(group_of == group).tolist()))


def _agree(a: TilePart, b: TilePart) -> bool:
    """Whether two tiles show the same object on the area that both show."""
    common, shared = intersection(a.box, b.box), intersection(a.tile, b.tile)
    if common is None or shared is None:
        return False
    both = area(a.pixels(common) & b.pixels(common))
    either = sum(area(TiledObject((part,)).pixels(shared)) for part in (a, b)) - both
    return both > SAME_OBJECT_IOU * either


def without_tile_duplicates(
    whole: Sequence[TiledObject], cut: Sequence[TiledObject]
) -> list[TiledObject]:
    """Drop objects that another tile, or a larger cut object, shows as well."""
    ordered = sorted(whole, key=lambda found: -found.parts[0].record["predicted_iou"])
    ordered += sorted(cut, key=lambda found: -found.area)
    boxes = np.array([found.box for found in ordered]).reshape(-1, 4)
    kept: list[bool] = []
    for i, found in enumerate(ordered):
        rivals = (ordered[j] for j in _indices_that_meet(boxes[:i], found.box) if kept[j])
        kept.append(not any(_covers(rival, found, i >= len(whole)) for rival in rivals))
    return list(compress(ordered, kept))


def _covers(better: TiledObject, found: TiledObject, is_cut: bool) -> bool:
    # Objects that one tile tells apart are not the same.
    if better.tiles == found.tiles:
        return False
    common = intersection(better.box, found.box)
    if common is None:
        return False
    both = area(better.pixels(common) & found.pixels(common))
    either = better.area + found.area - both
    return both > SAME_OBJECT_IOU * (found.area if is_cut else either)


def intersection(a: Box, b: Box) -> Box | None:
    """Intersect two boxes."""
    x0, y0, x1, y1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _indices_that_meet(boxes: np.ndarray, box: Box) -> list[int]:
    """Which of N x 4 boxes meet a box."""
    x0, y0, x1, y1 = boxes.T
    return np.flatnonzero((x0 < box[2]) & (x1 > box[0]) & (y0 < box[3]) & (y1 > box[1])).tolist()
