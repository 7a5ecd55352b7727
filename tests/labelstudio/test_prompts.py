"""Prompts from the regions that Label Studio sends."""

from typing import Any

import cv2
import numpy as np
import pytest
from skimage import draw

from samlet.datasets.label_studio import brush_rle
from samlet.datasets.label_studio.bitmask import bitmask_value
from samlet.errors import UserError
from samlet.masks import crop_mask, deepest_point
from samlet_labelstudio.label_studio.labeling_config import Control, LabelingConfig
from samlet_labelstudio.regions import to_results
from samlet_labelstudio.regions.prompts import image_of, labels_by_region, read_box, read_prompt

SIZE = (100, 200)
TAGS = ("KeyPointLabels", "BrushLabels", "RectangleLabels", "EllipseLabels", "BitmaskLabels")
CONFIG = LabelingConfig(
    tuple(Control(tag[:-6].lower(), tag, "img", ("a", "b"), True) for tag in TAGS),
    {"img": "image", "other": "image2"},
)


def region(kind: str, label: str | None = "a", **value: Any) -> dict[str, Any]:
    result: dict[str, Any] = {
        "id": "abc",
        "type": f"{kind}labels",
        "value": {**value, f"{kind}labels": [label]},
        "from_name": kind,
        "to_name": "img",
        "original_width": SIZE[1],
        "original_height": SIZE[0],
        "image_rotation": 0,
    }
    if label is None:
        del result["value"][f"{kind}labels"]
    return result


def click(x: Any, y: Any, label: str | None = "a", **more: Any) -> dict[str, Any]:
    return {**region("keypoint", label, x=x, y=y, width=0.5), **more}


def brush(mask: np.ndarray, **more: Any) -> dict[str, Any]:
    return {**region("brush", format="rle", rle=brush_rle.encode(mask)), **more}


def box(x: Any, y: Any, width: Any, height: Any, **more: Any) -> dict[str, Any]:
    return region("rectangle", x=x, y=y, width=width, height=height, **more)


def oval(x: Any, y: Any, radius_x: Any, radius_y: Any, **more: Any) -> dict[str, Any]:
    return region("ellipse", x=x, y=y, radiusX=radius_x, radiusY=radius_y, **more)


def test_a_turned_page_changes_nothing() -> None:
    # Label Studio 1.23 sends positions in the unturned image, whatever "image_rotation" says.
    straight, turned = (
        read_prompt([click(10, 20, image_rotation=angle)], CONFIG, SIZE) for angle in (0, 90)
    )
    assert np.array_equal(straight.points, turned.points)


def test_earlier_answers_are_no_prompts() -> None:
    (answer,) = to_results(crop_mask(np.ones(SIZE, bool)), CONFIG.controls[2], "a", 0.9)
    prompt = read_prompt([click(10, 20), answer], CONFIG, SIZE)
    assert prompt.box is None and len(prompt.points) == 1
    with pytest.raises(UserError, match="no keypoint"):
        read_prompt([answer], CONFIG, SIZE)


def test_a_point_from_before_is_no_prompt() -> None:
    """As Label Studio 1.23 sends it: drawn with Auto-Annotation off, and of the same label."""
    size = {"original_width": 347, "original_height": 260, "image_rotation": 0}
    names = {"from_name": "keypoint", "to_name": "img", "type": "keypointlabels"}
    before = {
        **size,
        "value": {"x": 82.27, "y": 19.01, "width": 0.26, "keypointlabels": ["a"]},
        **{"id": "uzmc-CROr1", **names, "origin": "manual"},
    }
    smart = {
        **size,
        "value": {"x": 79.4, "y": 36.34, "width": 0.26, "labels": ["a"], "keypointlabels": ["a"]},
        **{"is_positive": True, "id": "zndPMp1S5G", **names, "origin": "manual"},
    }
    again = {**smart, "is_positive": False, "id": "x"}
    one = read_prompt([smart, again], CONFIG, (260, 347))
    for drawn in ([before, smart, again], [smart, before, again]):
        prompt = read_prompt(drawn, CONFIG, (260, 347))
        assert np.array_equal(prompt.points, one.points)
        assert prompt.point_labels.tolist() == [1, 0]
    # Through the API, all points may come without it.
    assert len(read_prompt([before, before], CONFIG, (260, 347)).points) == 2


