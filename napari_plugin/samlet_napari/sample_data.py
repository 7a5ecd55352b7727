"""Sample data: five real images, and a stack of slices made from one of them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from samlet.images import read
from samlet.outputs import read_label_map
from samlet.samples import IMAGES, LABELS

LayerData = tuple[np.ndarray, dict[str, Any], str]

STACK_OF = "fluorescence_1"
SLICES = 12
STACK_SCALE = (2.0, 1.0, 1.0)

_SOURCE = {
    "source": "BBBC038v1, Broad Bioimage Benchmark Collection (Caicedo et al., 2019)",
    "license": "CC0",
}
_USIIGACI = {"source": "Usiigaci (Tsai et al., 2019)", "license": "MIT"}
_AXONS = {"source": "data_axondeepseg_sem (Zaimi et al., 2018)", "license": "MIT"}
_SEED = 38
# Nuclei of cells in a dish are flat: half their height as a share of their radius.
_FLATNESS = 0.3
# Half heights in slices, so that the smallest nuclei have a few and the largest leave some free.
_HALF_HEIGHTS = (1.5, 4.2)
# Out-of-focus light: how fast it widens, in pixels, and fades with each slice, and how far it goes.
_BLUR = 1.6
_FADING = 0.45
_REACH = 4
# 12 bits of a camera from the 8 bits of the image.
_GAIN = 16
_OFFSET = 100


def fluorescence() -> list[LayerData]:
    """Fluorescent nuclei, grey."""
    return [_sample("fluorescence_1")]


def stained() -> list[LayerData]:
    """Nuclei in stained tissue, in colour."""
    return [_sample("stained_1")]


def brightfield() -> list[LayerData]:
    """Nuclei in transmitted light, grey."""
    return [_sample("brightfield_1")]


def phase_contrast() -> list[LayerData]:
    """Living cells in phase contrast, grey."""
    return [_sample("phase_contrast_1", _USIIGACI)]


def electron() -> list[LayerData]:
    """Axons of a spinal cord in a scanning electron microscope, grey."""
    return [_sample("electron_1", _AXONS)]


def stack() -> list[LayerData]:
    """Slices through fluorescent nuclei: an imitation, made from a real image and its labels.

    Every labelled nucleus becomes a body like a flattened ball (see `stack_labels`) with the
    image's own texture, on the median of the image's background. Each slice gets the blurred
    light of its neighbours and noise from a fixed seed.
    """
    image = _grey(STACK_OF).astype(np.float32)
    labels = read_label_map(LABELS / f"{STACK_OF}.png")
    background = float(np.median(image[labels == 0]))
    light = np.zeros((SLICES, *image.shape), dtype=np.float32)
    for body in _bodies(labels):
        above = np.maximum(image[body.window] - background, 0)
        for slice_, distance in enumerate(np.arange(SLICES) - body.centre):
            # A pixel where the surface passes within the slice is as bright as its share.
            filled = np.clip(body.half_height - abs(distance) + 0.5, 0, 1) * body.inside
            light[slice_][body.window] += filled * above
    clean = background + _out_of_focus(light)
    generator = np.random.default_rng(_SEED)
    noisy = clean + generator.normal(0, 0.8 + 0.2 * np.sqrt(clean))
    values = (np.clip(noisy, 0, 255) * _GAIN + _OFFSET).astype(np.uint16)
    made = {**_SOURCE, "made": f"an imitation of a stack, from the sample {STACK_OF}"}
    return [(values, {"name": "stack", "scale": STACK_SCALE, "metadata": made}, "image")]


def stack_labels() -> np.ndarray:
    """The true labels of `stack`, numbered as in the label map of the image.

    A body has the whole outline of its nucleus in its central slice. Above and below, the outline
    shrinks as that of a ball does, by the distance to the edge in place of the radius. The larger
    the nucleus, the higher the body; its depth comes from a fixed seed.

    Returns:
        uint16, Z x H x W, 0 is background.
    """
    labels = read_label_map(LABELS / f"{STACK_OF}.png")
    volume = np.zeros((SLICES, *labels.shape), dtype=np.uint16)
    for body in _bodies(labels):
        for slice_, distance in enumerate(np.arange(SLICES) - body.centre):
            within = body.inside & (body.half_height >= abs(distance))
            volume[slice_][body.window][within] = body.label
    return volume


class _Body(NamedTuple):
    """A nucleus in a window of the image, with half its height in slices at each pixel."""

    label: int
    window: tuple[slice, ...]
    inside: np.ndarray
    half_height: np.ndarray
    centre: int


def _bodies(labels: np.ndarray) -> Iterator[_Body]:
    generator = np.random.default_rng(_SEED)
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        inside = labels[window] == label
        # From the middle of a pixel to the outline, which runs between pixels.
        edge = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1].clip(0.5) - 0.5
        radius = np.sqrt(inside.sum() / np.pi)
        highest = float(np.clip(_FLATNESS * radius / STACK_SCALE[0], *_HALF_HEIGHTS))
        half_height = highest * np.sqrt(1 - (1 - edge / edge.max()) ** 2)
        margin = int(np.ceil(highest))
        centre = int(generator.integers(margin, SLICES - margin))
        yield _Body(label, window, inside, half_height, centre)


def _out_of_focus(light: np.ndarray) -> np.ndarray:
    """Each slice with the light of its neighbours; the inside of a thick body stays as bright."""
    seen = np.zeros_like(light)
    for distance in range(_REACH + 1):
        blurred = ndimage.gaussian_filter(light, (0, *[0.7 + _BLUR * distance] * 2))
        blurred *= _FADING**distance
        seen[distance:] += blurred[: SLICES - distance]
        if distance:
            seen[:-distance] += blurred[distance:]
    return seen / (1 + 2 * sum(_FADING**distance for distance in range(1, _REACH + 1)))


def _sample(name: str, source: dict[str, str] = _SOURCE) -> LayerData:
    pixels = read(IMAGES / f"{name}.png")
    grey = bool((pixels == pixels[..., :1]).all())
    meta = {"name": name, "rgb": not grey, "metadata": dict(source)}
    return pixels[..., 0] if grey else pixels, meta, "image"


def _grey(name: str) -> np.ndarray:
    return read(IMAGES / f"{name}.png")[..., 0]
