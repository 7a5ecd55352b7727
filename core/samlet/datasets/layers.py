"""Objects that may overlap, as layers of label maps, in each of which they do not."""

from collections.abc import Iterable, Iterator

import numpy as np

from samlet.errors import UserError
from samlet.masks import area, box_xyxy, from_label_map


def pack(masks: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Put masks into as few layers as a greedy search finds: each into the first where it fits.

    Larger masks go first, so that the first layer holds what is largest, and parts of objects
    follow. Empty masks are left out. While masks are drawn from the iterable, no more of each is
    kept than its bounding box.

    Args:
        masks: bool, H x W each.
        size: (H, W).

    Returns:
        int32, L x H x W, L >= 1; 0 background; of the masks that are not empty the first is 1, the
        second 2, and so on.

    Raises:
        UserError: a mask is of another size.
    """
    crops = []
    for mask in masks:
        if mask.shape != tuple(size):
            raise UserError(f"A mask of {mask.shape} does not belong to an image of {tuple(size)}.")
        if mask.any():
            x0, y0, x1, y1 = box_xyxy(mask)
            window = (slice(y0, y1), slice(x0, x1))
            crops.append((window, mask[window].copy()))
    layers = [np.zeros(size, np.int32)]
    for i in sorted(range(len(crops)), key=lambda i: -area(crops[i][1])):
        window, crop = crops[i]
        for layer in layers:
            if not layer[window][crop].any():
                break
        else:
            layer = np.zeros(size, np.int32)
            layers.append(layer)
        layer[window][crop] = i + 1
    return np.stack(layers)


def objects(layers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each object of layered label maps as (number, bool H x W), layer by layer.

    Args:
        layers: L x H x W integers; 0 is background.
    """
    for layer in layers:
        yield from from_label_map(layer)
