"""A large image and a deep stack in a real napari window: times, memory, and how long it blocks.

    python -m benchmarks.napari_window

The large image is a mosaic of a bundled one. Without a display, Xvfb is started.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Annotated

import numpy as np
import psutil
import typer
import zarr
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from tests.napari.desk import Desk, blocked
from tests.napari.screen import screen

from samlet import images, samples
from samlet.masks import deepest_point
from samlet.outputs import read_label_map
from samlet_napari import sample_data

NUCLEUS = 27
POINTER_MOVES = 100


def main(
    side: Annotated[int, typer.Option(help="Side of the large image in pixels.")] = 12_000,
    slices: Annotated[int, typer.Option(help="Slices of the stack.")] = 60,
) -> None:
    """Measure, and print a line for each figure."""
    with tempfile.TemporaryDirectory() as temporary, screen():
        import napari

        # As on a machine on which the model was never used.
        os.environ["SAMLET_CACHE"] = str(Path(temporary) / "cache")
        viewer = napari.Viewer(show=True)
        viewer.window._qt_window.resize(1250, 780)
        desk = Desk(viewer)
        print_memory("the window and the widget, before any image")
        small(desk)
        viewer.layers.clear()
        QTest.qWait(100)
        large(desk, Path(temporary) / "large.zarr", side)
        viewer.layers.clear()
        QTest.qWait(100)
        deep(desk, slices)
        viewer.close()
    for what, longest in blocked.items():
        print(f"longest time that the window was blocked by {what}: {longest}")


def small(desk: Desk) -> None:
    """Hover over an ordinary image, and segment everything in it."""
    image, _ = sample()
    layer = desk.viewer.add_image(image, name="cells")
    QTest.qWait(100)
    with timed("a model's first use"), desk.watched("a model's first use"):
        desk.open(layer)
    responded: list[float] = []
    desk.on_responses(lambda response: responded.append(monotonic()))
    with desk.watched("hovering"):
        for row in np.linspace(20, image.shape[0] - 20, POINTER_MOVES):
            QTest.mouseMove(desk.canvas, desk.at(row, image.shape[1] / 2))
            QTest.qWait(20)
    print(f"live preview: {(len(responded) - 1) / (responded[-1] - responded[0]):.0f} updates/s")
    with timed("everything in 520 x 696 pixels"), desk.watched("everything"):
        desk.press("Everything")
        desk.until(lambda: not desk.controller.tasks.is_running)


def large(desk: Desk, path: Path, side: int) -> None:
    """Click in an image that is much larger than the input of the model."""
    image, labels = sample()
    height, width = image.shape
    store = zarr.create_array(path, shape=(side, side), chunks=(512, 512), dtype="uint8")
    for top in range(0, side, height):
        rows = image[: side - top]
        store[top : top + height] = np.tile(rows, (1, side // width + 1))[:, :side]
    with timed(f"napari shows the zarr of {side} x {side}"):
        layer = desk.viewer.add_image(store, contrast_limits=(0, 255), name="large")
        QTest.qWait(1)
    desk.open(layer)
    x, y = deepest_point(labels == NUCLEUS)
    for number, tile in enumerate(((4, 3), (12, 9), (20, 14))):
        row, column = tile[0] * height + y, tile[1] * width + x
        desk.viewer.scene.camera.center = (row, column)
        desk.viewer.scene.camera.zoom = 1.0
        QTest.qWait(20)
        with timed(f"first click in tile {number + 1}"), desk.watched("a click in a new tile"):
            desk.click(row, column)
            desk.until(lambda: desk.workspace.session.draft.is_complete)  # type: ignore[union-attr]
        desk.settle()
        with timed("commit"), desk.watched("a commit"):
            desk.key(Qt.Key.Key_C)
            QTest.qWait(1)
    print_memory("with the large image, its labels and three tiles")


def deep(desk: Desk, slices: int) -> None:
    """Propagate an object through a stack."""
    data = sample_data.stack()[0][0]
    truth = sample_data.stack_labels()
    where = np.flatnonzero((truth == NUCLEUS).any((1, 2)))
    middle = int(where[len(where) // 2])
    # Repeat the middle slice of the object, so that it is in all slices.
    stack = np.repeat(data[middle][None], slices, axis=0)
    desk.open(desk.viewer.add_image(stack, name="stack"))
    x, y = deepest_point(truth[middle] == NUCLEUS)
    desk.viewer.dims.set_current_step(0, 0)
    desk.settle()
    desk.click(0, y, x)
    desk.settle()
    with timed(f"an object through {slices} slices"), desk.watched("propagation"):
        desk.press("Propagate on")
        desk.until(lambda: not desk.controller.tasks.is_running, 300)
    found = (desk.labels() == 1).any((1, 2)).sum()
    print_memory(f"with the stack, of which {found} slices have the object")


def sample() -> tuple[np.ndarray, np.ndarray]:
    """A bundled image, grey, and its labels."""
    image = images.read(samples.IMAGES / "fluorescence_1.png")[..., 0]
    return image, read_label_map(samples.LABELS / "fluorescence_1.png")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took."""
    start = monotonic()
    yield
    print(f"{what}: {monotonic() - start:.2f} s")


def print_memory(when: str) -> None:
    """Print the memory use of this process."""
    memory = psutil.Process().memory_info().rss
    print(f"memory {when}: {memory / 1e6:.0f} MB")


if __name__ == "__main__":
    typer.run(main)
