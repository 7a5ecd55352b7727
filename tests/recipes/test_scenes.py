"""Synthetic scenes: repeatable, and with labels that agree with the image."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from recipes.scenes import sheet
from recipes.scenes.canvas import MIN_PIXELS, Canvas
from recipes.scenes.dataset import STYLES, Scenes, draw_scene
from recipes.scenes.outlines import OUTLINES, Outline
from samlet.errors import UserError

SIDE = 192


@pytest.fixture(scope="module")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures with alpha, as the package has them."""
    folder = tmp_path_factory.mktemp("sprites")
    y, x = np.mgrid[:256, :256]
    for number in range(3):
        disc = np.hypot(x - 128, y - 128) < 60 + 30 * number
        pixels = np.stack([x, y, 255 - x, 255 * disc], axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.webp", lossless=True)
    return folder


def test_a_scene_depends_on_seed_and_number_only(sprites: Path) -> None:
    scenes = Scenes(sprites, count=30, side=SIDE, seed=7)
    again = pickle.loads(pickle.dumps(Scenes(sprites, count=50, side=SIDE, seed=7)))
    # In another order, so that nothing can be carried over from one scene to the next.
    for number in (11, 3, 29):
        first, second = scenes[number], again[number]
        assert first.name == second.name
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.labels, second.labels)
    other = Scenes(sprites, count=30, side=SIDE, seed=8)
    assert not np.array_equal(scenes[3].image, other[3].image)
    assert not np.array_equal(scenes[3].image, scenes[4].image)
    assert np.array_equal(scenes[-1].image, scenes[29].image)
    with pytest.raises(IndexError):
        scenes[30]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("side", [SIDE, 301])
def test_every_style_has_an_image_and_connected_objects(style: str, side: int) -> None:
    """Without rendered objects, and so offline."""
    found = 0
    for seed in range(6):
        image, labels = draw_scene(np.random.default_rng(seed), style, (side, side), None)
        assert image.shape == (side, side, 3) and image.dtype == np.uint8
        assert labels.shape[1:] == (side, side) and labels.dtype == np.int32
        assert image.std() > 1
        numbers = [set(np.unique(layer)) - {0} for layer in labels]
        assert len(set.union(*numbers)) == sum(map(len, numbers))
        for layer in labels:
            for number in set(np.unique(layer)) - {0}:
                mask = layer == number
                assert mask.sum() >= MIN_PIXELS
                assert ndimage.label(mask)[1] == 1
        found += sum(map(len, numbers))
    assert found >= 12


@pytest.mark.parametrize("style", STYLES)
def test_edges_of_objects_are_edges_of_the_image(style: str, sprites: Path) -> None:
    """There the image changes more than along the same lines in a mirror image of the labels."""
    there, mirrored = [], []
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        image, labels = draw_scene(rng, style, (320, 320), Scenes(sprites).sprites)
        grey = ndimage.gaussian_filter(image.mean(2), 1)
        change = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1))
        edge = ndimage.morphological_gradient(labels[0], size=(3, 3)) > 0
        there.append(change[edge].mean())
        mirrored.append(change[edge[::-1, ::-1]].mean())
    assert np.mean(there) > 1.3 * np.mean(mirrored)


@pytest.mark.parametrize("outline", OUTLINES)
@pytest.mark.parametrize("radius", [2, 7, 60])
def test_an_object_changes_its_own_pixels_only(outline: Outline, radius: float) -> None:
    mask = outline(np.random.default_rng(int(radius)), radius)
    assert mask.any(0).all() or mask.any(1).all()
    # An outline's radius is that of a disc of about its size.
    assert 0.25 * radius < (mask.sum() / np.pi) ** 0.5 < 2.5 * radius + 2
    canvas = Canvas(np.zeros((400, 400, 3), np.float32))
    canvas.place(mask, np.full((*mask.shape, 3), 0.5, np.float32), 203, 150, defocus=0)
    changed = canvas.image.any(2)
    assert np.array_equal(changed, canvas.objects.labels > 0)
    assert changed.sum() == mask.sum()


def test_labels_are_what_is_visible() -> None:
    canvas = Canvas(np.zeros((100, 100), np.float32))
    square = np.ones((30, 30), bool)
    canvas.place(square, 0.2, 20, 20)
    canvas.place(square, 0.4, 70, 70)
    # Covers 80 % of the first object, and cuts the second into 8 + 19 rows.
    canvas.place(np.ones((24, 40), bool), 0.6, 20, 17)
    canvas.place(np.ones((3, 60), bool), 0.8, 65, 64.5)
    labels = canvas.objects.visible()
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert (labels[30:34, 10:30] == 0).all()
    below = labels[70, 70]
    assert (labels == below).sum() == 19 * 30
    assert labels[60, 70] == 0 and labels[64, 70] not in (0, below)


def test_what_only_hides_takes_pixels_away() -> None:
    canvas = Canvas(np.zeros((60, 60), np.float32))
    canvas.place(np.ones((20, 20), bool), 1, 30, 30)
    canvas.place(np.ones((20, 8), bool), 1, 34, 30, labelled=False)
    assert canvas.objects.visible().sum() == 20 * 10
    canvas.place(np.ones((20, 20), bool), 1, 300, 30)
    assert canvas.objects.visible().max() == 1


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recipes\.scenes\.sprites"):
        Scenes(tmp_path)


def test_the_sheet_shows_the_scenes(tmp_path: Path, sprites: Path) -> None:
    out = tmp_path / "sheet.png"
    told = CliRunner().invoke(
        sheet.app,
        [str(out), "--sprites", str(sprites), "--count", "3", "--columns", "2", "--width", "64"],
    )
    assert told.exit_code == 0, told.output
    assert Image.open(out).size == (128, 128)


def test_parts_have_a_layer_of_their_own() -> None:
    canvas = Canvas(np.zeros((80, 80), np.float32))
    square = np.ones((40, 40), bool)
    part = np.zeros_like(square)
    part[5:15, 5:15] = True
    canvas.place(square, 1, 30, 30, parts=[part])
    canvas.place(square, 1, 60, 60)
    parts, objects = canvas.layers()
    assert (parts > 0).sum() == part.sum() and (parts[15:25, 15:25] == 3).all()
    assert set(np.unique(objects)) == {0, 1, 2}
    # What hides an object hides its parts.
    canvas.place(square, 1, 20, 20)
    assert len(canvas.layers()) == 1
