"""Large images: whatever a border between tiles cuts comes out whole, and once."""

import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samlet.errors import UserError
from samlet.everything.generator import SamAutomaticMaskGenerator
from samlet.everything.tiling import TiledMaskGenerator
from samlet.masks import from_rle, iou
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.tiny_vit import TINY_VITS
from samlet.outputs import read_label_map
from samlet.outputs.results import write_results
from tests.core.everything.scripted_engines import Colours, paint

Sight = Callable[..., TiledMaskGenerator]


@pytest.fixture(scope="module")
def sight(model: Sam) -> Sight:
    """Everything mode that sees each colour, at 256 pixels a tile if nothing else is said."""

    def build(tile: int | None = 256, overlap: int | None = 64, **options: Any) -> Any:
        given = {"points_per_side": 16, "stability_score_thresh": 0.5} | options
        generator = SamAutomaticMaskGenerator(model, engine=Colours(model), **given)
        return TiledMaskGenerator(generator, tile, overlap)

    return build


def disc(shape: tuple[int, int], x: float, y: float, radius: float) -> np.ndarray:
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(xs - x, ys - y) <= radius


def bar(shape: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def found_once(records: list[dict[str, Any]], objects: list[np.ndarray]) -> None:
    """Assert that the records are the objects, each whole and once."""
    ious = np.array([[iou(from_rle(r["segmentation"]), o) for o in objects] for r in records])
    assert ious.shape == (len(objects), len(objects))
    assert sorted(ious.argmax(axis=1).tolist()) == list(range(len(objects)))
    assert ious.max(axis=1).min() > 0.9


@pytest.mark.parametrize(
    ("length", "spans"),
    [
        (256, [(0, 256)]),
        (100, [(0, 100)]),
        (257, [(0, 256), (1, 257)]),
        (448, [(0, 256), (192, 448)]),
        (449, [(0, 256), (96, 352), (193, 449)]),
    ],
)
def test_tiles_cover_the_image(sight: Sight, length: int, spans: list[tuple[int, int]]) -> None:
    tiles = sight().tiles((90, length))
    assert tiles == [(x0, 0, x1, 90) for x0, x1 in spans]
    assert sight().tiles((length, 300))[-1][2:] == (300, length)


@pytest.mark.parametrize("overlap", [1, 50, 64, 128])
def test_neighbours_share_the_overlap(sight: Sight, overlap: int) -> None:
    generator = sight(overlap=overlap)
    for length in range(257, 1500, 13):
        spans = [(x0, x1) for x0, _, x1, _ in generator.tiles((256, length))]
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(x1 - x0 == 256 for x0, x1 in spans)
        assert all(a[1] - b[0] >= overlap for a, b in pairwise(spans))


def test_without_a_tile_size_only_large_images_are_tiled(sight: Sight) -> None:
    automatic = sight(None, None)
    assert len(automatic.tiles((384, 300))) == 1
    assert automatic.tiles((200, 385))[0] == (0, 0, 256, 200)
    assert automatic.overlap == 64
    assert len(sight(300, None).tiles((301, 10))) == 2


def test_objects_on_borders_and_corners_come_out_whole_and_once(sight: Sight) -> None:
    # Borders of tiles are at 192, 256, 384 and 448 in both directions.
    shape = (640, 640)
    places = [(256, 100), (192, 320), (384, 256), (448, 448), (250, 250), (384, 390), (320, 192)]
    places += [(60, 60), (580, 600), (0, 448), (639, 256), (100, 639)]
    objects = [disc(shape, x, y, 18) for x, y in places]
    records = sight().generate(paint(shape, objects))
    found_once(records, objects)
    for record in records:
        mask = from_rle(record["segmentation"])
        ys, xs = np.nonzero(mask)
        left, top = int(xs.min()), int(ys.min())
        assert record["bbox"] == [left, top, int(xs.max()) - left, int(ys.max()) - top]
        assert record["area"] == mask.sum() and isinstance(record["area"], int)
        for x, y in record["point_coords"]:
            assert mask[int(y), int(x)]
        assert record["crop_box"][2:] == [256, 256]


def test_objects_larger_than_the_overlap_come_out_whole(sight: Sight) -> None:
    shape = (640, 700)
    objects = [
        bar(shape, 20, 40, 680, 60),  # over all tiles of a row
        bar(shape, 300, 100, 330, 620),  # down a column
        disc(shape, 150, 220, 70),
        disc(shape, 520, 470, 110),  # over a corner, 100 pixels larger than a tile's inside
        bar(shape, 0, 350, 220, 640) & ~bar(shape, 30, 380, 190, 640),  # a bow
    ]
    records = sight().generate(paint(shape, objects))
    found_once(records, objects)
    long = max(records, key=lambda record: record["bbox"][2])
    assert long["bbox"] == pytest.approx([20, 40, 659, 19], abs=3)
    assert long["crop_box"] == [0, 0, 700, 256]
    assert len(long["point_coords"]) > 2
    assert long["predicted_iou"] == pytest.approx(0.9)


def test_an_object_as_large_as_the_image(sight: Sight) -> None:
    everywhere = np.ones((700, 640), bool)
    hole = disc((700, 640), 330, 350, 25)
    records = sight().generate(paint((700, 640), [everywhere & ~hole, hole]))
    found_once(records, [everywhere & ~hole, hole])


def test_neighbours_stay_apart(sight: Sight) -> None:
    """Objects that touch on a border of tiles are not one."""
    shape = (256, 640)
    objects = [
        bar(shape, 100, 60, 300, 100),
        bar(shape, 100, 100, 300, 140),
        bar(shape, 300, 60, 500, 140),
    ]
    found_once(sight().generate(paint(shape, objects)), objects)


@pytest.mark.parametrize("options", [{"min_mask_region_area": 20}, {"crop_n_layers": 1}, {}])
def test_an_image_of_one_tile_is_not_changed(
    sight: Sight, model: Sam, options: dict[str, Any]
) -> None:
    shape = (200, 256)
    image = paint(shape, [disc(shape, 60, 60, 30), bar(shape, 120, 20, 250, 190)])
    tiled = sight(**options)
    assert tiled.generate(image) == tiled.generator.generate(image)


@pytest.mark.parametrize("shape", [(300, 700), (700, 100), (257, 257)])
def test_images_with_nothing_to_find(sight: Sight, shape: tuple[int, int]) -> None:
    assert sight().generate(np.zeros((*shape, 3), np.uint8)) == []


def test_progress_rises_to_one_and_can_cancel(sight: Sight) -> None:
    fractions: list[float] = []
    image = np.zeros((256, 640, 3), np.uint8)
    generator = sight(points_per_batch=128)
    generator.generate(image, progress=fractions.append)
    assert np.allclose(fractions, np.arange(1, 7) / 6)

    def cancel(fraction: float) -> None:
        if fraction > 0.4:
            raise InterruptedError

    engine = generator.generator.predictor.engine
    assert isinstance(engine, Colours)
    engine.encoded = 0
    with pytest.raises(InterruptedError):
        generator.generate(image, progress=cancel)
    assert engine.encoded == 2


def test_memory_stays_flat(tmp_path: Path) -> None:
    """4096 x 4096 pixels with 64 objects, whose masks alone would take 1 GB as arrays."""
    side, step = 4096, 512
    image = np.zeros((side, side, 3), np.uint8)
    for shade, (row, column) in enumerate(np.ndindex(side // step, side // step)):
        y, x = row * step + 60, column * step + 60
        image[y : y + 140, x : x + 130] = 1 + shade
    model = Sam(SamConfig(image_size=1024, tiny_vit=TINY_VITS["tiny_vit_2m"]))
    generator = SamAutomaticMaskGenerator(
        model, points_per_side=4, points_per_batch=4, engine=Colours(model)
    )
    tracemalloc.start()
    records = TiledMaskGenerator(generator).generate(image)
    _, searching = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    files = write_results(tmp_path, Path("large.png"), image, records, {})
    _, writing = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(records) == 64
    assert searching < 30e6
    assert writing < 4 * image.nbytes
    assert len(np.unique(read_label_map(files[0]))) == 65


@pytest.mark.parametrize(
    ("tile", "overlap", "sentence"),
    [
        (100, 120, "Tiles of 100 pixels cannot overlap by 120: give an overlap of 1 to 50"),
        (None, 200, "Tiles of 256 pixels cannot overlap by 200"),
        (100, 0, "cannot overlap by 0"),
        (10, None, "at least 32 pixels, not 10"),
        (-5, None, "at least 32 pixels"),
    ],
)
def test_wrong_tiles_are_told(
    sight: Sight, tile: int | None, overlap: int | None, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        sight(tile, overlap)