def test_clicks_accumulate() -> None:
    prompt = read_prompt(
        [
            click(10, 20, is_positive=True),
            click(50.25, 50.5, "b", is_positive=False),
            click(25, 25, None, is_positive=0),
            click(75, 75, None, is_positive=True),
            click(75, 80, None, is_positive=1),
        ],
        CONFIG,
        SIZE,
    )
    assert (prompt.control, prompt.image, prompt.label) == ("keypoint", "img", "b")
    # 10 % of 200 is the edge at 20, between the centres of the pixels 19 and 20.
    expected = np.array([[19.5, 19.5], [100, 50], [49.5, 24.5], [149.5, 74.5], [149.5, 79.5]])
    assert np.allclose(prompt.points, expected)
    assert prompt.point_labels.tolist() == [1, 0, 0, 1, 1] and prompt.box is None


@pytest.mark.parametrize(
    ("percent", "pixel"),
    [((100, 100), (199, 99)), ((0, 0), (0, 0)), ((-0.9, 100.9), (0, 99)), ((99.75, 0.5), (199, 0))],
)
def test_clicks_stay_in_the_image(percent: tuple[float, float], pixel: tuple[float, float]) -> None:
    assert read_prompt([click(*percent)], CONFIG, SIZE).points.tolist() == [list(pixel)]


def test_boxes_and_points_mix_and_the_last_box_counts() -> None:
    smart = click(20, 30, is_positive=True)
    results = [box(0, 0, 5, 5), smart, box(10, 20, 30, 40), click(0, 0, is_positive=False)]
    prompt = read_prompt(results, CONFIG, SIZE)
    assert prompt.box == pytest.approx((20, 20, 80, 60))
    assert prompt.point_labels.tolist() == [1, 0]


def test_no_points_with_a_box_alone() -> None:
    prompt = read_prompt([box(10, 20, 30, 40)], CONFIG, SIZE)
    assert prompt.points.shape == (0, 2) and prompt.point_labels.shape == (0,)


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (box(40, 60, -30, -40), (20, 20, 80, 60)),
        (box(-10, -10, 30, 40), (0, 0, 40, 30)),
        (box(90, 90, 50, 50), (180, 90, 200, 100)),
        # Turned by a right angle about (100, 50), what went right goes down, and down goes left.
        (box(50, 50, 10, 20, rotation=90), (80, 50, 100, 70)),
        (box(50, 50, 10, 20, rotation=-90), (100, 30, 120, 50)),
        (oval(50, 50, 10, 20), (80, 30, 120, 70)),
        (oval(50, 50, 10, 30, rotation=90), (70, 30, 130, 70)),
        (oval(0, 100, 10, 20), (0, 80, 20, 100)),
    ],
)
def test_boxes(drawn: dict[str, Any], expected: tuple[float, ...]) -> None:
    prompt = read_prompt([drawn], CONFIG, SIZE)
    assert prompt.box == pytest.approx(expected)
    assert read_box(drawn, SIZE) == (prompt.box, "a")


@pytest.mark.parametrize("degrees", [17, 45, 118, 200, 341])
def test_turned_boxes(degrees: float) -> None:
    found = read_prompt([box(50, 50, 15, 20, rotation=degrees)], CONFIG, SIZE).box
    turn = np.deg2rad(degrees)
    clockwise = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.array([100, 50]) + clockwise @ [15, 10]
    corners = cv2.boxPoints((middle.tolist(), (30, 20), degrees))
    assert found == pytest.approx((*corners.min(axis=0), *corners.max(axis=0)), abs=1e-3)

    found = read_prompt([oval(50, 50, 15, 12, rotation=degrees)], CONFIG, SIZE).box
    mask = np.zeros(SIZE, bool)
    mask[draw.ellipse(49.5, 99.5, 12, 30, SIZE, rotation=-turn)] = True
    ys, xs = np.nonzero(mask)
    edges = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert found == pytest.approx(edges, abs=1.01)


