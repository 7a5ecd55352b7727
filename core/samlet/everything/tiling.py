"""Everything mode on large images, tile by tile, with every object whole.

Tiles overlap, and a mask that ends near a border between tiles counts as cut there.

1. A cut mask whose box lies well inside another tile is dropped: that tile shows more of it.
2. The others belong to objects larger than the overlap. Cut masks of two tiles that agree on the
   area that both tiles show are parts of one object, and so on from tile to tile.
3. Of whole masks from several tiles that are nearly the same, the one with the highest predicted
   IoU stays. A cut object that lies mostly in another one is dropped.

Only the image itself is as large as the image, see `samlet.everything.tile_merging`.
"""

from collections.abc import Callable, Iterator
from copy import copy
from math import ceil
from typing import Any

import numpy as np

from samlet.errors import UserError
from samlet.everything.generator import SamAutomaticMaskGenerator
from samlet.everything.tile_merging import TileMerger, TilePart
from samlet.images import to_rgb
from samlet.masks import Box
from samlet.predict.roi import full_image_box
from samlet.utils.progress import progress_of_part

MIN_TILE_SIDE = 32

UNTILED_RATIO = 1.5
"""Without a chosen tile size, images up to this multiple of the model's input are not tiled."""

CUT_TOLERANCE = 8
"""Masks that end this near to a border between tiles count as cut there, in pixels of the input.

These are two of the logits that masks are made of.
"""


class TiledMaskGenerator:
    """Generate masks of an image of any size, in memory bounded by a tile beside the image itself.

    Args:
        generator: everything mode, run on each tile; its points are then a tile's.
        tile: side of the square tiles in pixels; an image that is no larger is one tile. None takes
            the model's input size, so that no pixel is lost, but leaves images of up to
            `UNTILED_RATIO` times that in one piece.
        overlap: pixels that neighbouring tiles share at least; None is a quarter of the tile.
            Objects that are smaller come from the tile that shows them whole, and larger ones are
            joined from their parts.

    Raises:
        UserError: the tile is too small, or not twice as large as the overlap.

    Examples:
        >>> generator = SamAutomaticMaskGenerator(samlet.load("microscopy"))
        >>> records = TiledMaskGenerator(generator, tile=1024, overlap=128).generate(image)
    """

    def __init__(
        self,
        generator: SamAutomaticMaskGenerator,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        side = generator.model.config.image_size
        self.untiled_side = UNTILED_RATIO * side if tile is None else tile
        self.tile = side if tile is None else tile
        self.overlap = overlap_of(self.tile, overlap)
        check_tiles(self.tile, self.overlap)
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
        scale = self.tile / self.generator.model.config.image_size
        merger = TileMerger(tiles, size, cut_tolerance(scale, self.overlap))
        for number, tile in enumerate(tiles):
            x0, y0, x1, y1 = tile
            within = None if progress is None else progress_of_part(progress, number, len(tiles))
            found = self.generator.generate(rgb[y0:y1, x0:x1], progress=within)
            merger.add(TilePart.of(record, tile) for record in found)
        records = merger.records()
        if not records:
            self.generator.warn_of_nothing()
        return records

    def tiles(self, size: tuple[int, int]) -> list[Box]:
        """Place tiles over an image of (H, W), see `place_tiles`."""
        if max(size) <= self.untiled_side:
            return [full_image_box(size)]
        return place_tiles(size, self.tile, self.overlap)


def place_tiles(size: tuple[int, int], tile: int, overlap: int) -> list[Box]:
    """Place square tiles over an image: evenly, row by row, as (x0, y0, x1, y1).

    Args:
        size: (H, W) of the image.
        tile: side of the tiles in pixels.
        overlap: pixels that neighbouring tiles share at least.
    """
    columns, rows = (list(_spans(length, tile, overlap)) for length in (size[1], size[0]))
    return [(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]


def overlap_of(tile: int, overlap: int | None) -> int:
    """How much tiles of a size overlap in pixels: as asked for, or a quarter."""
    return tile // 4 if overlap is None else overlap


def cut_tolerance(scale: float, overlap: int) -> int:
    """How near to a border between tiles masks count as cut there, in pixels of the image.

    Args:
        scale: pixels of the image per pixel of the model's input.
        overlap: of the tiles, in pixels of the image. Twice the tolerance and a smaller object must
            fit into it, for one tile to see it whole.
    """
    return min(ceil(CUT_TOLERANCE * scale), overlap // 4)


def check_tiles(tile: int, overlap: int) -> None:
    """Check sizes that were asked for.

    Raises:
        UserError: the tile is too small, or not twice as large as the overlap.
    """
    if tile < MIN_TILE_SIDE:
        raise UserError(f"Tiles must have at least {MIN_TILE_SIDE} pixels, not {tile}.")
    if not 1 <= overlap <= tile // 2:
        raise UserError(
            f"Tiles of {tile} pixels cannot overlap by {overlap}: give an overlap of "
            f"1 to {tile // 2} pixels, or larger tiles."
        )


def _spans(length: int, tile: int, overlap: int) -> Iterator[tuple[int, int]]:
    count = max(1, ceil((length - overlap) / (tile - overlap)))
    for i in range(count):
        start = i * (length - tile) // (count - 1) if count > 1 else 0
        yield start, min(start + tile, length)
