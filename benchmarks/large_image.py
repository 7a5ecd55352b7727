"""Everything mode on a large image in tiles, against windows that cut no object.

    python benchmarks/large_image.py data/bbbc038/images --size 8192

The image is a mosaic of real ones, in cells whose borders are not those of the tiles. The masks of
the tiled run are compared with those of everything mode in a window around each cell, which has the
size of a tile, and thus the same scale, but has all objects of the cell whole. The masks of a
window count if their centre is in the cell and they do not touch the border of the window; one is
found if a mask of the tiled run has an IoU of at least 0.5 with it. Some masks depend on the exact
position of the window, tiles or not. So the windows are also compared with windows that are moved
by a few pixels, and stable masks, which both have, are counted separately.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from common import ModelName, peak_megabytes
from PIL import Image

import samlet
from samlet import images
from samlet.everything.crops import is_cut_off
from samlet.everything.settings import default_settings
from samlet.everything.tiling import TiledMaskGenerator
from samlet.masks import CroppedMask, area, crop_mask
from samlet.utils.progress import progress_bar

SHIFT = 24
"""Of the moved windows, in pixels."""


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of images.")],
    size: Annotated[int, typer.Option(help="Side of the mosaic, in pixels.")] = 8192,
    cell: Annotated[int, typer.Option(help="Side of the part of each image, in pixels.")] = 400,
    tile: Annotated[int | None, typer.Option(help="As in `samlet everything`.")] = None,
    overlap: Annotated[int | None, typer.Option(help="As in `samlet everything`.")] = None,
    model: ModelName = "microscopy",
) -> None:
    """Build the mosaic, segment it in tiles and in windows, and print the figures."""
    loaded = samlet.load(model)
    generator = samlet.SamAutomaticMaskGenerator(
        loaded, output_mode="coco_rle", **default_settings(loaded, "regions")
    )
    tiled = TiledMaskGenerator(generator, tile, overlap)
    canvas = mosaic(images.find(folder), size, cell)
    count = len(tiled.tiles((size, size)))
    print(
        f"{size} x {size} pixels ({canvas.nbytes / 1e6:.0f} MB) in {count} tiles of {tiled.tile} "
        f"that overlap by {tiled.overlap}"
    )
    generator.generate(canvas[: tiled.tile, : tiled.tile])
    before, start = peak_megabytes(), time.monotonic()
    with progress_bar() as progress:
        task = progress.add_task("tiles", total=1)
        records = tiled.generate(canvas, progress=lambda n: progress.update(task, completed=n))
    seconds, after = time.monotonic() - start, peak_megabytes()
    found = [crop_mask(record["segmentation"]) for record in records]
    print(
        f"{len(found)} masks in {seconds:.0f} s; peak memory {before:.0f} MB with the image and a "
        f"tile, {after:.0f} MB with all tiles"
    )
    expected, found_in_tiles, stable, stable_in_tiles = 0, 0, 0, 0
    with progress_bar() as progress:
        for top in progress.track(range(0, size, cell), description="cells"):
            for left in range(0, size, cell):
                x, y = (at + (cell - tiled.tile) // 2 for at in (left, top))
                inside = [
                    mask
                    for mask in in_window(generator, canvas, x, y, tiled.tile)
                    if left <= mask.x + mask.mask.shape[1] / 2 < left + cell
                    and top <= mask.y + mask.mask.shape[0] / 2 < top + cell
                ]
                moved = in_window(generator, canvas, x + SHIFT, y + SHIFT, tiled.tile)
                expected += len(inside)
                found_in_tiles += sum(is_found(mask, found) for mask in inside)
                both = [mask for mask in inside if is_found(mask, moved)]
                stable += len(both)
                stable_in_tiles += sum(is_found(mask, found) for mask in both)
    print(
        f"of {expected} masks of the windows, {found_in_tiles / expected:.1%} are found in tiles; "
        f"{stable / expected:.1%} in windows that are moved by {SHIFT} pixels, and "
        f"{stable_in_tiles / stable:.1%} of these in tiles"
    )


def mosaic(paths: Sequence[Path], size: int, cell: int) -> np.ndarray:
    """Fill size x size pixels with the centres of images, enlarged if smaller than a cell.

    Returns:
        RGB uint8, size x size x 3.
    """
    canvas = np.zeros((size, size, 3), np.uint8)
    corners = [(x, y) for y in range(0, size, cell) for x in range(0, size, cell)]
    for i, (x, y) in enumerate(corners):
        image = Image.fromarray(images.read(paths[i % len(paths)]))
        scale = max(1, cell / min(image.size))
        image = image.resize((round(image.width * scale), round(image.height * scale)))
        left, top = (image.width - cell) // 2, (image.height - cell) // 2
        part = np.asarray(image.crop((left, top, left + cell, top + cell)))
        canvas[y : y + cell, x : x + cell] = part[: size - y, : size - x]
    return canvas


def in_window(
    generator: samlet.SamAutomaticMaskGenerator, canvas: np.ndarray, x: int, y: int, side: int
) -> list[CroppedMask]:
    """Masks of a square window, without those that it cuts; it is moved to be within the image."""
    size = (canvas.shape[0], canvas.shape[1])
    x, y = max(0, min(x, size[1] - side)), max(0, min(y, size[0] - side))
    window = (x, y, min(x + side, size[1]), min(y + side, size[0]))
    records = generator.generate(canvas[y : window[3], x : window[2]])
    masks = (_moved(record, x, y, size) for record in records)
    return [mask for mask in masks if not is_cut_off(_box(mask), window, size)]


def _moved(record: dict[str, Any], x: int, y: int, size: tuple[int, int]) -> CroppedMask:
    cutout = crop_mask(record["segmentation"])
    return CroppedMask(cutout.mask, cutout.x + x, cutout.y + y, size)


def _box(mask: CroppedMask) -> tuple[int, int, int, int]:
    height, width = mask.mask.shape
    return mask.x, mask.y, mask.x + width, mask.y + height


def is_found(mask: CroppedMask, found: Sequence[CroppedMask]) -> bool:
    """Whether one of the masks has an IoU of at least 0.5 with a mask."""
    return any(_iou(mask, other) >= 0.5 for other in found)


def _iou(a: CroppedMask, b: CroppedMask) -> float:
    (left_a, top_a, right_a, bottom_a), (left_b, top_b, right_b, bottom_b) = _box(a), _box(b)
    x0, y0 = max(left_a, left_b), max(top_a, top_b)
    x1, y1 = min(right_a, right_b), min(bottom_a, bottom_b)
    if x0 >= x1 or y0 >= y1:
        return 0
    parts = [c.mask[y0 - c.y : y1 - c.y, x0 - c.x : x1 - c.x] for c in (a, b)]
    both = area(parts[0] & parts[1])
    return both / (area(a.mask) + area(b.mask) - both)


if __name__ == "__main__":
    typer.run(main)