@pytest.mark.parametrize("positive", [True, False])
def test_a_stroke_is_some_clicks_inside_it(positive: bool) -> None:
    stroke = np.zeros(SIZE, np.uint8)
    path = np.array([[20, 20], [150, 30], [170, 80], [60, 85]])
    cv2.polylines(stroke, [path], False, 1, thickness=9)
    prompt = read_prompt([brush(stroke.astype(bool), is_positive=positive)], CONFIG, SIZE)
    assert prompt.label == "a" and prompt.box is None
    xs, ys = prompt.points.astype(int).T
    assert stroke[ys, xs].all() and len(prompt.points) == 5
    assert prompt.point_labels.tolist() == [int(positive)] * 5
    depth = cv2.distanceTransform(stroke, cv2.DIST_L2, 5)
    assert depth[ys[0], xs[0]] == depth.max() and depth[ys, xs].min() > 2
    distances = np.linalg.norm(prompt.points[:, None] - prompt.points, axis=2)
    assert distances[~np.eye(5, dtype=bool)].min() > 25


def test_a_dot_is_one_click() -> None:
    dot = np.zeros(SIZE, np.uint8)
    cv2.circle(dot, (150, 40), 6, 1, thickness=-1)
    prompt = read_prompt([brush(dot.astype(bool))], CONFIG, SIZE)
    assert prompt.points.tolist() == [list(deepest_point(dot))] == [[150, 40]]
    pixel = np.zeros(SIZE, bool)
    pixel[99, 199] = True
    assert read_prompt([brush(pixel)], CONFIG, SIZE).points.tolist() == [[199, 99]]


def test_other_regions_are_passed_over() -> None:
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    prompt = read_prompt([choice, click(10, 20), {"type": "polygonlabels"}], CONFIG, SIZE)
    assert len(prompt.points) == 1
    assert image_of([choice, click(10, 20)], CONFIG) == ("img", 0)


def bare(result: dict[str, Any], label: str) -> list[dict[str, Any]]:
    """As Label Studio 1.23 sends a region whose label is in a Labels tag."""
    kind = result["type"].removesuffix("labels")
    value = {name: v for name, v in result["value"].items() if not name.endswith("labels")}
    named = {**result, "from_name": "kind", "type": "labels", "value": {**value, "labels": [label]}}
    return [{**result, "type": kind, "value": value}, named]


def test_labels_of_a_labels_tag() -> None:
    smart = click(10, 20, is_positive=True) | {"id": "one"}
    before = click(70, 80) | {"id": "two"}
    drawn_box = box(20, 20, 30, 30) | {"id": "three"}
    own = read_prompt([smart, drawn_box], CONFIG, SIZE)
    results = [*bare(smart, "b"), *bare(before, "a"), *bare(drawn_box, "b")]
    again = read_prompt(results, CONFIG, SIZE)
    assert again.label == "b" and again.box == own.box
    assert np.array_equal(again.points, own.points)
    shape, label = bare(drawn_box, "b")
    assert read_box(shape, SIZE, labels_by_region([shape, label])) == (own.box, "b")
    assert read_box(shape, SIZE) == (own.box, None)
    with pytest.raises(UserError, match='something else in its "labels" than labels'):
        read_prompt([shape, {**label, "value": {"labels": "b"}}], CONFIG, SIZE)


def test_only_the_page_of_the_last_region_counts() -> None:
    results = [click(10, 20, item_index=0), click(30, 40, item_index=2), click(50, 60)]
    assert image_of(results[:2], CONFIG) == ("img", 2)
    assert len(read_prompt(results[:2], CONFIG, SIZE).points) == 1
    assert image_of(results, CONFIG) == ("img", 0)
    assert len(read_prompt(results, CONFIG, SIZE).points) == 2


def test_strokes_of_a_bitmask_are_those_of_a_brush() -> None:
    mask = np.zeros(SIZE, np.uint8)
    cv2.line(mask, (20, 30), (160, 70), 1, thickness=9)
    stroke = region("bitmask", **bitmask_value(crop_mask(mask.astype(bool))))
    points = read_prompt([stroke], CONFIG, SIZE).points
    assert np.array_equal(points, read_prompt([brush(mask.astype(bool))], CONFIG, SIZE).points)


