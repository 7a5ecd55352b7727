"""Linking objects of slices, against stacks made by hand whose tracks are known."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from samlet.errors import UserError
from samlet.images.stacks import SliceAxis
from samlet.masks import iou
from samlet.stacks.linking import SliceLinker, Track
from samlet.stacks.overlaps import find_overlaps, match_one_to_one

SIZE = (60, 90)
Disc = tuple[float, float, float]
"""x, y and radius."""


def slices_of(*objects: Sequence[Disc | None]) -> np.ndarray:
    """Label maps, object i in slice t being the disc objects[i][t]; None where it is not."""
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    stack = np.zeros((len(objects[0]), *SIZE), np.uint16)
    for label, discs in enumerate(objects, start=1):
        for labels, disc in zip(stack, discs, strict=True):
            if disc is not None:
                labels[(xs - disc[0]) ** 2 + (ys - disc[1]) ** 2 <= disc[2] ** 2] = label
    return stack


def link(stack: Iterable[np.ndarray], axis: SliceAxis = "z") -> tuple[np.ndarray, list[Track]]:
    linker = SliceLinker(axis)
    return np.stack(list(linker.link(stack))), linker.tracks


def lines(tracks: list[Track]) -> list[tuple[int, int, int, int]]:
    return [(track.label, track.begin, track.end, track.parent) for track in tracks]


MOVING = [(10.0 + 3 * t, 20.0, 8.0) for t in range(6)]
STILL = [(60.0, 40.0, 10.0)] * 6


@pytest.mark.parametrize("axis", ["z", "time"])
def test_moving_discs_keep_their_numbers(axis: SliceAxis) -> None:
    stack = slices_of(MOVING, STILL)
    # Numbers that differ from slice to slice, as each slice is segmented by itself.
    given = [np.where(labels, labels + 7 * t, 0) for t, labels in enumerate(stack)]
    labels, tracks = link(given, axis)
    np.testing.assert_array_equal(labels, stack)
    assert labels.dtype == np.uint32
    assert lines(tracks) == [(1, 0, 5, 0), (2, 0, 5, 0)]
    assert [track.pixels for track in tracks] == [(stack == n).sum() for n in (1, 2)]


@pytest.mark.parametrize("axis", ["z", "time"])
def test_objects_that_end_and_begin(axis: SliceAxis) -> None:
    late: list[Disc | None] = [None, None, (20, 45, 6), (20, 45, 6), (20, 45, 6), (20, 45, 6)]
    short: list[Disc | None] = [(70, 10, 7), (70, 10, 7), None, None, None, None]
    stack = slices_of(STILL, late, short)
    labels, tracks = link(stack, axis)
    # By their first slices, and there from top to bottom.
    np.testing.assert_array_equal(labels, np.choose(stack, [0, 2, 3, 1]))
    assert lines(tracks) == [(1, 0, 1, 0), (2, 0, 5, 0), (3, 2, 5, 0)]


def test_objects_that_touch_stay_apart() -> None:
    """Both move towards each other until each also overlaps where the other was."""
    left = [(25.0 + t, 30.0, 9.0) for t in range(6)]
    right = [(49.0 - t, 30.0, 9.0) for t in range(6)]
    stack = slices_of(left, right)
    assert (np.diff(stack.astype(int), axis=2) == 1).any()
    labels, tracks = link(stack)
    np.testing.assert_array_equal(labels, stack)
    assert len(tracks) == 2


def daughters(count: int = 3) -> tuple[list[Disc | None], list[Disc | None], list[Disc | None]]:
    mother: list[Disc | None] = [(45, 30, 12)] * count + [None] * count
    up: list[Disc | None] = [None] * count + [(45, 23 - t, 8) for t in range(count)]
    down: list[Disc | None] = [None] * count + [(45, 38 + t, 7) for t in range(count)]
    return mother, up, down


def test_a_division_in_time_ends_the_mother() -> None:
    stack = slices_of(*daughters())
    labels, tracks = link(stack, "time")
    np.testing.assert_array_equal(labels, stack)
    assert lines(tracks) == [(1, 0, 2, 0), (2, 3, 5, 1), (3, 3, 5, 1)]


def test_a_split_along_z_keeps_the_object() -> None:
    stack = slices_of(*daughters())
    labels, tracks = link(stack, "z")
    np.testing.assert_array_equal(labels, np.choose(stack, [0, 1, 1, 2]))
    assert lines(tracks) == [(1, 0, 5, 0), (2, 3, 5, 1)]


def test_debris_is_no_division() -> None:
    whole: list[Disc | None] = [*[(45, 30, 12)] * 3, *[(45, 27, 10)] * 3]
    crumb: list[Disc | None] = [*[None] * 3, *[(45, 40, 3)] * 3]
    stack = slices_of(whole, crumb)
    labels, tracks = link(stack, "time")
    np.testing.assert_array_equal(labels, stack)
    assert lines(tracks) == [(1, 0, 5, 0), (2, 3, 5, 0)]
    assert lines(link(stack, "z")[1]) == [(1, 0, 5, 0), (2, 3, 5, 1)]


@pytest.mark.parametrize("axis", ["z", "time"])
def test_an_object_that_is_missing_in_one_slice(axis: SliceAxis) -> None:
    discs: list[Disc | None] = [(30.0 + t, 30, 9) for t in range(6)]
    whole = slices_of(discs)
    stack = whole.copy()
    stack[3] = 0
    labels, tracks = link(stack, axis)
    filled = (whole[2] > 0) & (whole[4] > 0)
    np.testing.assert_array_equal(labels[3], filled)
    np.testing.assert_array_equal(np.delete(labels, 3, axis=0), np.delete(whole, 3, axis=0))
    assert lines(tracks) == [(1, 0, 5, 0)]
    assert tracks[0].pixels == np.count_nonzero(labels)
    # Two slices are not bridged, and nothing is filled in where something else is.
    stack[4] = 0
    assert lines(link(stack, axis)[1]) == [(1, 0, 2, 0), (2, 5, 5, 0)]
    stack = np.where(np.arange(6)[:, None, None] == 3, 2 * (slices_of([(31, 21, 9)] * 6)), whole)
    taken, tracks = link(stack, axis)
    assert (taken[3] > 0).sum() == (stack[3] > 0).sum()


def test_a_merge_continues_the_object_that_fits_best() -> None:
    mother, up, down = daughters()
    stack = slices_of(mother, up, down)[::-1]
    labels, tracks = link(stack, "time")
    assert lines(tracks) == [(1, 0, 5, 0), (2, 0, 2, 0)]
    assert iou(labels[3] == 1, stack[3] == 1) == 1


@st.composite
def random_stacks(draw: Callable) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    stack = np.zeros((5, 24, 30), np.uint16)
    for labels in stack:
        for label in range(1, 9):
            y, x = rng.integers(0, 20, 2)
            labels[y : y + rng.integers(2, 9), x : x + rng.integers(2, 9)] = label
    return stack


@pytest.mark.parametrize("axis", ["z", "time"])
@given(stack=random_stacks(), seed=st.integers(0, 2**31))
@settings(max_examples=40)
def test_invariants(axis: SliceAxis, stack: np.ndarray, seed: int) -> None:
    labels, tracks = link(stack, axis)
    # Other numbers in the slices make no difference.
    rng = np.random.default_rng(seed)
    permuted = [np.append(0, 1 + rng.permutation(50))[plane] for plane in stack]
    again, tracks_again = link(permuted, axis)
    np.testing.assert_array_equal(again, labels)
    assert tracks_again == tracks
    # Each object of a slice has one label, and no two have the same one.
    for plane, linked in zip(stack, labels, strict=True):
        pairs = np.unique(np.stack([plane[plane > 0], linked[plane > 0]]), axis=1)
        assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    for track in tracks:
        there = np.flatnonzero((labels == track.label).any((1, 2)))
        assert there.tolist() == list(range(track.begin, track.end + 1))
        assert track.pixels == (labels == track.label).sum()
        assert track.parent < track.label
        if track.parent:
            parent = tracks[track.parent - 1]
            assert parent.begin < track.begin
            assert axis == "z" or parent.end == track.begin - 1
    children = [track.parent for track in tracks if track.parent]
    assert axis == "z" or all(children.count(parent) > 1 for parent in children)
    assert len(tracks) == labels.max()


@given(stack=random_stacks())
@settings(max_examples=40)
def test_matches_are_the_best_of_all(stack: np.ndarray) -> None:
    """Group by group, as on the matrix of all objects, with IoUs measured mask by mask."""
    before, after = stack[:2]
    values = [np.unique(plane[plane > 0]).tolist() for plane in (before, after)]
    ious = np.array([[iou(before == a, after == b) for b in values[1]] for a in values[0]])
    overlaps = find_overlaps(before, after)
    for pair in overlaps:
        assert pair.iou == pytest.approx(iou(before == pair.before, after == pair.after))
        inside = before[after == pair.after] == pair.before
        assert pair.share == pytest.approx(inside.mean())
    assert len(overlaps) == np.count_nonzero(ious)
    ious[ious < 0.1] = 0
    best = ious[linear_sum_assignment(ious, maximize=True)].sum()
    matched = match_one_to_one(overlaps, 0.1)
    assert len(set(matched.values())) == len(matched)
    total = sum(iou(before == a, after == b) for b, a in matched.items())
    assert total == pytest.approx(best)


def test_stacks_of_little() -> None:
    assert link([np.zeros(SIZE, int)])[1] == []
    assert list(SliceLinker().link([])) == []
    labels, tracks = link([np.ones((1, 2), bool), np.ones((1, 2), bool)])
    assert labels.tolist() == [[[1, 1]], [[1, 1]]] and lines(tracks) == [(1, 0, 1, 0)]


def test_mistakes() -> None:
    with pytest.raises(UserError, match="is z or time, not 'depth'"):
        SliceLinker("depth")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="min_iou is above 0"):
        SliceLinker(min_iou=0)
    with pytest.raises(UserError, match=r"Slice 1 is of shape \(4, 4\), and the one before of"):
        list(SliceLinker().link([np.zeros((4, 5), int), np.zeros((4, 4), int)]))
    for labels in (np.zeros(4, int), np.zeros((4, 4)), np.full((2, 2), -1)):
        with pytest.raises(UserError, match=r"Slice 0 is .*: give label maps"):
            list(SliceLinker().link([labels]))
