"""What the overlay must show, pixel by pixel."""

import numpy as np
import pytest

from samlet.errors import UserError
from samlet.masks import Mask, to_rle
from samlet.outputs import drawing, overlay
from samlet.outputs.drawing import colours

IMAGE = np.full((60, 80, 3), 100, np.uint8)
BIG, SMALL = np.zeros((2, 60, 80), bool)
BIG[5:55, 5:50] = True
SMALL[20:30, 20:30] = True


def test_colours_are_distinct_and_stable() -> None:
    many = colours(200)
    assert len(np.unique(many, axis=0)) == 200
    assert np.array_equal(colours(5), many[:5])
    neighbours = np.abs(np.diff(many.astype(int), axis=0)).sum(axis=1)
    assert neighbours.min() > 100
    assert colours(0).shape == (0, 3)


def test_fill_outline_and_order() -> None:
    before = IMAGE.copy()
    result = overlay(IMAGE, [SMALL, BIG], alpha=0.25)
    small, big = colours(2).astype(float)
    assert result.dtype == np.uint8 and np.array_equal(IMAGE, before)
    outside = ~(BIG | SMALL)
    assert np.array_equal(result[outside], IMAGE[outside])
    assert np.array_equal(result[5, 5:50], np.tile(big, (45, 1)))
    blended = 100 + 0.25 * (big - 100)
    assert np.abs(result[40, 40] - blended).max() <= 1
    # The small one lies on top, whatever the order.
    assert np.array_equal(result[20, 20], small)
    assert np.abs(result[25, 25] - (blended + 0.25 * (small - blended))).max() <= 1
    assert np.abs(overlay(IMAGE, [BIG], alpha=0)[40, 40].astype(int) - 100).max() == 0
    assert np.array_equal(overlay(IMAGE, np.stack([SMALL, BIG]), alpha=0.25), result)


def test_outline_closes_at_the_image_border() -> None:
    result = overlay(IMAGE, [np.ones((60, 80), bool)], alpha=0)
    edge = np.ones((60, 80), bool)
    edge[1:-1, 1:-1] = False
    assert (result[edge] == colours(1)[0]).all() and (result[~edge] == 100).all()


def test_points_and_boxes() -> None:
    result = overlay(IMAGE, [], [(20, 30), (60, 10)], [1, 0], [(30, 40, 70, 55)]).astype(int)
    assert result[30, 20].argmax() == 1 and result[10, 60].argmax() == 0
    assert (result[30, 16] > 200).all() and (result[10, 64] > 200).all()
    assert (result[30, 28] == 100).all()
    frame = np.zeros((60, 80), bool)
    frame[40:55, 30:70] = True
    frame[41:54, 31:69] = False
    assert (result[frame] == result[40, 30]).all() and result[40, 30].tolist() != [100] * 3
    assert (result[41:54, 31:69] == 100).all()
    # No labels: all inside. Nothing that lies off the image fails.
    assert overlay(IMAGE, [], [(20, 30)])[30, 20].argmax() == 1
    off = overlay(IMAGE, [], [(-50, 5), (5, 900)], [1, 0], [(-90, -90, -50, -50)])
    assert np.array_equal(off, IMAGE)
    assert not np.array_equal(overlay(IMAGE, [], [(79, 59)])[59, 79], IMAGE[59, 79])


@pytest.mark.parametrize("pixels", [1, 80, 700, 1600, 4000])
def test_pieces_fit_together(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large picture is drawn a few rows at a time, here in pieces of 1 to 50 rows."""
    marks = [(20, 30), (60.3, 10.8), (79, 59)], [1, 0, 1], [(30.2, 4, 70, 55.6), (1, 1, 3, 2)]
    whole = overlay(IMAGE, [SMALL, BIG, np.zeros_like(BIG)], *marks)
    monkeypatch.setattr(drawing, "_BLOCK", pixels)
    masks: list[Mask] = [to_rle(SMALL), BIG, to_rle(np.zeros_like(BIG))]
    assert np.array_equal(overlay(IMAGE, masks, *marks), whole)


def test_bad_arguments() -> None:
    with pytest.raises(UserError, match="opacity"):
        overlay(IMAGE, [BIG], alpha=1.5)
    with pytest.raises(UserError, match="cannot be drawn"):
        overlay(IMAGE, [BIG.T])
