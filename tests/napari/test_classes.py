"""The widget "Classes" in a real window: keys, features, files, colours and the classifier."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

import napari
from samlet.datasets.label_map_classes import read_classes
from samlet.datasets.labelled_images import ObjectClass
from samlet.masks import deepest_point
from samlet_napari.classes.widget import GIVEN, NAME, PREDICTED, ClassesWidget
from samlet_napari.labels.labels_file import read_labels
from samlet_napari.ui.commands import controller_of
from tests.napari.desk import Desk, wait
from tests.napari.folder_desk import FolderDesk

PART = np.s_[150:406, 200:456]
"""Of the image and its labels: a model for 256 pixels sees it as a whole."""
KEYS = {0: Qt.Key.Key_0, 1: Qt.Key.Key_1, 2: Qt.Key.Key_2, 3: Qt.Key.Key_3}


class ClassesDesk:
    """The widget "Classes" beside the widget "Segment", and an image with labels."""

    def __init__(self, desk: Desk, picture: np.ndarray, labels: np.ndarray | None) -> None:
        self.desk = desk
        _, widget = desk.viewer.window.add_plugin_dock_widget("samlet", "Classes")
        assert isinstance(widget, ClassesWidget)
        self.widget = widget
        desk.open(desk.viewer.add_image(picture))
        if labels is not None:
            layer = desk.viewer.add_labels(labels)
            desk.widget.form.labels.value = layer
            self.activate()

    def activate(self) -> None:
        overlays = self.desk.workspace.overlays
        assert overlays is not None
        overlays.activate()

    @property
    def status(self) -> str:
        return self.widget.status.text()

    @property
    def layer(self) -> Any:
        assert self.desk.workspace.labels is not None
        return self.desk.workspace.labels

    def add(self, name: str) -> None:
        QTest.keyClicks(self.widget.name, name)
        QTest.keyClick(self.widget.name, Qt.Key.Key_Return)
        QApplication.processEvents()

    def press(self, text: str) -> None:
        QTest.mouseClick(self.widget.buttons[text], Qt.MouseButton.LeftButton)
        QApplication.processEvents()

    def give(self, number: int, mask: np.ndarray) -> None:
        """Point at an object, and press a digit."""
        x, y = deepest_point(mask)
        self.desk.hover(y, x)
        self.desk.key(KEYS[number])

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, given and predicted of each class in the list."""
        items = [
            self.widget.list.topLevelItem(i) for i in range(len(self.widget.controller.classes))
        ]
        return [(i.text(NAME), i.text(GIVEN), i.text(PREDICTED)) for i in items if i is not None]

    def classes(self) -> dict[int, str]:
        """The column "class" by label."""
        table = self.layer.features
        return dict(zip(table["index"], table["class"], strict=True)) if "class" in table else {}

    def classify(self) -> None:
        self.press("Classify the rest")
        self.desk.until(lambda: not self.desk.controller.tasks.is_running)


@pytest.fixture
def labels(truth: np.ndarray) -> np.ndarray:
    return truth[PART].copy()


@pytest.fixture
def at(
    desk: Desk, small_model: None, picture: np.ndarray, labels: np.ndarray
) -> Iterator[ClassesDesk]:
    at = ClassesDesk(desk, picture[PART], labels)
    yield at
    at.widget.close_down()


def biggest(labels: np.ndarray) -> list[int]:
    numbers, counts = np.unique(labels[labels > 0], return_counts=True)
    return numbers[np.argsort(-counts)].tolist()


