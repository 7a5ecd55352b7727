"""What objects are drawn on: an image, and which pixel belongs to which object."""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy import ndimage

from recipes.scenes.noise import blur, pad

MIN_VISIBLE_SHARE = 0.35
"""Objects of which less is seen have no label, although they stay in the image."""
MIN_PIXELS = 20
"""Objects with fewer visible pixels have no label either."""

Place = tuple[slice, slice]
"""Rows and columns of an image."""


class LabelPlane:
    """Objects that hide each other.

    Attributes:
        labels: int32, H x W: the object that is on top; 0 is background. Not yet cleared of hardly
            visible objects; see `visible`.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.labels = np.zeros(shape, np.int32)
        self._areas = [0]

    def add(self, mask: np.ndarray, there: Place) -> None:
        """Give pixels to a new object.

        Args:
            mask: bool, of the size of `there`.
            there: rows and columns.
        """
        self.labels[there][mask] = len(self._areas)
        self._areas.append(int(mask.sum()))

    def add_all(self, labels: np.ndarray) -> None:
        """Add the objects of a label map, int32, H x W, to a plane that is still empty."""
        self.labels[:] = labels
        self._areas = np.bincount(labels.ravel()).tolist()

    def clear(self, mask: np.ndarray, there: Place) -> None:
        """Give pixels to the background; arguments as for `add`."""
        self.labels[there][mask] = 0

    def visible(self) -> np.ndarray:
        """int32, H x W: objects 1 to n, each one connected piece, of which enough is seen."""
        return clean_labels(self.labels, self._areas)


class Canvas:
    """An image on which objects are put one over the other.

    Attributes:
        image: float32, H x W or H x W x 3, about 0 to 1.
        objects: whose pixels they are.
        parts: parts of objects that are objects themselves, such as a nucleus in its cell.
    """

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self.objects = LabelPlane(image.shape[:2])
        self.parts = LabelPlane(image.shape[:2])

    def place(
        self,
        mask: np.ndarray,
        surface: np.ndarray | float,
        x: float,
        y: float,
        *,
        alpha: np.ndarray | None = None,
        defocus: float = 0.5,
        labelled: bool = True,
        parts: Sequence[np.ndarray] = (),
    ) -> None:
        """Put an object on top.

        Args:
            mask: bool, h x w: the object's pixels.
            surface: what it looks like: float32, h x w or h x w x 3, or one number.
            x: where its crop's centre comes to lie, pixels.
            y: where its crop's centre comes to lie, pixels.
            alpha: its opacity, float32, h x w; the mask if None.
            defocus: standard deviation of the blur of its edge, pixels.
            labelled: whether it is an object, or only hides what is under it.
            parts: bool, h x w each: parts of it that are objects, too.
        """
        there, here = self._overlap(mask.shape, x, y)
        if there is not None:
            self.parts.clear(mask[here], there)
            for part in parts:
                self.parts.add(part[here], there)
            if labelled:
                self.objects.add(mask[here], there)
            else:
                self.objects.clear(mask[here], there)
        # The blurred edge reaches out of the mask.
        margin = int(np.ceil(2.5 * defocus))
        opacity = pad((mask if alpha is None else alpha).astype(np.float32), margin)
        there, here = self._overlap(opacity.shape, x, y)
        if there is None:
            return
        opacity = blur(opacity, defocus)[here]
        if isinstance(surface, np.ndarray):
            surface = pad(surface.astype(np.float32, copy=False), margin, cv2.BORDER_REPLICATE)
            surface = (blur(surface, defocus) if defocus > 1 else surface)[here]
        if self.image.ndim == 3:
            opacity = opacity[:, :, None]
        under = self.image[there]
        under += opacity * (surface - under)

    def shade(self, mask: np.ndarray, factor: float, x: float, y: float, softness: float) -> None:
        """Multiply the image under a blurred mask, as a shadow does.

        Args:
            mask: bool, h x w.
            factor: 0 for black, 1 for nothing.
            x: where its centre comes to lie, pixels.
            y: where its centre comes to lie, pixels.
            softness: standard deviation of the blur, pixels.
        """
        margin = int(np.ceil(2.5 * softness))
        shadow = blur(pad(mask.astype(np.float32), margin), softness)
        there, here = self._overlap(shadow.shape, x, y)
        if there is None:
            return
        light = 1 - np.float32(1 - factor) * shadow[here]
        self.image[there] *= light[:, :, None] if self.image.ndim == 3 else light

    def layers(self) -> np.ndarray:
        """int32, L x H x W: the visible parts if there are any, and the visible objects."""
        return stack_layers(self.parts.visible(), self.objects.visible())

    def _overlap(self, size: tuple[int, ...], x: float, y: float) -> tuple[Place | None, Place]:
        """Where a crop lies in the image, None if outside, and which part of it that is."""
        # Halves are rounded such that a margin on both sides moves nothing.
        top, left = round(y) - size[0] // 2, round(x) - size[1] // 2
        rows, columns = self.image.shape[:2]
        y0, y1 = max(top, 0), min(top + size[0], rows)
        x0, x1 = max(left, 0), min(left + size[1], columns)
        here = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        if y0 >= y1 or x0 >= x1:
            return None, here
        return (slice(y0, y1), slice(x0, x1)), here


def stack_layers(parts: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Two label maps, H x W, as layers with numbers of their own: int32, L x H x W.

    Objects come last, where the proposal head's losses look first; a layer without parts is left
    out.
    """
    if not parts.any():
        return objects[None]
    return np.stack([np.where(parts > 0, parts + objects.max(), 0).astype(np.int32), objects])


def clean_labels(labels: np.ndarray, areas: Sequence[int] | None = None) -> np.ndarray:
    """Keep of each object the largest connected piece, if that is enough to be seen.

    Args:
        labels: int32, H x W; 0 is background.
        areas: pixels that each object had before others covered it, by its number; None if
            nothing does.

    Returns:
        int32, H x W, numbered from 1 without gaps.
    """
    areas = np.bincount(labels.ravel()).tolist() if areas is None else areas
    result = np.zeros_like(labels)
    kept = 0
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        mask = (labels[box] == number).view(np.uint8)
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        seen = stats[largest, cv2.CC_STAT_AREA]
        if seen >= max(MIN_PIXELS, MIN_VISIBLE_SHARE * areas[number]):
            kept += 1
            result[box][pieces == largest] = kept
    return result