FULL = brush_rle.encode(np.ones(SIZE, bool))
FAULTS: list[tuple[str, Any]] = [
    ('"result" is not a list', {"type": "keypointlabels"}),
    ('"result" is not a list', None),
    ('"result" has no keypoint, .*: choose a smart tool', []),
    ('"result" has no keypoint', [{"type": "choices"}]),
    (r'result\[0\] has no text "type"', [{}]),
    (r'result\[1\] has no text "type"', [click(1, 2), 7]),
    (r'result\[0\] has no text "type"', [click(1, 2, type=["keypointlabels"])]),
    (r'result\[0\] has no object "value"', [click(1, 2, value=None)]),
    (r'result\[0\] has no object "value"', [click(1, 2, value=[1, 2])]),
    (r'result\[0\] has no text "to_name"', [click(1, 2, to_name=None)]),
    (r'"to_name" that is not in the .* config: reload', [click(1, 2, to_name="elsewhere")]),
    (r'"from_name" that is not in the .* config', [click(1, 2, from_name="elsewhere")]),
    (r'"from_name" that is not in the .* config', [click(1, 2, to_name="other")]),
    (r'result\[1\] has another "to_name"', [click(1, 2), click(1, 2, to_name="other")]),
    (r'no number "x" from -1 to 101: draw', [click(None, 2)]),
    (r'no number "x"', [region("keypoint", y=3)]),
    (r'no number "y"', [click(1, "2")]),
    (r'no number "y"', [click(1, float("nan"))]),
    (r'no number "x"', [click(float("inf"), 2)]),
    (r'no number "x"', [click(True, 2)]),
    (r'no number "x"', [click(10**400, 2)]),
    (r'no number "x"', [click(101.5, 2)]),
    (r'no number "y"', [click(1, -1.5)]),
    (r'"is_positive" that is not true or false', [click(1, 2, is_positive="yes")]),
    (r'"is_positive"', [click(1, 2, is_positive=2)]),
    (r'"keypointlabels" than labels: choose', [click(1, 2, value={"keypointlabels": "a"})]),
    (r'"keypointlabels" than labels', [click(1, 2, value={"keypointlabels": [3]})]),
    (r'no number "width"', [box(1, 2, None, 3)]),
    (r'no number "height"', [box(1, 2, 3, float("nan"))]),
    (r'no number "rotation"', [box(1, 2, 3, 4, rotation="right")]),
    (r'no number "width"', [box(1, 2, 1e308, 4)]),
    (r'"width" of 0 and hence no area', [box(1, 2, 0, 4, rotation=45)]),
    (r'"height" of 0 and hence no area', [box(1, 2, 3, 0)]),
    (r'"value" without any area in the image', [box(110, 2, 3, 4)]),
    (r'"value" without any area in the image', [box(1, 2, 1e-300, 4)]),
    (r'no number "radiusX"', [region("ellipse", x=1, y=2, radiusY=3)]),
    (r'"radiusY" of 0 and hence no area', [oval(1, 2, 3, 0)]),
    (r'no list "rle"', [region("brush", format="rle")]),
    (r'no list "rle"', [region("brush", rle="AAAA")]),
    (r'"rle" that is no brush mask of 200 x 100 pixels', [region("brush", rle=[])]),
    (r'"rle" that is no brush mask', [region("brush", rle=FULL[:-4])]),
    (r'"rle" that is no brush mask', [region("brush", rle=[*FULL[:10], 256])]),
    (r'"rle" that is no brush mask', [region("brush", rle=[*FULL[:10], 1.5])]),
    (r'"rle" that is no brush mask', [brush(np.ones((100, 201), bool))]),
    (r'"rle" without a pixel', [brush(np.zeros(SIZE, bool))]),
    (r'no text "imageDataURL": draw', [region("bitmask")]),
    (r'no image in its "imageDataURL": draw', [region("bitmask", imageDataURL="data:,")]),
    (
        r"a bitmask without a pixel: draw",
        [region("bitmask", **bitmask_value(crop_mask(np.zeros(SIZE, bool))))],
    ),
    (r'"item_index" that is no number of a page', [click(1, 2, item_index="1")]),
    (r'"item_index" that is no number of a page', [click(1, 2, item_index=-1)]),
]


@pytest.mark.parametrize(("sentence", "results"), FAULTS)
def test_faults(sentence: str, results: Any) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        read_prompt(results, CONFIG, SIZE)
    assert str(caught.value).endswith(".") and str(caught.value).count(". ") == 0


def test_faults_of_boxes() -> None:
    with pytest.raises(UserError, match='The region has the "type" keypointlabels'):
        read_box(click(1, 2), SIZE)
    with pytest.raises(UserError, match='The region has no text "type"'):
        read_box(None, SIZE)