def test_keys_give_classes(at: ClassesDesk, labels: np.ndarray, tmp_path: Path) -> None:
    a, b, c = biggest(labels)[:3]
    at.give(1, labels == a)
    assert at.status == "There is no class 1 yet: add one to the list."
    at.add("neuron")
    at.add("glia")
    assert at.rows() == [("neuron", "", ""), ("glia", "", "")]
    at.give(1, labels == a)
    at.give(2, labels == b)
    at.give(2, labels == c)
    assert at.status == f"Object {c}: glia."
    assert at.classes() == {a: "neuron", b: "glia", c: "glia"}
    at.give(0, labels == b)
    at.give(1, labels == c)
    assert at.classes() == {a: "neuron", c: "neuron"}
    assert at.rows() == [("neuron", "2", ""), ("glia", "", "")]
    # napari's own digits still choose the mode of the labels, when these are active.
    at.desk.viewer.layers.selection.active = at.layer
    at.desk.key(Qt.Key.Key_2)
    assert at.layer.mode == "paint" and at.classes() == {a: "neuron", c: "neuron"}

    # Measuring keeps them, and knows the other objects.
    at.desk.press("Measure")
    table = at.layer.features
    assert set(table["index"]) == set(np.unique(labels)) - {0}
    assert at.classes() == dict.fromkeys(table["index"], "") | {a: "neuron", c: "neuron"}
    assert list(table["area_px"]) == [(labels == number).sum() for number in table["index"]]

    # A file has them, in napari and on the command line.
    path = tmp_path / "a.samlet.tif"
    at.layer.save(str(path))
    assert read_classes(path) == {a: ObjectClass("neuron"), c: ObjectClass("neuron")}
    [(_, meta, _)] = read_labels(path)
    assert meta["features"]["class"] == ["neuron", "neuron"]
    assert [one["name"] for one in meta["metadata"]["samlet"]["classes"]["list"]] == [
        "neuron",
        "glia",
    ]


def test_committed_and_undone_objects(
    desk: Desk, small_model: None, picture: np.ndarray, labels: np.ndarray
) -> None:
    at = ClassesDesk(desk, picture[PART], None)
    at.add("neuron")
    first, second = biggest(labels)[:2]
    for number in (first, second):
        x, y = deepest_point(labels == number)
        desk.click(y, x)
        desk.settle()
        # The open object is committed by the key.
        desk.key(Qt.Key.Key_1)
    assert at.classes() == {1: "neuron", 2: "neuron"}
    desk.key(Qt.Key.Key_Z)
    assert at.classes() == {1: "neuron"} and at.rows() == [("neuron", "1", "")]
    # The next object is another one.
    desk.click(y, x)
    desk.settle()
    desk.key(Qt.Key.Key_C)
    assert at.classes() == {1: "neuron"} and np.any(desk.labels() == 2)
    # A correction keeps the class, and so does undoing it.
    x, y = deepest_point(labels == first)
    desk.hover(y, x)
    desk.key(Qt.Key.Key_E)
    desk.settle()
    desk.key(Qt.Key.Key_C)
    desk.key(Qt.Key.Key_Z)
    assert at.classes() == {1: "neuron"}
    at.widget.close_down()
    # Without the widget, the keys are napari's again.
    desk.key(Qt.Key.Key_1)
    assert at.classes() == {1: "neuron"}


def test_the_rest_is_classified(at: ClassesDesk, labels: np.ndarray) -> None:
    """By size: the first guess is corrected, and what was given is never changed."""
    order = biggest(labels)
    kind = {n: "large" if i < len(order) / 2 else "small" for i, n in enumerate(order)}
    at.add("large")
    at.classify()
    assert at.status.startswith("No object has a class")
    at.give(1, labels == order[0])
    at.classify()
    assert at.status.startswith("All objects that have a class are of large")
    at.add("small")
    at.give(2, labels == order[-1])
    at.classify()
    assert at.status.startswith(f"Gave {len(order) - 2} objects a class: ")
    predicted = at.classes()
    assert set(predicted) == set(order) and set(predicted.values()) == {"large", "small"}
    table = at.layer.features.set_index("index")["class probability"]
    assert np.isnan(table[order[0]]) and np.isnan(table[order[-1]])
    assert ((table.drop([order[0], order[-1]]) >= 0.5) & (table <= 1)).any()
    wrong = [n for n in order if predicted[n] != kind[n]][:3]
    for number in wrong:
        at.give(1 if kind[number] == "large" else 2, labels == number)
    at.classify()
    after = at.classes()
    assert all(after[n] == kind[n] for n in (*wrong, order[0], order[-1]))
    assert sum(after[n] != kind[n] for n in order) <= sum(predicted[n] != kind[n] for n in order)
    (_, given, _), (_, small_given, _) = at.rows()
    assert int(given) + int(small_given) == 2 + len(wrong)

    # Objects in the colours of their classes, by choice.
    plain = at.layer.get_color(order[0])
    at.widget.coloured.setChecked(True)
    colours = {one.name: one.colour for one in at.widget.controller.classes}
    for number in order:
        shown = np.rint(255 * np.asarray(at.layer.get_color(number))[:3]).astype(int)
        assert "#" + bytes(shown.tolist()).hex() == colours[after[number]]
    at.give(0, labels == order[3])
    assert np.allclose(at.layer.get_color(order[3])[:3], 0.6)
    at.widget.coloured.setChecked(False)
    assert np.allclose(at.layer.get_color(order[0]), plain)


