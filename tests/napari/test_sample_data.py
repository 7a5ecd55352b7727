"""The samples, as napari opens them, and the stack against its true labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from scipy import ndimage

import samlet_napari
from samlet.outputs import read_label_map
from samlet.samples import LABELS
from samlet_napari.sample_data import SLICES, STACK_OF, stack, stack_labels


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return stack_labels()


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return stack()[0][0]


@pytest.mark.parametrize(
    ("key", "dimensions", "rgb", "source", "licence"),
    [
        ("fluorescence", 2, False, "BBBC038", "CC0"),
        ("stained", 2, True, "BBBC038", "CC0"),
        ("brightfield", 2, False, "BBBC038", "CC0"),
        ("phase_contrast", 2, False, "Usiigaci", "MIT"),
        ("electron", 2, False, "data_axondeepseg_sem", "MIT"),
        ("stack", 3, False, "BBBC038", "CC0"),
    ],
)
def test_napari_opens_a_sample(
    key: str, dimensions: int, rgb: bool, source: str, licence: str, npe2pm: Any
) -> None:
    manifest = Path(samlet_napari.__file__).with_name("napari.yaml")
    viewer = ViewerModel()
    with npe2pm.tmp_plugin(manifest=str(manifest)):
        [layer] = viewer.open_sample("samlet", key)
    assert isinstance(layer, Image)
    assert (layer.ndim, layer.rgb) == (dimensions, rgb)
    assert source in layer.metadata["source"] and layer.metadata["license"] == licence
    assert np.ptp(layer.data) > 100


def test_the_stack_has_flat_voxels(volume: np.ndarray, truth: np.ndarray) -> None:
    [(_, meta, kind)] = stack()
    assert kind == "image" and tuple(meta["scale"]) == (2, 1, 1)
    assert volume.dtype == truth.dtype == np.uint16
    assert volume.shape == truth.shape == (SLICES, *truth.shape[1:])


def test_the_stack_is_the_same_every_time(volume: np.ndarray, truth: np.ndarray) -> None:
    assert np.array_equal(stack()[0][0], volume)
    assert np.array_equal(stack_labels(), truth)


def test_seen_from_above_the_bodies_are_the_label_map(truth: np.ndarray) -> None:
    assert np.array_equal(truth.max(axis=0), read_label_map(LABELS / f"{STACK_OF}.png"))


def test_bodies_are_like_balls(truth: np.ndarray) -> None:
    centres = set()
    for label in np.unique(truth[truth > 0]):
        areas = (truth == label).sum(axis=(1, 2))
        slices = np.flatnonzero(areas)
        assert np.array_equal(slices, np.arange(slices[0], slices[-1] + 1)), label
        middle = (slices[0] + slices[-1]) // 2
        assert areas[middle] == areas.max(), label
        # Slivers that the edge of the picture cuts off are too narrow to shrink.
        assert areas[slices[0]] < areas.max() or areas.max() < 60, label
        assert (np.diff(areas[slices[0] : middle + 1]) >= 0).all(), label
        assert np.array_equal(areas[slices], areas[slices][::-1]), label
        centres.add(int(middle))
    assert len(centres) >= 4


def test_the_ends_of_the_stack_are_nearly_empty(truth: np.ndarray) -> None:
    shares = (truth > 0).mean(axis=(1, 2))
    assert max(shares[0], shares[-1]) < 0.02 < 0.1 < shares.max()


def test_nuclei_shine_where_they_are(volume: np.ndarray, truth: np.ndarray) -> None:
    background = np.median(volume[truth == 0])
    for label in np.unique(truth[truth > 0]):
        body = truth == label
        middle = int(body.sum(axis=(1, 2)).argmax())
        inside = body[middle]
        around = ndimage.binary_dilation(inside, iterations=12)
        around &= ~ndimage.binary_dilation(truth[middle] > 0, iterations=5)
        assert np.median(volume[middle][inside]) > np.median(volume[middle][around]), label
        # Beyond the light out of focus, nothing is left of a nucleus.
        far = np.abs(np.arange(SLICES) - np.median(np.flatnonzero(body.any(axis=(1, 2))))) > 9
        assert (volume[far][:, inside].mean(axis=1) < 1.5 * background).all(), label


def test_no_pixel_is_saturated(volume: np.ndarray) -> None:
    values, counts = np.unique(volume, return_counts=True)
    assert counts[values == volume.max()] < 10
