"""Objects carried through the sample stack, against its true labels."""

import numpy as np
import pytest
from napari.layers import Image

from samlet import Predictor
from samlet.masks import iou
from samlet.predict.embedding_cache import EmbeddingCache
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.inference.objects import FoundObject
from samlet_napari.inference.prompts import Step
from samlet_napari.inference.propagate import contrast, propagate, shift_mask
from samlet_napari.inference.roi import Roi
from samlet_napari.layers.layer_reader import LayerSnapshot
from samlet_napari.layers.plane import Plane
from samlet_napari.sample_data import SLICES, stack, stack_labels
from tests.models import nuclei_at

ALONE = (14, 15, 17, 23, 27, 35, 41)
"""Nuclei that no other is near in any slice."""
VISIBLE = 700.0
LARGE = 1 << 40


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return stack_labels()


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingProvider:
    [(values, _, _)] = stack()
    cache = EmbeddingCache(tmp_path_factory.mktemp("embeddings"), LARGE, LARGE)
    predictor = Predictor(nuclei_at(512), "torch")
    return EmbeddingProvider(predictor, LayerSnapshot.of([Image(values)]), cache)


def slice_at(z: int) -> Plane:
    return Plane((1, 2), (z, 0, 0))


def window_of(embeddings: EmbeddingProvider, z: int) -> Roi:
    height, width = embeddings.snapshot.size(slice_at(z))
    return Roi(slice_at(z), (0, 0, width, height))


def box_around(mask: np.ndarray) -> tuple[float, float, float, float]:
    (y0, x0), (y1, x1) = np.argwhere(mask).min(axis=0), np.argwhere(mask).max(axis=0) + 1
    return x0, y0, x1, y1


def followed(embeddings: EmbeddingProvider, z: int, mask: np.ndarray) -> list[FoundObject]:
    """An object in the slices after one, and in those before."""
    box = window_of(embeddings, z).box
    return [
        found
        for numbers in (range(z + 1, SLICES), range(z - 1, -1, -1))
        for found in propagate(embeddings, slice_at(z), box, mask, map(slice_at, numbers), VISIBLE)
    ]


@pytest.fixture(scope="module")
def volumes(embeddings: EmbeddingProvider, truth: np.ndarray) -> dict[int, np.ndarray]:
    """By nucleus: what was found from its middle slice on, where the box was drawn around it."""
    volumes = {}
    for label in ALONE:
        z = int((truth == label).sum(axis=(1, 2)).argmax())
        embedding = embeddings.get(window_of(embeddings, z))
        drawn = box_around(truth[z] == label)
        mask = embeddings.predictor.segment(embedding, box=drawn, multimask_output=False).best
        volume = np.zeros(truth.shape, bool)
        volume[z] = mask
        for found in followed(embeddings, z, mask):
            x0, y0, x1, y1 = found.box
            volume[found.plane.index[0], y0:y1, x0:x1] = found.mask
        volumes[label] = volume
    return volumes


@pytest.mark.slow
def test_nuclei_are_followed_through_the_stack(
    volumes: dict[int, np.ndarray], truth: np.ndarray
) -> None:
    ious = [iou(volume, truth == label) for label, volume in volumes.items()]
    assert np.mean(ious) > 0.75 and min(ious) > 0.65


def test_nuclei_end_where_they_end(volumes: dict[int, np.ndarray], truth: np.ndarray) -> None:
    off = []
    for label, volume in volumes.items():
        seen, true = (np.flatnonzero(v.any(axis=(1, 2))) for v in (volume, truth == label))
        off += [abs(int(seen[0] - true[0])), abs(int(seen[-1] - true[-1]))]
        assert np.array_equal(seen, np.arange(seen[0], seen[-1] + 1))
    assert max(off) <= 2 and np.mean(np.array(off) <= 1) > 0.8


def test_each_slice_tells_the_box_it_was_prompted_with(
    embeddings: EmbeddingProvider, truth: np.ndarray
) -> None:
    z = int((truth == ALONE[0]).sum(axis=(1, 2)).argmax())
    mask = truth[z] == ALONE[0]
    [first, second] = followed(embeddings, z, mask)[:2]
    assert [found.plane for found in (first, second)] == [slice_at(z + 1), slice_at(z + 2)]
    assert first.steps == (Step(box=box_around(mask)),)
    assert first.mask is not None
    assert second.steps == (Step(box=box_around(first.mask)),)
    assert first.mask.shape == mask.shape and first.mask.dtype == bool


@pytest.mark.parametrize(("x", "y"), [(300, 480), (600, 30), (350, 260)])
@pytest.mark.parametrize("side", [10, 20])
def test_what_does_not_exist_ends_at_once(
    embeddings: EmbeddingProvider, truth: np.ndarray, x: int, y: int, side: int
) -> None:
    mask = np.zeros(truth.shape[1:], bool)
    mask[y - side // 2 : y + side // 2, x - side // 2 : x + side // 2] = True
    assert not truth[:, mask].any()
    assert followed(embeddings, 5, mask) == []


def test_an_object_without_pixels_is_nowhere(
    embeddings: EmbeddingProvider, truth: np.ndarray
) -> None:
    assert followed(embeddings, 5, np.zeros(truth.shape[1:], bool)) == []


def disk(height: int = 80, width: int = 100, radius: float = 15) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.hypot(rows - height / 2 + 0.5, columns - width / 2 + 0.5) < radius


def painted(mask: np.ndarray, inside: int, outside: int) -> np.ndarray:
    return np.repeat(np.where(mask, inside, outside).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize(("inside", "outside"), [(200, 50), (50, 200), (90, 90), (255, 0)])
def test_contrast_is_the_difference_in_grey_levels(inside: int, outside: int) -> None:
    assert contrast(painted(disk(), inside, outside), disk()) == inside - outside


def test_contrast_is_to_what_is_near() -> None:
    pixels = painted(disk(radius=15), 200, 50)
    pixels[~disk(radius=35)] = 255
    assert contrast(pixels, disk(radius=15)) == 150


def test_contrast_where_the_pixels_are_fewer_than_those_of_the_mask() -> None:
    mask = disk(160, 200, 40)
    for step in (2, 3, 4):
        small = mask[::step, ::step]
        assert contrast(painted(small, 200, 50), mask) == pytest.approx(150, abs=15)


def test_contrast_without_a_mask_or_surroundings() -> None:
    pixels = painted(disk(), 200, 50)
    assert contrast(pixels, np.zeros((80, 100), bool)) == 0
    assert contrast(pixels, np.ones((80, 100), bool)) == 0


@pytest.mark.parametrize("to", [(0, 0, 9, 9), (4, 3, 12, 8), (6, 2, 7, 3), (30, 30, 34, 35)])
def test_a_mask_in_another_window(to: tuple[int, int, int, int]) -> None:
    box = (3, 2, 10, 8)
    mask = np.random.default_rng(0).random((6, 7)) < 0.5
    image = np.zeros((40, 40), bool)
    image[2:8, 3:10] = mask
    assert np.array_equal(shift_mask(mask, box, to), image[to[1] : to[3], to[0] : to[2]])
