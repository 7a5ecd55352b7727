"""Everything mode on large images: tile by tile, and yet every object comes out whole.

Tiles overlap, and a mask that ends near a border between tiles counts as cut there.

1. A cut mask whose box lies well inside another tile is dropped: that tile sees more of the object.
2. The others belong to objects larger than the overlap. Cut masks of two tiles that agree on the
   area that both tiles see are parts of one object, and so on from tile to tile.
3. Of whole masks from several tiles that are nearly the same, the most trusted stays. A cut object
   that lies mostly in another one is dropped.

Nothing but the image is as large as the image: masks are kept as run lengths within their boxes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from math import ceil
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from samlet.errors import UserError
from samlet.everything.crops import is_cut_off
from samlet.everything.generator import SamAutomaticMaskGenerator
from samlet.images import to_rgb
from samlet.masks import Box, Cutout, area, cut_out, from_rle, to_rle

SMALLEST_TILE = 32

WHOLE_UP_TO = 1.5
"""Without a chosen tile size, images up to so many times the model's input are not tiled."""

NEAR = 8
"""Masks this near to a border between tiles count as cut there, in pixels of the model's input.

These are two of the logits that masks are made of.
"""

SAME = 0.5
"""Masks of several tiles that agree better than this (IoU) are the same object."""


