"""Labels with prompts on disk: through napari's own saving and opening, and read by others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import napari_builtins
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from napari.components import ViewerModel
from napari.layers import Labels
from npe2 import PluginManager

import samlet_napari
from samlet.errors import UserError
from samlet_napari.labels.labels_file import get_reader, read_labels, write_labels

STACK = np.random.default_rng(0).integers(0, 300, (4, 20, 30))
OBJECTS = {"7": [{"points": [[1.5, 2.25]], "positive": [True]}], "12": [{"box": [0, 0, 9, 9]}]}
PROMPTS = {"objects": OBJECTS, "axes": [1, 2]}


@pytest.fixture
def plugins(npe2pm: Any) -> Iterator[PluginManager]:
    """Samlet and napari's own readers and writers, which know *.tif too."""
    ours = Path(samlet_napari.__file__).with_name("napari.yaml")
    theirs = Path(napari_builtins.__file__).with_name("builtins.yaml")
    with npe2pm.tmp_plugin(manifest=str(theirs)), npe2pm.tmp_plugin(manifest=str(ours)):
        yield npe2pm


def read_one(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    [(data, meta, kind)] = read_labels(path)
    assert kind == "labels"
    return data, meta


def reopened(layer: Labels, path: Path) -> Labels:
    assert layer.save(str(path)) == [str(path)]
    [back] = ViewerModel().open(path, plugin="samlet")
    assert isinstance(back, Labels)
    return back


PLACEMENTS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((20, 30), {}),
    "stack": ((4, 20, 30), {"scale": (2, 0.5, 0.5), "translate": (-3, 10.25, 1e-7)}),
    "units": ((4, 20, 30), {"units": ("um", "nm", "nm"), "axis_labels": ("z", "y", "x")}),
    "turned": ((20, 30), {"rotate": 30, "shear": [0.25], "scale": (3, 1)}),
    "turned stack": ((4, 20, 30), {"rotate": (10, 20, 30), "shear": (0.1, 0, 0.2)}),
    "affine": ((20, 30), {"affine": np.array([[0, 2, 5], [-1, 0.5, 7], [0, 0, 1]])}),
    "time": ((2, 3, 8, 9), {"scale": (1, 2, 0.5, 0.5)}),
}


@pytest.mark.parametrize("case", PLACEMENTS)
def test_napari_saves_and_opens(case: str, tmp_path: Path, plugins: PluginManager) -> None:
    shape, placement = PLACEMENTS[case]
    data = np.random.default_rng(1).integers(0, 300, shape)
    layer = ViewerModel().add_labels(
        data, name="cells, 2 µm", metadata={"samlet": PROMPTS}, **placement
    )
    back = reopened(layer, tmp_path / "a.samlet.tif")
    assert np.array_equal(back.data, data)
    assert back.name == "cells, 2 µm"
    assert back.metadata["samlet"] == PROMPTS
    for name in ("scale", "translate", "rotate", "shear"):
        assert np.array_equal(getattr(back, name), getattr(layer, name)), name
    assert np.array_equal(back.affine.affine_matrix, layer.affine.affine_matrix)
    assert (back.units, back.axis_labels) == (layer.units, layer.axis_labels)


def test_of_a_pyramid_the_first_level_is_saved(tmp_path: Path, plugins: PluginManager) -> None:
    levels = [STACK, STACK[:, ::2, ::2]]
    layer = ViewerModel().add_labels(levels, multiscale=True, scale=(2, 1, 1))
    back = reopened(layer, tmp_path / "a.samlet.tif")
    assert not back.multiscale and np.array_equal(back.data, STACK)
    assert back.scale.tolist() == [2, 1, 1]


def test_labels_without_prompts_stay_so(tmp_path: Path, plugins: PluginManager) -> None:
    layer = ViewerModel().add_labels(STACK, metadata={"mine": object()})
    assert reopened(layer, tmp_path / "a.samlet.tif").metadata == {}


SHAPES = arrays.array_shapes(min_dims=2, max_dims=5, max_side=6)


@settings(max_examples=40)
@given(
    data=arrays.arrays(bool, SHAPES)
    | arrays.arrays(np.int32, SHAPES, elements=st.integers(0, 2**17))
    | arrays.arrays(np.uint64, SHAPES, elements=st.integers(0, 2**32 - 1))
)
def test_any_labels_come_back(data: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "a.samlet.tif"
    write_labels(path, data, {"metadata": {"samlet": PROMPTS}})
    back, meta = read_one(path)
    assert back.shape == data.shape and np.array_equal(back, data)
    assert back.dtype == (np.uint16 if data.max() < 2**16 else np.uint32)
    assert meta["metadata"]["samlet"] == PROMPTS


@pytest.mark.parametrize(("highest", "dtype"), [(65535, np.uint16), (65536, np.uint32)])
def test_other_programs_see_ordinary_slices(highest: int, dtype: type, tmp_path: Path) -> None:
    stack = STACK.copy()
    stack[1, 2, 3] = highest
    write_labels(tmp_path / "a.samlet.tif", stack, {"name": "cells"})
    seen = tifffile.imread(tmp_path / "a.samlet.tif")
    assert seen.dtype == dtype and np.array_equal(seen, stack)
    if dtype is np.uint16:
        found, pages = cv2.imreadmulti(str(tmp_path / "a.samlet.tif"), flags=cv2.IMREAD_UNCHANGED)
        assert found and np.array_equal(pages, stack)


def test_description(tmp_path: Path) -> None:
    meta = {"name": "cells", "scale": [2.0, 1.0, 1.0], "metadata": {"samlet": PROMPTS}}
    write_labels(tmp_path / "a.samlet.tif", STACK, meta)
    with tifffile.TiffFile(tmp_path / "a.samlet.tif") as tiff:
        assert json.loads(tiff.pages.first.description) == {
            "samlet": {"version": 1, "name": "cells", "scale": [2.0, 1.0, 1.0], **PROMPTS}
        }


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("a.samlet.tif", "a.samlet.tif"),
        ("A.Samlet.TIF", "A.Samlet.TIF"),
        ("a", "a.samlet.tif"),
        ("a.tif", "a.samlet.tif"),
        ("a.b.TIFF", "a.b.samlet.tif"),
        ("day 1.5", "day 1.5.samlet.tif"),
    ],
)
def test_the_suffix_is_ours(given: str, written: str, tmp_path: Path) -> None:
    assert write_labels(str(tmp_path / given), STACK, {}) == [str(tmp_path / written)]
    assert [path.name for path in tmp_path.iterdir()] == [written]
    assert get_reader(str(tmp_path / written)) is not None


