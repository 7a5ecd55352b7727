"""Prompts of points, boxes and masks, checked once when they come in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from samlet.errors import UserError


@dataclass(frozen=True)
class Prompts:
    """B prompts on one image, each of points, a box, a mask, or some of these.

    Attributes:
        point_coords: float32, B x N x 2, (x, y) in pixels of the image; None without points.
        point_labels: float32, B x N: 1 on the object, 0 on the background, -1 no point.
        boxes: float32, B x 4, x1, y1, x2, y2 in pixels of the image; None without boxes.
        mask_inputs: float32, B x S/4 x S/4 logits; None without masks.
    """

    point_coords: np.ndarray | None
    point_labels: np.ndarray | None
    boxes: np.ndarray | None
    mask_inputs: np.ndarray | None

    @classmethod
    def checked(
        cls,
        point_coords: ArrayLike | None,
        point_labels: ArrayLike | None,
        boxes: ArrayLike | None,
        mask_inputs: ArrayLike | None,
        size: Sequence[int] | None,
        grid: int,
    ) -> "Prompts":
        """Check prompts and bring them to float32.

        Args:
            point_coords: as the attribute, in any form; so are the next three. Empty ones
                are no prompts; B x 0 x 2 are prompts without points.
            point_labels: 1, 0 or -1.
            boxes: x1, y1, x2, y2.
            mask_inputs: logits; B x 1 x S/4 x S/4 will do, too.
            size: (H, W) of the image, in which points and boxes must lie; None where they need not.
            grid: S/4, the side of the model's low-resolution masks.

        Raises:
            UserError: something is malformed or lies outside the image, or nothing was given.
        """
        prompts = cls(
            *_points(point_coords, point_labels, size),
            _boxes(boxes, size),
            _masks(mask_inputs, grid),
        )
        counts = {len(x) for x in prompts.parts() if x is not None}
        if not counts:
            raise UserError("There is no prompt: give points, a box or a mask.")
        if len(counts) > 1:
            raise UserError("A batch needs as many boxes or masks as sets of points.")
        return prompts

    def __len__(self) -> int:
        return next(len(x) for x in self.parts() if x is not None)

    def parts(self) -> tuple[np.ndarray | None, ...]:
        """The four attributes, in their order."""
        return self.point_coords, self.point_labels, self.boxes, self.mask_inputs

    def rows(self, index: Sequence[int]) -> "Prompts":
        """Some of the prompts."""
        return Prompts(*(None if part is None else part[list(index)] for part in self.parts()))

    def clicks(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """One prompt's points, N x 2, and their labels, N, without padding."""
        if self.point_coords is None or self.point_labels is None:
            return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
        real = self.point_labels[row] >= 0
        return self.point_coords[row][real], self.point_labels[row][real]


def numbers(values: ArrayLike, name: str) -> np.ndarray:
    """Convert to finite float32 numbers.

    Args:
        values: of any form.
        name: of the argument, for the message.

    Raises:
        UserError: they are no finite numbers.
    """
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be numbers, as many in every row.") from error
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds a value that is not a finite number.")
    return array


def single(
    point_coords: ArrayLike | None,
    point_labels: ArrayLike | None,
    box: ArrayLike | None,
    mask_input: ArrayLike | None,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """One prompt as a batch of one, for `Prompts.checked`.

    Args:
        point_coords: N x 2.
        point_labels: N.
        box: x1, y1, x2, y2; 4 or 1 x 4 numbers.
        mask_input: S/4 x S/4 or 1 x S/4 x S/4.

    Raises:
        UserError: they are no numbers, or a box of another number of them.
    """
    if box is not None and np.size(box) != 4:
        raise UserError("A box has four numbers: x1, y1, x2, y2.")
    mask = None if mask_input is None else numbers(mask_input, "The mask prompt")
    return (
        None if point_coords is None else numbers(point_coords, "point_coords")[None],
        None if point_labels is None else numbers(point_labels, "point_labels")[None],
        None if box is None else numbers(box, "The box").reshape(1, 4),
        # With one axis in front it is a batch of one already.
        None if mask is None else mask if mask.ndim == 3 and len(mask) == 1 else mask[None],
    )


def _points(
    coords: ArrayLike | None, labels: ArrayLike | None, size: Sequence[int] | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if coords is None:
        if labels is not None and np.size(labels):
            raise UserError("point_labels need point_coords.")
        return None, None
    if labels is None and np.size(coords):
        raise UserError("point_coords need point_labels: 1 on the object, 0 on the background.")
    xy = numbers(coords, "point_coords")
    kind = numbers([] if labels is None else labels, "point_labels")
    if xy.size == 0 and kind.size == 0:
        is_without = len(xy) > 0
        return (None, None) if is_without else (xy.reshape(0, 1, 2), kind.reshape(0, 1))
    if xy.ndim != 3 or xy.shape[-1] != 2 or xy.shape[1] == 0:
        raise UserError("Points must have two columns, x and y, and at least one row.")
    if kind.shape != xy.shape[:2]:
        raise UserError(f"{xy.shape[1]} points need as many labels, not {kind.shape[-1:]}.")
    if not np.isin(kind, (-1, 0, 1)).all():
        raise UserError("A point's label is 1 (on the object) or 0 (on the background).")
    if size is not None:
        height, width = size
        inside = (xy >= 0).all(-1) & (xy[..., 0] <= width) & (xy[..., 1] <= height)
        outside = ~inside & (kind >= 0)
        if outside.any():
            x, y = xy[outside][0]
            raise UserError(
                f"The point {x:g},{y:g} lies outside the image, which is {width} x {height} pixels."
            )
    return xy, kind


def _boxes(boxes: ArrayLike | None, size: Sequence[int] | None) -> np.ndarray | None:
    if boxes is None:
        return None
    array = numbers(boxes, "The box")
    if array.size == 0 and len(array) == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise UserError("A box has four numbers: x1, y1, x2, y2.")
    for x1, y1, x2, y2 in array:
        corners = f"{x1:g},{y1:g},{x2:g},{y2:g}"
        if x1 >= x2 or y1 >= y2:
            raise UserError(
                f"The box {corners} is inside out: give x1,y1,x2,y2 with x1 < x2 and y1 < y2."
            )
        if size is not None and (x1 >= size[1] or y1 >= size[0] or x2 <= 0 or y2 <= 0):
            raise UserError(
                f"The box {corners} lies outside the image, which is {size[1]} x {size[0]} pixels."
            )
    return array


def _masks(masks: ArrayLike | None, grid: int) -> np.ndarray | None:
    if masks is None:
        return None
    array = numbers(masks, "The mask prompt")
    if array.size == 0 and len(array) == 0:
        return array.reshape(0, grid, grid)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3 or array.shape[1:] != (grid, grid):
        given = " x ".join(map(str, array.shape[1:]))
        raise UserError(
            f"A mask prompt is {grid} x {grid} logits of one mask, a row of the low_res_masks of "
            f"an earlier prediction, not {given}."
        )
    return array