class TiledMaskGenerator:
    """Generate masks of an image of any size, in memory bounded by a tile beside the image itself.

    Args:
        generator: everything mode, run on each tile; its points are then a tile's.
        tile: side of the square tiles in pixels; an image that is no larger is one tile. None takes
            the model's input size, so that no pixel is lost, but leaves images of up to
            `WHOLE_UP_TO` times that in one piece.
        overlap: pixels that neighbouring tiles share at least; None is a quarter of the tile.
            Objects that are smaller come from the tile that sees them best, and larger ones are
            joined from their parts.

    Raises:
        UserError: the tile is too small, or not twice as large as the overlap.

    Example:
        >>> generator = SamAutomaticMaskGenerator(samlet.load("nuclei"))
        >>> records = TiledMaskGenerator(generator, tile=1024, overlap=128).generate(image)
    """

    def __init__(
        self,
        generator: SamAutomaticMaskGenerator,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        side = generator.model.config.image_size
        self.whole_up_to = WHOLE_UP_TO * side if tile is None else tile
        self.tile = side if tile is None else tile
        self.overlap = self.tile // 4 if overlap is None else overlap
        if self.tile < SMALLEST_TILE:
            raise UserError(f"Tiles must have at least {SMALLEST_TILE} pixels, not {self.tile}.")
        if not 1 <= self.overlap <= self.tile // 2:
            raise UserError(
                f"Tiles of {self.tile} pixels cannot overlap by {self.overlap}: give an overlap of "
                f"1 to {self.tile // 2} pixels, or larger tiles."
            )
        self.generator = copy(generator)
        self.generator.output_mode = "coco_rle"
        # One tile may well be empty.
        self.generator.warns = False

    def generate(
        self, image: np.ndarray, *, progress: Callable[[float], None] | None = None
    ) -> list[dict[str, Any]]:
        """Find all masks of an image.

        Args:
            image: RGB uint8, H x W x 3, not copied (a `numpy.memmap` will do); or any other array
                that `samlet.images.to_rgb` takes.
            progress: called within each tile with the fraction done, above 0 to 1. What it raises
                ends the work and reaches the caller.

        Returns:
            records as `SamAutomaticMaskGenerator.generate` makes them, with COCO RLE of H x W; of
            several tiles by falling `predicted_iou`. `crop_box` is the tile, or around the tiles
            that see a part of the object; of such an object `point_coords` has one point a part,
            and `predicted_iou` and `stability_score` are their means by area.

        Raises:
            UserError: the array is not an image.
        """
        rgb = to_rgb(image)
        size = (rgb.shape[0], rgb.shape[1])
        tiles = self.tiles(size)
        if len(tiles) == 1:
            records = self.generator.generate(rgb, progress=progress)
            if not records:
                self.generator.warn_of_nothing()
            return records
        # Twice this and a smaller object must fit into the overlap, for one tile to see it whole.
        scale = self.tile / self.generator.model.config.image_size
        tolerance = min(ceil(NEAR * scale), self.overlap // 4)
        whole: list[_Object] = []
        cut: list[_Part] = []
        for number, tile in enumerate(tiles):
            x0, y0, x1, y1 = tile
            found = self.generator.generate(
                rgb[y0:y1, x0:x1], progress=_step(progress, number, len(tiles))
            )
            others = [other for other in tiles if other != tile and _meet(other, tile)]
            for part in (_Part.of(record, tile) for record in found):
                if not is_cut_off(part.box, tile, size, tolerance):
                    whole.append(_Object((part,)))
                elif not any(
                    _meet(part.box, other) == part.box
                    and not is_cut_off(part.box, other, size, tolerance)
                    for other in others
                ):
                    cut.append(part)
        kept = _without_duplicates(whole, list(_joined(cut)))
        if not kept:
            self.generator.warn_of_nothing()
        return sorted(
            (found.record(size) for found in kept), key=lambda record: -record["predicted_iou"]
        )

    def tiles(self, size: tuple[int, int]) -> list[Box]:
        """Place tiles over an image of (H, W): evenly, row by row, as (x0, y0, x1, y1)."""
        if max(size) <= self.whole_up_to:
            return [(0, 0, size[1], size[0])]
        columns, rows = (list(self._spans(length)) for length in (size[1], size[0]))
        return [(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]

    def _spans(self, length: int) -> Iterator[tuple[int, int]]:
        count = max(1, ceil((length - self.overlap) / (self.tile - self.overlap)))
        for i in range(count):
            start = i * (length - self.tile) // (count - 1) if count > 1 else 0
            yield start, min(start + self.tile, length)


@dataclass(frozen=True)
class _Part:
    """A mask as one tile sees it.

    Attributes:
        tile: (x0, y0, x1, y1), half open, as all boxes here.
        box: the mask's, in the image.
        rle: the mask within its box.
        area: its pixels.
        record: the rest of what was found, in the image's coordinates.
    """

    tile: Box
    box: Box
    rle: dict[str, Any]
    area: int
    record: dict[str, Any]

    @staticmethod
    def of(record: Mapping[str, Any], tile: Box) -> "_Part":
        left, top = tile[:2]
        cutout = cut_out(record["segmentation"])
        rows, columns = cutout.window
        box = (left + columns.start, top + rows.start, left + columns.stop, top + rows.stop)
        crop_x, crop_y, *crop_sides = record["crop_box"]
        moved = {
            "point_coords": [[left + x, top + y] for x, y in record["point_coords"]],
            "crop_box": [left + crop_x, top + crop_y, *crop_sides],
        }
        rest = {key: value for key, value in record.items() if key != "segmentation"}
        return _Part(tile, box, to_rle(cutout.mask), record["area"], rest | moved)

    def pixels(self, window: Box) -> np.ndarray:
        """What of the mask lies in a window within its box: bool, h x w."""
        x0, y0, x1, y1 = window
        left, top = self.box[:2]
        return from_rle(self.rle)[y0 - top : y1 - top, x0 - left : x1 - left]


@dataclass(frozen=True)
class _Object:
    """A mask of one part, or of several from as many tiles or more."""

    parts: tuple[_Part, ...]

    @cached_property
    def box(self) -> Box:
        x0, y0, x1, y1 = zip(*(part.box for part in self.parts), strict=True)
        return min(x0), min(y0), max(x1), max(y1)

    @cached_property
    def area(self) -> int:
        if len(self.parts) == 1:
            return self.parts[0].area
        return area(self.pixels(self.box))

    @cached_property
    def tiles(self) -> frozenset[Box]:
        return frozenset(part.tile for part in self.parts)

    def pixels(self, window: Box) -> np.ndarray:
        """What of the mask lies in a window: bool, h x w."""
        x0, y0, x1, y1 = window
        painted = np.zeros((y1 - y0, x1 - x0), dtype=bool)
        for part in self.parts:
            if common := _meet(part.box, window):
                left, top, right, bottom = common
                painted[top - y0 : bottom - y0, left - x0 : right - x0] |= part.pixels(common)
        return painted

    def record(self, size: tuple[int, int]) -> dict[str, Any]:
        x0, y0, x1, y1 = self.box
        found = {
            "segmentation": Cutout(self.pixels(self.box), x0, y0, size).rle(),
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


def _joined(parts: Sequence[_Part]) -> Iterator[_Object]:
    """Put together what belongs to one object."""
    boxes = np.array([part.box for part in parts]).reshape(-1, 4)
    pairs = [
        (i, j)
        for i, part in enumerate(parts)
        for j in _that_meet(boxes[:i], part.box)
        if part.tile != parts[j].tile and _agree(part, parts[j])
    ]
    links = np.array(pairs, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (links[0], links[1])), shape=(len(parts), len(parts)))
    count, group_of = connected_components(graph, directed=False)
    for group in range(count):
        yield _Object(tuple(parts[i] for i in np.flatnonzero(group_of == group).tolist()))


def _agree(a: _Part, b: _Part) -> bool:
    """Whether two tiles see the same, where both can see."""
    common, shared = _meet(a.box, b.box), _meet(a.tile, b.tile)
    if common is None or shared is None:
        return False
    both = area(a.pixels(common) & b.pixels(common))
    either = sum(area(_Object((part,)).pixels(shared)) for part in (a, b)) - both
    return both > SAME * either


def _without_duplicates(whole: Sequence[_Object], cut: Sequence[_Object]) -> list[_Object]:
    """Drop what another tile, or a larger part, shows as well."""
    ordered = sorted(whole, key=lambda found: -found.parts[0].record["predicted_iou"])
    ordered += sorted(cut, key=lambda found: -found.area)
    boxes = np.array([found.box for found in ordered]).reshape(-1, 4)
    kept: list[bool] = []
    for i, found in enumerate(ordered):
        rivals = (ordered[j] for j in _that_meet(boxes[:i], found.box) if kept[j])
        kept.append(not any(_covers(rival, found, i >= len(whole)) for rival in rivals))
    return list(compress(ordered, kept))


def _covers(better: _Object, found: _Object, is_cut: bool) -> bool:
    # What one tile tells apart is not the same.
    if better.tiles == found.tiles:
        return False
    common = _meet(better.box, found.box)
    if common is None:
        return False
    both = area(better.pixels(common) & found.pixels(common))
    either = better.area + found.area - both
    return both > SAME * (found.area if is_cut else either)


def _meet(a: Box, b: Box) -> Box | None:
    """Intersect two boxes."""
    x0, y0, x1, y1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _that_meet(boxes: np.ndarray, box: Box) -> list[int]:
    """Which of N x 4 boxes meet a box."""
    x0, y0, x1, y1 = boxes.T
    return np.flatnonzero((x0 < box[2]) & (x1 > box[0]) & (y0 < box[3]) & (y1 > box[1])).tolist()


def _step(
    progress: Callable[[float], None] | None, number: int, count: int
) -> Callable[[float], None] | None:
    if progress is None:
        return None
    return lambda share: progress((number + share) / count)
