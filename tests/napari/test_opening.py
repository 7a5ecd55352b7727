"""How the widgets are opened, and lie beside each other."""

import numpy as np
import pytest
from qtpy.QtWidgets import QDockWidget, QLabel, QWidget

from samlet_napari import opening
from samlet_napari.finetune.widget import FinetuneWidget
from samlet_napari.viewer.overlays import PREVIEW
from tests.napari.desk import Desk


def is_on_top(widget: QWidget) -> bool:
    """Whether it can be seen, and is not behind another tab."""
    return not widget.visibleRegion().isEmpty()


def label_widths(widget: QWidget, texts: set[str]) -> set[int]:
    labels = [label for label in widget.findChildren(QLabel) if label.text() in texts]
    assert {label.text() for label in labels} == texts
    return {label.width() for label in labels}


def test_finetune_is_a_tab_beside_segment(desk: Desk, picture: np.ndarray) -> None:
    desk.open(desk.viewer.add_image(picture))
    desk.viewer.add_labels(np.zeros(picture.shape, np.uint8), name="mine")
    window = desk.viewer.window._qt_window
    segment = desk.widget.parent()
    assert isinstance(segment, QDockWidget)
    dock, widget = desk.viewer.window.add_plugin_dock_widget("samlet", "Finetune")
    assert isinstance(widget, FinetuneWidget)
    desk.until(lambda: window.tabifiedDockWidgets(dock) == [segment])
    desk.until(lambda: is_on_top(widget.native) and not is_on_top(desk.widget))
    # What samlet draws over the image is nothing to train on, and there is no loss yet.
    assert PREVIEW in desk.viewer.layers
    assert [str(layer) for layer in widget.labels_layer.choices] == ["mine"]
    assert not widget.curve.canvas.isVisible()
    assert len(label_widths(widget.native, {"image", "labels", "model", "save as"})) == 1
    segment.raise_()
    desk.until(lambda: is_on_top(desk.widget))
    assert len(label_widths(desk.widget, {"image", "channels", "contrast", "model"})) == 1


def test_what_cannot_be_imported_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening.Segment, "slow", ("samlet.no_such_module",))
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        opening.Segment(desk.viewer)
