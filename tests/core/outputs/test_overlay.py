"""What the overlay must show, pixel by pixel."""

import numpy as np
import pytest

from samlet.errors import UserError
from samlet.masks import Mask, to_rle
from samlet.outputs import overlay
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


def test_masks_may_be_run_lengths_or_empty() -> None:
    marks = [(20, 30), (60.3, 10.8), (79, 59)], [1, 0, 1], [(30.2, 4, 70, 55.6), (1, 1, 3, 2)]
    arrays = overlay(IMAGE, [SMALL, BIG, np.zeros_like(BIG)], *marks)
    masks: list[Mask] = [to_rle(SMALL), BIG, to_rle(np.zeros_like(BIG))]
    assert np.array_equal(overlay(IMAGE, masks, *marks), arrays)


@pytest.mark.parametrize("alpha", [0, 0.3, 0.5, 1])
def test_blending_is_exact_to_a_grey_level(alpha: float) -> None:
    values = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    inside = np.zeros((60, 80), bool)
    inside[6:54, 6:49] = True
    result = overlay(values, [BIG], alpha=alpha)[inside]
    expected = values[inside] + alpha * (colours(1)[0] - values[inside].astype(float))
    assert np.abs(result - expected).max() <= 1


def test_clicks_are_antialiased() -> None:
    row = overlay(np.zeros((60, 80, 3), np.uint8), [], [(20, 30)])[30, :41, 0]
    assert ((row > 0) & (row < 255) & (row != 40)).any() and np.array_equal(row, row[::-1])


def test_bad_arguments() -> None:
    with pytest.raises(UserError, match="opacity"):
        overlay(IMAGE, [BIG], alpha=1.5)
    with pytest.raises(UserError, match="cannot be drawn"):
        overlay(IMAGE, [BIG.T])
