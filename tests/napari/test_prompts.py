"""Prompts in a layer's metadata: there and back, and what is none of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samlet_napari.inference.objects import ObjectInPlane
from samlet_napari.inference.prompts import Step, all_points, last_box, prompt_box
from samlet_napari.layers.plane import Plane

numbers = st.floats(-1e9, 1e9, allow_subnormal=False)
lengths = st.integers(0, 10**6)
boxes = st.tuples(numbers, numbers, numbers, numbers)
steps = st.builds(
    Step,
    st.lists(st.tuples(numbers, numbers, st.booleans()), max_size=3).map(tuple),
    st.none() | boxes,
    st.none() | st.integers(0, 2),
).filter(lambda step: bool(step.points) or step.box is not None)
planes = st.integers(2, 5).flatmap(
    lambda axes: st.builds(
        Plane,
        st.permutations(range(axes)).map(lambda order: (order[0], order[1])),
        st.tuples(*[lengths] * axes),
    )
)
extents = st.tuples(lengths, lengths, lengths, lengths).map(
    lambda e: (min(e[0], e[2]), min(e[1], e[3]), max(e[0], e[2]) + 1, max(e[1], e[3]) + 1)
)
placed = st.builds(
    ObjectInPlane, planes, st.lists(steps, max_size=4).map(tuple), st.none() | extents
)

GOOD = ObjectInPlane(
    Plane((1, 2), (3, 0, 0)),
    (Step(((4.5, 6.0, True),), None, 2), Step(box=(1.0, 2.0, 30.0, 40.0))),
    (1, 2, 30, 40),
).to_json()


def changed(**values: Any) -> dict[str, Any]:
    return {**GOOD, **values}


def stepped(**values: Any) -> dict[str, Any]:
    return changed(steps=[{**GOOD["steps"][0], **values}])


@given(placed)
def test_what_was_written_is_read(value: ObjectInPlane) -> None:
    assert ObjectInPlane.from_json(json.loads(json.dumps(value.to_json()))) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_subnormal=False) | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["axes", "index", "steps", "extent", "x"]), inner)
        ),
    )
)
def test_anything_else_is_no_prompt_but_no_error_either(value: Any) -> None:
    read = ObjectInPlane.from_json(value)
    assert read is None or ObjectInPlane.from_json(read.to_json()) == read


@given(st.sampled_from(sorted(GOOD)))
def test_nothing_may_be_missing(key: str) -> None:
    assert ObjectInPlane.from_json({k: v for k, v in GOOD.items() if k != key}) is None


@pytest.mark.parametrize(
    "value",
    [
        changed(axes=[1]),
        changed(axes=[1, 1]),
        changed(axes=[0, 3]),
        changed(axes=[-1, 2]),
        changed(axes=["rows", "columns"]),
        changed(axes=None),
        changed(index=[]),
        changed(index=[-3, 0, 0]),
        changed(index=[float("inf"), 0, 0]),
        changed(index=7),
        changed(steps=5),
        changed(steps=[None]),
        changed(steps={"a": 1}),
        changed(extent=[1, 2, 3]),
        changed(extent=[-5, 0, 3, 4]),
        changed(extent=[9, 0, 3, 4]),
        changed(extent=[0, 0, float("inf"), 4]),
        changed(extent="whole"),
        stepped(points=[[1.0, 2.0]]),
        stepped(points=[[float("nan"), 2.0, 1]]),
        stepped(points=[[10**400, 2.0, 1]]),
        stepped(points=7),
        stepped(points=[]),
        stepped(box=[1.0, 2.0, 3.0]),
        stepped(box=[1.0, 2.0, float("inf"), 3.0]),
        stepped(choice="best"),
        stepped(choice=float("inf")),
    ],
)
def test_absurd_values_are_none(value: Any) -> None:
    assert ObjectInPlane.from_json(GOOD) is not None
    assert ObjectInPlane.from_json(value) is None


@pytest.mark.parametrize(("choice", "read"), [(-1, 0), (0, 0), (2, 2), (7, 2), (None, None)])
def test_a_choice_is_one_of_three(choice: int | None, read: int | None) -> None:
    found = ObjectInPlane.from_json(stepped(choice=choice))
    assert found is not None and found.steps[0].choice == read


def test_steps_as_a_whole() -> None:
    a, b, c = (1.0, 2.0, True), (9.0, 3.0, False), (4.0, 8.0, True)
    taken = (
        Step((a, b)),
        Step(box=(0.0, 5.0, 6.0, 7.0)),
        Step((c,)),
        Step(box=(2.0, 2.0, 3.0, 3.0)),
    )
    assert all_points(taken) == [a, b, c]
    assert last_box(taken) == (2.0, 2.0, 3.0, 3.0) and last_box(taken[:1]) is None
    assert prompt_box(taken) == (0.0, 2.0, 9.0, 8.0)