@pytest.mark.parametrize(
    "path", ["a.tif", "a.samlet.tiff", "a.samlet.png", "samlet.tif", ["a.samlet.tif"], []]
)
def test_other_files_are_left_to_others(path: str | list[str]) -> None:
    assert get_reader(path) is None


@pytest.mark.parametrize(
    "labels",
    [
        STACK - 1,
        STACK + 2**32,
        STACK.astype(float),
        np.zeros((0, 5), int),
        np.arange(5),
    ],
    ids=["negative", "too large", "float", "empty", "a line"],
)
def test_no_labels_are_not_written(labels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.samlet\.tif cannot hold .*\.$"):
        write_labels(tmp_path / "a.samlet.tif", labels, {})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.samlet.tif"
    write_labels(path, STACK, {})
    with pytest.raises(TypeError):
        write_labels(path, STACK + 1, {"metadata": {"samlet": {"objects": object()}}})
    assert np.array_equal(read_one(path)[0], STACK)
    assert [found.name for found in tmp_path.iterdir()] == ["a.samlet.tif"]


def entry(**values: Any) -> str:
    return json.dumps({"samlet": {"version": 1, **values}})


@pytest.mark.parametrize(
    "description",
    [
        None,
        "",
        "{",
        "[]",
        "7",
        "null",
        "ImageJ=1.54f\nimages=4\nslices=4",
        '{"samlet": 3}',
        '{"other": {}}',
        json.dumps({"samlet": {"version": 99, "objects": OBJECTS, "scale": [3, 3, 3]}}),
        "[" * 100_000,
        entry(objects=[1, 2]),
        entry(objects={"1": 7}),
        entry(objects=None, scale=[0, 1, 1]),
        entry(scale=[1, 2, 3, 4]),
        entry(scale="large"),
        entry(scale=[float("nan"), 1, 1]),
        entry(translate=[float("inf"), 0, 0]),
        entry(rotate=[[1, 1, 1]] * 3),
        entry(affine=[[0, 0, 0, 0]] * 4),
        entry(affine={"x": 1}),
        entry(axis_labels=[1, 2, 3]),
        entry(axis_labels=4),
        entry(units=["9**9**9", "m", "m"]),
        entry(units=["bananas"] * 3),
        entry(name=["cells"]),
    ],
    ids=lambda text: None if text is None else text[:40],
)
def test_without_a_sensible_description(description: str | None, tmp_path: Path) -> None:
    path = tmp_path / "day 1.samlet.tif"
    stack = STACK.astype(np.uint16)
    tifffile.imwrite(path, stack, description=description, photometric="minisblack", metadata=None)
    data, meta = read_one(path)
    assert np.array_equal(data, stack)
    layer = ViewerModel().add_labels(data, **meta)
    assert layer.name == "day 1" and "samlet" not in layer.metadata
    assert layer.scale.tolist() == [1, 1, 1] and layer.translate.tolist() == [0, 0, 0]


def test_prompts_survive_an_absurd_placement(tmp_path: Path) -> None:
    path = tmp_path / "a.samlet.tif"
    description = entry(objects=OBJECTS, scale=[0, 0], name="cells")
    tifffile.imwrite(path, STACK[0].astype(np.uint16), description=description)
    _, meta = read_one(path)
    assert meta == {"name": "cells", "metadata": {"samlet": {"objects": OBJECTS}}}


def one_sentence(error: pytest.ExceptionInfo[UserError]) -> bool:
    return "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_file_cut_short_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.samlet.tif"
    write_labels(path, STACK, {"metadata": {"samlet": PROMPTS}})
    content = path.read_bytes()
    for length in range(0, len(content) - 8, 101):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="cannot be decoded") as error:
            read_labels(path)
        assert one_sentence(error), length


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((9, 9), np.float32), "float32"),
        (np.zeros((9, 9, 3), np.uint8), "3 channels"),
        (None, "does not exist"),
    ],
    ids=["float", "colour", "missing"],
)
def test_no_labels_are_not_read(picture: np.ndarray | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.samlet.tif"
    if picture is not None:
        tifffile.imwrite(path, picture, photometric="rgb" if picture.ndim == 3 else "minisblack")
    with pytest.raises(UserError, match=message) as error:
        read_labels(path)
    assert one_sentence(error)
