"""What an object is like, as numbers: its pooled embedding, its shape and its colours."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from samlet.everything.likeness import EmbeddingGrid, colours_of
from samlet.everything.working_scale import plan_for_side
from samlet.images import to_rgb
from samlet.masks import Box, Mask, check_masks, crop_mask
from samlet.measurements.objects import measure_objects
from samlet.predict.predictor import Predictor

WHERE_IT_LIES = ("label", "centroid_x", "centroid_y", "orientation", "touches_border")
"""Measurements that do not tell what an object is like."""

EMBEDDING_START = 21
"""Where, among the features of an object, its embedding begins."""


def object_features(
    predictor: Predictor, image: np.ndarray, masks: np.ndarray | Sequence[Mask]
) -> np.ndarray:
    """Describe objects of an image, for `samlet.ObjectClassifier`.

    The image is encoded at the scale that suits the median object, so that objects of one kind are
    described alike in images of different magnification.

    Args:
        predictor: whose embeddings.
        image: RGB uint8, H x W x 3, or any other array that `samlet.images.to_rgb` takes.
        masks: N x H x W, or a sequence of H x W or RLE; none of them empty.

    Returns:
        float32, N x F, see `describe_object`; N x 0 if there is no object.

    Raises:
        UserError: the array is not an image, or a mask is empty or of another size.
    """
    rgb = to_rgb(image)
    objects = [crop_mask(mask) for mask in masks]
    check_masks(objects, (rgb.shape[0], rgb.shape[1]))
    if not objects:
        return np.zeros((0, 0), np.float32)
    side = float(np.median(np.sqrt([np.prod(one.mask.shape) for one in objects])))
    plan = plan_for_side(predictor, objects[0].size, side, None, None)
    by_roi: dict[Box, list[int]] = defaultdict(list)
    for number, one in enumerate(objects):
        by_roi[plan.roi_of(one)].append(number)
    rows: dict[int, np.ndarray] = {}
    for roi, numbers in by_roi.items():
        grid = EmbeddingGrid.of(plan.encode(rgb, roi), roi)
        for number in numbers:
            one = objects[number]
            pooled = grid.pooled(one.mask, one.x, one.y)
            rows[number] = describe_object(pooled, one.mask, rgb[one.slices])
    return np.stack([rows[number] for number in range(len(objects))])


def describe_object(embedding: np.ndarray, mask: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Describe one object.

    Args:
        embedding: averaged over its pixels, see `EmbeddingGrid.pooled`: C.
        mask: bool, h x w, with a pixel.
        rgb: uint8, h x w x 3: the same part of the image.

    Returns:
        float32, F: what `samlet.measure_objects` tells of its shape and colours, the standard
        deviation of its colours, and last the embedding.
    """
    measured = measure_objects(mask.astype(np.uint8), rgb)
    own = [values[0] for name, values in measured.items() if name not in WHERE_IT_LIES]
    spread = colours_of(rgb, mask, 0, 0)[1]
    return np.concatenate([own, spread, embedding]).astype(np.float32)