def test_examples_of_one_image_classify_the_next(
    at: ClassesDesk, picture: np.ndarray, truth: np.ndarray, labels: np.ndarray
) -> None:
    order = biggest(labels)
    for number, name in ((1, "large"), (2, "small")):
        at.add(name)
        at.give(number, labels == order[-(number - 1)])
    at.classify()
    at.desk.open(at.desk.viewer.add_image(picture[:256, :256], name="next"))
    layer = at.desk.viewer.add_labels(truth[:256, :256].copy(), name="next labels")
    at.desk.widget.form.labels.value = layer
    assert at.rows() == [("large", "", ""), ("small", "", "")]
    at.classify()
    assert set(at.classes()) == set(np.unique(layer.data)) - {0}
    assert all(one.probability is not None for one in read_known(layer).values())


def read_known(layer: Any) -> dict[int, ObjectClass]:
    from samlet_napari.labels.object_classes import ObjectClasses

    return ObjectClasses(layer).known()


def test_it_opens_the_widget_segment(viewer: napari.Viewer, small_model: None) -> None:
    _, widget = viewer.window.add_plugin_dock_widget("samlet", "Classes")
    end = monotonic() + 60
    while controller_of(viewer) is None and monotonic() < end:
        wait(20)
    assert controller_of(viewer) is not None
    widget.controller.classify_rest()
    assert widget.status.text() == "There is no image yet: open one, and choose it here."


def test_the_list_is_edited(at: ClassesDesk, labels: np.ndarray) -> None:
    a, b = biggest(labels)[:2]
    at.add("neuron")
    at.add("  ")
    assert at.status == "The name of a class is empty: give it one."
    at.widget.name.clear()
    at.add("neuron")
    assert at.status == "There is a class neuron already: give another name."
    at.widget.name.clear()
    at.add("glia")
    at.give(1, labels == a)
    at.give(2, labels == b)
    item = at.widget.list.topLevelItem(0)
    assert item is not None
    item.setText(NAME, "glia")
    wait(20)
    assert at.status.startswith("There is a class glia already")
    assert [name for name, _, _ in at.rows()] == ["neuron", "glia"]
    item = at.widget.list.topLevelItem(0)
    assert item is not None
    item.setText(NAME, "purkinje")
    wait(20)
    assert at.classes() == {a: "purkinje", b: "glia"}
    at.press("Remove")
    assert at.status == "Choose a class of the list first."
    last = at.widget.list.topLevelItem(1)
    assert last is not None
    last.setSelected(True)
    at.press("Remove")
    assert at.classes() == {a: "purkinje"} and at.rows() == [("purkinje", "1", "")]
    # Labels that were saved before still have the old name: both exist then.
    older = at.desk.viewer.add_labels(
        labels.copy(),
        metadata={"samlet": {"classes": {"given": {str(b): "neuron"}, "list": [{"name": 3}]}}},
    )
    at.desk.widget.form.labels.value = older
    assert at.rows() == [("purkinje", "", ""), ("neuron", "1", "")]
    colours = [one.colour for one in at.widget.controller.classes]
    assert len(set(colours)) == 2


def test_in_a_folder_classes_are_saved_by_themselves(
    desk: Desk, small_model: None, picture: np.ndarray, truth: np.ndarray, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        PillowImage.fromarray(picture[PART]).save(tmp_path / name)
    folder = FolderDesk(desk, tmp_path)
    _, widget = desk.viewer.window.add_plugin_dock_widget("samlet", "Classes")
    widget.controller.add("neuron")
    cell = truth[PART] == biggest(truth[PART])[0]
    folder.commit(cell)
    path = tmp_path / "a.png.samlet.tif"
    desk.until(path.exists)
    assert read_classes(path) == {}
    desk.key(Qt.Key.Key_1)
    desk.until(lambda: read_classes(path) == {1: ObjectClass("neuron")})
    # The list stays, and what was saved is there again.
    folder.key(Qt.Key.Key_N)
    assert folder.shown == "b.png" and widget.list.topLevelItemCount() == 1
    folder.key(Qt.Key.Key_N, shift=True)
    current = folder.controller.current
    assert current is not None
    assert list(current.labels.features["class"]) == ["neuron"]
    folder.widget.close_down()
    widget.close_down()
