"""Everything mode on a large image, tile by tile, against windows that cut no object.

    python benchmarks/large_image.py data/bbbc038/images --size 8192

The image is a mosaic of real ones, in cells whose borders are not those of the tiles. What the
tiled run finds is compared with what everything mode finds in a window of one tile's size around
each cell: the same pixels at the same scale, as the model sees another object at another scale,
but with every object of the cell whole. Of these masks, those that have their middle in the cell
and are not cut off by the window count. Prints how many of them the tiled run finds (IoU of at
least 0.5), and the memory that it takes beside the image.
"""

import resource
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

import samlet
from samlet import images
from samlet.crops import Box, is_cut_off
from samlet.everything import default_settings
from samlet.masks import Cutout, cut_out
from samlet.progress import bar
from samlet.tiles import TiledMaskGenerator


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of images.")],
    size: Annotated[int, typer.Option(help="Side of the mosaic, in pixels.")] = 8192,
    cell: Annotated[int, typer.Option(help="Side of what is taken of each image.")] = 400,
    tile: Annotated[int | None, typer.Option(help="As of `samlet everything`.")] = None,
    overlap: Annotated[int | None, typer.Option(help="As of `samlet everything`.")] = None,
    model: Annotated[str, typer.Option(help="Name or checkpoint.")] = "nuclei",
) -> None:
    """Build the mosaic, run both, and print the figures."""
    loaded = samlet.load(model)
    generator = samlet.SamAutomaticMaskGenerator(
        loaded, output_mode="coco_rle", **default_settings(loaded)
    )
    tiled = TiledMaskGenerator(generator, tile, overlap)
    picture = mosaic(images.find(folder), size, cell)
    generator.generate(picture[: tiled.tile, : tiled.tile])
    before, begun = _peak_megabytes(), time.monotonic()
    with bar() as progress:
        task = progress.add_task("tiled", total=1)
        records = tiled.generate(
            picture, progress=lambda share: progress.update(task, completed=share)
        )
    seconds, after = time.monotonic() - begun, _peak_megabytes()
    found = [cut_out(record["segmentation"]) for record in records]
    print(
        f"{size} x {size} pixels ({picture.nbytes / 1e6:.0f} MB), {len(tiled.tiles((size, size)))} "
        f"tiles of {tiled.tile} that overlap by {tiled.overlap}: {len(found)} masks in "
        f"{seconds:.0f} s; "
        f"peak memory {before:.0f} MB before, {after:.0f} MB after"
    )
    wanted, matched = 0, 0
    with bar() as progress:
        for top in progress.track(range(0, size, cell), description="cells"):
            for left in range(0, size, cell):
                masks = _in_cell(generator, picture, left, top, cell, tiled.tile)
                wanted += len(masks)
                matched += sum(_is_found(mask, found) for mask in masks)
    print(f"found {matched} of the {wanted} masks of single cells: {matched / wanted:.1%}")


def mosaic(paths: list[Path], size: int, cell: int) -> np.ndarray:
    """Fill size x size pixels with the middles of images, enlarged if they are smaller than a cell.

    Returns:
        RGB uint8, size x size x 3.
    """
    count = -(-size // cell)
    picture = np.zeros((count * cell, count * cell, 3), np.uint8)
    for i in range(count * count):
        image = Image.fromarray(images.read(paths[i % len(paths)]))
        scale = max(1, cell / min(image.size))
        image = image.resize([round(side * scale) for side in image.size])
        left, top = ((side - cell) // 2 for side in image.size)
        y, x = (cell * n for n in divmod(i, count))
        picture[y : y + cell, x : x + cell] = image.crop((left, top, left + cell, top + cell))
    return np.ascontiguousarray(picture[:size, :size])


def _in_cell(
    generator: samlet.SamAutomaticMaskGenerator,
    picture: np.ndarray,
    left: int,
    top: int,
    cell: int,
    side: int,
) -> list[Cutout]:
    """Masks with their middle in a cell, from a window around it that cuts none of them."""
    size = (picture.shape[0], picture.shape[1])
    x0, y0 = (max(0, min(at + cell // 2 - side // 2, size[0] - side)) for at in (left, top))
    window: Box = (x0, y0, min(x0 + side, size[1]), min(y0 + side, size[0]))
    kept = []
    for record in generator.generate(picture[y0 : window[3], x0 : window[2]]):
        cutout = _moved(record, x0, y0, size)
        height, width = cutout.mask.shape
        box = (cutout.x, cutout.y, cutout.x + width, cutout.y + height)
        column, row = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if left <= column < left + cell and top <= row < top + cell:
            kept += [] if is_cut_off(box, window, size) else [cutout]
    return kept


def _moved(record: dict[str, Any], x: int, y: int, size: tuple[int, int]) -> Cutout:
    cutout = cut_out(record["segmentation"])
    return Cutout(cutout.mask, cutout.x + x, cutout.y + y, size)


def _is_found(mask: Cutout, found: list[Cutout]) -> bool:
    return any(_iou(mask, other) >= 0.5 for other in found)


def _iou(a: Cutout, b: Cutout) -> float:
    (rows_a, columns_a), (rows_b, columns_b) = a.window, b.window
    y0, y1 = max(rows_a.start, rows_b.start), min(rows_a.stop, rows_b.stop)
    x0, x1 = max(columns_a.start, columns_b.start), min(columns_a.stop, columns_b.stop)
    if y0 >= y1 or x0 >= x1:
        return 0
    parts = [c.mask[y0 - c.y : y1 - c.y, x0 - c.x : x1 - c.x] for c in (a, b)]
    both = np.count_nonzero(parts[0] & parts[1])
    return both / (np.count_nonzero(a.mask) + np.count_nonzero(b.mask) - both)


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    typer.run(main)
