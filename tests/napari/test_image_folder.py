"""A folder of images without a window: states and labels on disk, bad input, everything mode."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from PIL import Image as PillowImage

from samlet import Predictor
from samlet import images as samlet_images
from samlet.datasets.pairing import pair_by_name
from samlet.errors import UserError
from samlet_napari.folder.autosave import LabelsFile, file_signature
from samlet_napari.folder.everything import SearchProgress, StoppedError, search_folder
from samlet_napari.folder.image_folder import STATES_FILE, ImageFolder, State
from samlet_napari.folder.layer_files import read_labels_for, read_layers
from samlet_napari.labels.label_store import LabelStore
from samlet_napari.labels.labels_file import read_labels, write_labels
from samlet_napari.layers.layer_reader import LayerSnapshot
from samlet_napari.layers.plane import Plane
from tests.disks import small_disk
from tests.microscope_files import TCZYX, WRITERS, write_lif
from tests.models import quick_nuclei

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 255, (30, 40), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray = PIXELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("b10.png", "b9.png", "a/x.png"):
        save(tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.fixture
def folder(root: Path) -> Iterator[ImageFolder]:
    folder = ImageFolder(root)
    yield folder
    folder.close()


def names(folder: ImageFolder) -> list[str]:
    return [folder.name(index) for index in range(len(folder))]


def label(folder: ImageFolder, index: int) -> None:
    write_labels(folder.labels_path(index), np.eye(30, 40, dtype=np.uint8), {})
    folder.look_at_labels(index)


def test_images_are_in_natural_order_and_foreign_files_are_left_out(root: Path) -> None:
    for name in ("notes.txt", "b9.png.samlet.tif", "b9.png.labels.png", ".hidden.png"):
        (root / name).write_bytes(b"?")
    folder = ImageFolder(root)
    assert names(folder) == ["a/x.png", "b9.png", "b10.png"]
    assert folder.labels_path(0) == root / "a" / "x.png.samlet.tif"
    folder.close()


def test_states_are_on_disk(root: Path, folder: ImageFolder) -> None:
    assert [folder.state(i) for i in range(3)] == [State.UNTOUCHED] * 3
    label(folder, 1)
    label(folder, 2)
    folder.set_done(2, True)
    folder.close()
    again = ImageFolder(root)
    assert [again.state(i) for i in range(3)] == [State.UNTOUCHED, State.IN_PROGRESS, State.DONE]
    assert again.count(State.DONE) == 1
    again.set_done(2, False)
    assert again.state(2) is State.IN_PROGRESS
    # A mark without labels says nothing.
    again.set_done(1, True)
    again.labels_path(1).unlink()
    again.look_at_labels(1)
    assert again.state(1) is State.UNTOUCHED
    again.close()


def test_marks_of_another_program_are_kept(folder: ImageFolder) -> None:
    label(folder, 0)
    label(folder, 1)
    path = folder.path / STATES_FILE
    path.write_text(json.dumps({"version": 1, "done": ["b9.png"]}))
    folder.set_done(0, True)
    assert json.loads(path.read_text())["done"] == ["a/x.png", "b9.png"]


def test_neighbours(folder: ImageFolder) -> None:
    label(folder, 1)
    folder.set_done(1, True)
    assert folder.neighbour(None, 1) == 0 and folder.neighbour(None, -1) == 2
    assert folder.neighbour(0, 1) == 1 and folder.neighbour(0, 1, skip_done=True) == 2
    assert folder.neighbour(2, 1) is None and folder.neighbour(0, -1) is None
    folder.set_error(1, "It is damaged.")
    assert folder.neighbour(0, 1) == 2 and folder.neighbour(2, -1) == 0
    assert folder.state(1) is State.UNREADABLE
    folder.set_error(1, "")
    assert folder.state(1) is State.DONE


def test_one_napari_at_a_time(root: Path, folder: ImageFolder) -> None:
    with pytest.raises(UserError, match="is open in another napari: close it there"):
        ImageFolder(root)
    folder.close()
    ImageFolder(root).close()


@pytest.mark.parametrize("content", ["", "[]", '{"version": 2, "done": []}', '{"version": 1}'])
def test_damaged_marks_are_not_written_over(root: Path, content: str) -> None:
    path = root / STATES_FILE
    path.write_text(content)
    with pytest.raises(UserError, match="damaged, so it is not known which images are done"):
        ImageFolder(root)
    assert path.read_text() == content
    path.unlink()
    ImageFolder(root).close()


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_no_images(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "none"
    make(path)
    with pytest.raises(UserError, match=r"not a folder|holds no image"):
        ImageFolder(path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as root:
        save(root / "a.png")
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        with pytest.raises(UserError, match=r"cannot be written .*copy the images to a folder"):
            ImageFolder(root)


# Images and labels as layers.


def test_images_as_layers(tmp_path: Path) -> None:
    def opened(name: str) -> Image:
        (image,) = read_layers(tmp_path / name, name)
        return image

    deep = PIXELS.astype(np.uint16) * 200
    tifffile.imwrite(tmp_path / "deep.tif", deep)
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([deep] * 5))
    save(tmp_path / "rgba.png", np.dstack([PIXELS] * 4))
    save(tmp_path / "grey.png", np.dstack([PIXELS] * 2))
    turned = PillowImage.fromarray(PIXELS)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)

    np.testing.assert_array_equal(opened("deep.tif").data, deep)
    assert opened("stack.tif").data.shape == (5, 30, 40)
    assert opened("rgba.png").rgb and opened("rgba.png").data.shape == (30, 40, 4)
    np.testing.assert_array_equal(opened("grey.png").data, PIXELS)
    # Upright, as on the command line.
    np.testing.assert_array_equal(opened("turned.png").data, np.rot90(PIXELS, -1))
    assert opened("deep.tif").source.path == str(tmp_path / "deep.tif")


def test_channels_are_coloured_as_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "channels.tif"
    values = RNG.integers(0, 60000, (3, 30, 40), dtype=np.uint16)
    tifffile.imwrite(path, values, imagej=True, metadata={"axes": "CYX"})
    channels = read_layers(path, "x")
    assert [layer.name for layer in channels] == [f"x channel {number}" for number in range(3)]
    np.testing.assert_array_equal([layer.data for layer in channels], values)
    blended = LayerSnapshot.of(channels, as_shown=False)
    seen = blended.read(Plane((0, 1), (0, 0)), (0, 0, 40, 30))
    np.testing.assert_array_equal(seen, samlet_images.read(path))


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_microscopes(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, TCZYX)
    folder = ImageFolder(tmp_path)
    assert names(folder) == [name] and folder.labels_path(0) == tmp_path / f"{name}.samlet.tif"
    channels = read_layers(folder.images[0], name)
    for number, layer in enumerate(channels):
        np.testing.assert_array_equal(layer.data, TCZYX[:, number])
        assert layer.axis_labels == ("t", "z", "y", "x")
    # Its labels are for all channels, and for other commands.
    labels = read_labels_for(channels[0], folder.labels_path(0))
    file = LabelsFile(labels, folder.labels_path(0), None)
    labels.data[1, 2, 3:5, 6:9] = 7
    file.save()
    again = read_labels_for(channels[0], file.path)
    np.testing.assert_array_equal(again.data, labels.data)
    paired = pair_by_name(
        tmp_path, samlet_images.list_slices([tmp_path / name]), tmp_path, (".tif",)
    )
    assert len(paired.pairs) == 8 and not paired.faults
    own = {image.name: labels for image, labels in paired.pairs}[f"{name}.t1.z2"]
    assert samlet_images.decoding.decode(own).values[3, 6] == 7
    folder.close()


def test_series_are_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lif(tmp_path / "a.lif", {"one": TCZYX, "two": TCZYX[:1, :1, :1]})
    folder = ImageFolder(tmp_path)
    folder.close()
    assert names(folder) == ["a.lif.s0", "a.lif.s1"]
    assert folder.file(1) == tmp_path / "a.lif"
    (image,) = read_layers(folder.images[1], "x")
    np.testing.assert_array_equal(image.data, TCZYX[0, 0, 0])
    # Without what reads it, it is listed, and says what is missing.
    monkeypatch.setitem(sys.modules, "liffile", None)
    folder = ImageFolder(tmp_path)
    folder.close()
    assert names(folder) == ["a.lif"]
    with pytest.raises(
        UserError, match=r'a\.lif needs liffile, .* pip install "samlet\[formats\]"'
    ):
        read_layers(folder.images[0], "x")


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n cut short", b"II*\0 cut"])
def test_an_image_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.png"):
        read_layers(path, "x")


def test_labels_of_another_size(root: Path) -> None:
    path = root / "b9.png.samlet.tif"
    write_labels(path, np.ones((5, 6), np.uint8), {})
    with pytest.raises(UserError, match="is 5 x 6 and the image is 30 x 40: one of them was"):
        read_labels_for(Image(PIXELS), path)


def test_large_labels_become_a_pyramid_again(tmp_path: Path) -> None:
    image = Image(np.zeros((64, 5000), np.uint8), name="wide")
    labels = read_labels_for(image, tmp_path / "none.samlet.tif")
    assert labels.multiscale and labels.name == "wide objects"
    file = LabelsFile(labels, tmp_path / "wide.samlet.tif", None)
    labels.data[0][3:9, 4000:4100] = 7
    file.save()
    again = read_labels_for(image, file.path)
    assert [a.shape for a in again.data] == [a.shape for a in labels.data]
    np.testing.assert_array_equal(again.data[0], labels.data[0])
    np.testing.assert_array_equal(again.data[1], labels.data[0][::2, ::2])
    LabelStore(again, (64, 5000)).check()


# Saving.


@pytest.fixture
def labels() -> Labels:
    return Labels(np.zeros((30, 40), np.uint16), name="objects")


def test_only_changes_are_saved(tmp_path: Path, labels: Labels) -> None:
    file = LabelsFile(labels, tmp_path / "a.png.samlet.tif", None)
    assert file.save() == "" and not file.path.exists() and not file.start()
    labels.data[2:5, 3] = 4
    assert file.start()
    assert file.finish() == ""
    np.testing.assert_array_equal(tifffile.imread(file.path), labels.data)
    before = file_signature(file.path)
    assert not file.start() and file.save() == "" and file_signature(file.path) == before
    # Prompts that change without a pixel count, too.
    labels.metadata["samlet"] = {"objects": {"4": []}}
    file.save()
    [(_, meta, _)] = read_labels(file.path)
    assert meta["metadata"]["samlet"]["objects"] == {"4": []}


def test_empty_labels_are_saved_on_request(tmp_path: Path, labels: Labels) -> None:
    file = LabelsFile(labels, tmp_path / "a.png.samlet.tif", None)
    file.save(even_empty=True)
    assert not tifffile.imread(file.path).any()


def test_what_another_program_has_written_is_kept(tmp_path: Path, labels: Labels) -> None:
    path = tmp_path / "a.png.samlet.tif"
    file = LabelsFile(labels, path, file_signature(path))
    for number in (1, 2):
        write_labels(path, np.full((30, 40), 50 + number), {})
        labels.data[number] = number
        message = file.save()
        kept = tmp_path / f"a.png.changed-{number}.samlet.tif"
        assert message.startswith("a.png.samlet.tif was changed by another program")
        assert kept.name in message
        assert (tifffile.imread(kept) == 50 + number).all()
        np.testing.assert_array_equal(tifffile.imread(path), labels.data)


def test_a_full_disk(tmp_path: Path, labels: Labels) -> None:
    with small_disk(tmp_path / "disk") as root:
        file = LabelsFile(labels, root / "a.png.samlet.tif", None)
        labels.data[0, 0] = 1
        file.save()
        ballast = root / "ballast"
        with pytest.raises(OSError), ballast.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        before = file.path.read_bytes()
        labels.data[:] = RNG.integers(0, 60000, labels.data.shape)
        file.start()
        with pytest.raises(UserError, match="No space left"):
            file.finish()
        with pytest.raises(UserError, match="No space left"):
            file.save()
        assert file.path.read_bytes() == before
        ballast.unlink()
        file.save()
        np.testing.assert_array_equal(tifffile.imread(file.path), labels.data)


# Everything.


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(quick_nuclei(), engine="torch")


@pytest.fixture
def cells(tmp_path: Path, picture: np.ndarray) -> Iterator[ImageFolder]:
    root = tmp_path / "cells"
    for number in range(3):
        save(root / f"{number}.png", picture[200:328, 100 * number : 100 * number + 128])
    (root / "damaged.png").write_bytes(b"?")
    part = picture[200:328, :128]
    both = np.stack([np.zeros_like(part), part])
    metadata = {"axes": "TZCYX"}
    tifffile.imwrite(root / "stack.tif", np.stack([[both] * 2] * 2), imagej=True, metadata=metadata)
    folder = ImageFolder(root)
    yield folder
    folder.close()


def nothing(*_: Any) -> None:
    pass


def test_everything_writes_untouched_images_only(cells: ImageFolder, predictor: Predictor) -> None:
    write_labels(cells.labels_path(0), np.full((128, 128), 9), {})
    cells.look_at_labels(0)
    cells.set_open(1)
    seen: list[float] = []
    search = search_folder(
        cells, predictor, 1, lambda p: seen.append(p.share), threading.Event(), lambda: False
    )
    results = []
    try:
        while True:
            results.append(next(search))
    except StopIteration as end:
        progress: SearchProgress = end.value
    assert (tifffile.imread(cells.labels_path(0)) == 9).all()
    # What somebody has open is handed over.
    handed_over, *others = results
    assert not isinstance(handed_over, int) and handed_over.index == 1
    assert not cells.labels_path(1).exists() and np.any(handed_over.labels.data)
    assert others == [2, 3, 4]
    [(data, meta, _)] = read_labels(cells.labels_path(2))
    objects = meta["metadata"]["samlet"]["objects"]
    assert objects and set(np.unique(data)) == {0, *map(int, objects)}
    stack = tifffile.imread(cells.labels_path(4))
    # The same slice twice: every object has one number, and others at another time.
    assert stack.shape == (2, 2, 128, 128) and stack.any()
    assert np.array_equal(stack[:, 0], stack[:, 1])
    assert not {*np.unique(stack[0])} & {*np.unique(stack[1])} - {0}
    [sentence] = progress.left_out
    assert "damaged.png" in sentence and "1 image left out" in progress.describe_result()
    assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] <= 1
    assert cells.state(2) is State.IN_PROGRESS


def test_everything_stops_and_resumes(cells: ImageFolder, predictor: Predictor) -> None:
    stopped = threading.Event()
    search = search_folder(cells, predictor, 0, nothing, stopped, lambda: False)
    assert next(search) == 0
    before = file_signature(cells.labels_path(0))
    stopped.set()
    with pytest.raises(StoppedError):
        next(search)
    again = search_folder(cells, predictor, 0, nothing, threading.Event(), lambda: False)
    assert next(again) == 1
    assert file_signature(cells.labels_path(0)) == before


def test_time_left() -> None:
    progress = SearchProgress(total=10, done=2, fraction=0.5, seconds=10)
    assert progress.describe() == "Everything: 2 of 10 images, 4.0 s each, 30 s left."
    assert SearchProgress(1).describe() == "Everything: 0 of 1 image."
