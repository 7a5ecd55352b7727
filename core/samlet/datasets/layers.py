"""Layers of label maps: objects may overlap, but not within a layer."""

from collections.abc import Iterable, Iterator

import numpy as np

from samlet.errors import UserError
from samlet.masks import area, box_xyxy, from_label_map


def pack_layers(masks: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Pack masks into few layers, greedily: each into the first layer where nothing overlaps it.

    Larger masks go first, so the first layer has the largest objects, and parts of them follow in
    others. Empty masks are left out. Of each mask that the iterable gives, only its bounding box is
    kept in memory.

    Args:
        masks: bool, H x W each.
        size: (H, W).

    Returns:
        int32, L x H x W with L >= 1, where 0 is background and the masks that are not empty are
        numbered 1, 2, ... in their order.

    Raises:
        UserError: a mask is of another size.
    """
    crops = []
    for mask in masks:
        if mask.shape != tuple(size):
            raise UserError(f"A mask of {mask.shape} does not belong to an image of {tuple(size)}.")
        if mask.any():
            x0, y0, x1, y1 = box_xyxy(mask)
            box = (slice(y0, y1), slice(x0, x1))
            crops.append((box, mask[box].copy()))
    layers = [np.zeros(size, np.int32)]
    for i in sorted(range(len(crops)), key=lambda i: -area(crops[i][1])):
        box, crop = crops[i]
        for layer in layers:
            if not layer[box][crop].any():
                break
        else:
            layer = np.zeros(size, np.int32)
            layers.append(layer)
        layer[box][crop] = i + 1
    return np.stack(layers)


def iter_objects(layers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each object as (number, bool H x W), layer by layer.

    Args:
        layers: integers, L x H x W, where 0 is background.
    """
    for layer in layers:
        yield from from_label_map(layer)
