"""Labels as ImageJ ROIs and YOLO's text: what others write, and what samlet wrote."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi, roiwrite
from typer.testing import CliRunner

from samlet import samples
from samlet.cli.main import app
from samlet.datasets import find_labelled_images, iter_objects
from samlet.datasets.checking import check_labels
from samlet.datasets.finding import labels_of
from samlet.errors import UserError
from samlet.masks import from_label_map, iou
from samlet.measurements.files import measure_file
from samlet.outputs import read_label_map, write_coco, write_rois, write_yolo

SIZE = (40, 60)
TRUTH = read_label_map(samples.LABELS / "stained_2.png")
MASKS = [mask for _, mask in from_label_map(TRUTH)]
RECORDS = [{"segmentation": mask, "predicted_iou": 0.5} for mask in MASKS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image, and a folder for its labels."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "images" / "a.png")
    return tmp_path


def objects_of(folder: Path, left_out: list[str] | None = None) -> list[np.ndarray]:
    (item,) = find_labelled_images(folder / "images", folder / "labels")
    return [mask for _, mask in iter_objects(item.read_layers(left_out))]


def polygon(points: Sequence[tuple[float, float]], kind: ROI_TYPE = ROI_TYPE.POLYGON) -> ImagejRoi:
    roi = ImagejRoi.frompoints(points)
    roi.roitype = kind
    return roi


def shape(kind: ROI_TYPE, box: tuple[int, int, int, int]) -> ImagejRoi:
    roi = ImagejRoi()
    roi.roitype = kind
    roi.left, roi.top, roi.right, roi.bottom = box
    return roi


SQUARE = [(5, 6), (15, 6), (15, 20), (5, 20)]


def test_rois_as_imagej_draws_them(folder: Path) -> None:
    rois = [
        polygon(SQUARE),
        polygon([(20.25, 6.0), (29.75, 6.0), (29.75, 19.6), (20.25, 19.6)], ROI_TYPE.FREEHAND),
        shape(ROI_TYPE.RECT, (32, 2, 40, 12)),
        shape(ROI_TYPE.OVAL, (42, 2, 58, 14)),
    ]
    roiwrite(folder / "labels" / "a.zip", rois, name=["1", "2", "3", "4"])
    square, free, rectangle, oval = objects_of(folder)
    expected = np.zeros(SIZE, bool)
    expected[6:20, 5:15] = True
    assert np.array_equal(square, expected)
    # Pixels whose centre is inside: 20.5 to 29.5, and 6.5 to 19.5.
    assert free.sum() == 10 * 14 and free[6:20, 20:30].all()
    assert rectangle.sum() == 80 and rectangle[2:12, 32:40].all()
    assert abs(oval.sum() - np.pi * 8 * 6) < 5 and oval[8, 50]


def test_composite_rois_are_single_objects(folder: Path) -> None:
    roi = shape(ROI_TYPE.RECT, (5, 5, 35, 25))
    path = []
    for box in ((5, 5, 20, 25), (8, 8, 12, 12), (30, 5, 35, 10)):
        x0, y0, x1, y1 = box
        path += [0, x0, y0, 1, x1, y0, 1, x1, y1, 1, x0, y1, 4]
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    roiwrite(folder / "labels" / "a_masks.zip", [roi], name=["nucleus"])
    (found,) = objects_of(folder)
    expected = np.zeros(SIZE, bool)
    expected[5:25, 5:20] = expected[5:10, 30:35] = True
    expected[8:12, 8:12] = False
    assert np.array_equal(found, expected)


def test_rois_that_are_no_objects_are_named_and_the_others_are_read(folder: Path) -> None:
    text = shape(ROI_TYPE.RECT, (1, 1, 9, 9))
    text.subtype = ROI_SUBTYPE.TEXT
    rounded = shape(ROI_TYPE.RECT, (1, 1, 9, 9))
    rounded.rounded_rect_arc_size = 3
    curved = shape(ROI_TYPE.RECT, (1, 1, 9, 9))
    curved.multi_coordinates = np.array([0, 1, 1, 3, 2, 2, 3, 3, 4, 4, 4], np.float32)
    curved.shape_roi_size = len(curved.multi_coordinates)
    elsewhere = polygon(SQUARE)
    elsewhere.position = 3
    points = polygon([(1, 1), (2, 2), (3, 3)], ROI_TYPE.POINT)
    line = polygon([(1, 1), (2, 2), (3, 3)], ROI_TYPE.POLYLINE)
    rois = [polygon(SQUARE), text, rounded, curved, elsewhere, points, line]
    names = ["good", "text", "rounded", "curved", "elsewhere", "points", "line"]
    file = folder / "labels" / "a.zip"
    roiwrite(file, rois, name=names)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("damaged.roi", b"Iout1234")
        archive.writestr("readme.md", b"no ROI")
    left_out: list[str] = []
    (found,) = objects_of(folder, left_out)
    assert found.sum() == 140
    sentences = {sentence.partition(".roi")[0]: sentence for sentence in left_out}
    assert set(sentences) == {*names[1:], "damaged"}
    assert "is points, which has no area" in sentences["points"]
    assert "is a line, which has no area" in sentences["line"]
    assert "another slice" in sentences["elsewhere"]
    assert "composite ROI with curves" in sentences["curved"]
    assert "not read (RECT, TEXT)" in sentences["text"]
    with pytest.raises(UserError, match=r"text.roi of .*a.zip is a ROI of a kind that is not read"):
        objects_of(folder)
    # As training and evaluation name them.
    checked = check_labels(find_labelled_images(folder / "images", folder / "labels"))
    assert len(checked.usable) == 1
    assert sorted(checked.left_out[str(folder / "images" / "a.png")]) == sorted(left_out)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"text"])
def test_broken_zips(folder: Path, content: bytes) -> None:
    (folder / "labels" / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.zip cannot be read as ROIs"):
        objects_of(folder)


def test_an_archive_of_something_else(folder: Path) -> None:
    with zipfile.ZipFile(folder / "labels" / "a.zip", "w") as archive:
        archive.writestr("a.csv", b"1")
    with pytest.raises(UserError, match="has no ROI of ImageJ"):
        objects_of(folder)


def test_yolo(folder: Path) -> None:
    """The example of Ultralytics' documentation has the same form."""
    text = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n\n7 0.5 0.5 1 0.5 1 1 0.5 1\n"
    (folder / "labels" / "a.txt").write_text(text)
    (folder / "labels" / "classes.txt").write_text("cell\n")
    first, second = objects_of(folder)
    assert first.sum() == 24 * 16 and first[4:20, 6:30].all()
    assert second.sum() == 30 * 20 and second[20:, 30:].all()
    found = find_labelled_images(folder / "images", folder / "labels")
    assert not found.unmatched
    (folder / "labels" / "a.txt").write_text("")
    assert not objects_of(folder)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("0 0.5 0.5 0.2 0.2", "is a box, which does not have the outline"),
        ("0 0.5 0.5 0.2 0.2 0.1", "has 5 numbers after the class"),
        ("0 0.5 0.5", "has 2 numbers after the class"),
        ("cell 0.5 0.5 0.2 0.2 0.1 0.1", "is not YOLO's text"),
        ("0 5 5 20 5 20 20", "beyond 0 to 1"),
        ("0 nan 5 20 5 20 20", "beyond 0 to 1"),
    ],
)
def test_lines_that_are_no_polygons(folder: Path, line: str, sentence: str) -> None:
    (folder / "labels" / "a.txt").write_text(f"0 0.1 0.1 0.5 0.1 0.5 0.5\n{line}\n")
    left_out: list[str] = []
    assert len(objects_of(folder, left_out)) == 1
    assert len(left_out) == 1 and "a.txt, line 2" in left_out[0] and sentence in left_out[0]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A sample, and its labels in all formats, as samlet writes them."""
    size = (TRUTH.shape[0], TRUTH.shape[1])
    for kind in ("images", "rois", "yolo", "coco"):
        (tmp_path / kind).mkdir()
    image = Image.open(samples.IMAGES / "stained_2.png")
    image.save(tmp_path / "images" / "a.png")
    write_rois(tmp_path / "rois" / "a.png.rois.zip", RECORDS, size)
    write_yolo(tmp_path / "yolo" / "a.txt", RECORDS, size)
    write_coco(tmp_path / "coco" / "a.json", RECORDS, "a.png", size, as_polygons=True)
    return tmp_path


@pytest.mark.parametrize(("labels", "least"), [("rois", 1.0), ("yolo", 0.9), ("coco/a.json", 0.9)])
def test_what_samlet_wrote_is_read(written: Path, labels: str, least: float) -> None:
    (item,) = find_labelled_images(written / "images", written / labels)
    layers = item.read_layers()
    assert np.unique(layers).tolist() == list(range(len(MASKS) + 1))
    for number, mask in iter_objects(layers):
        assert iou(mask, MASKS[number - 1]) >= least


def test_labels_of_one_image(written: Path) -> None:
    image = written / "images" / "a.png"
    for labels in ("rois/a.png.rois.zip", "yolo/a.txt", "coco/a.json", "rois"):
        read_layers = labels_of(image, written / labels)
        assert read_layers is not None and len(np.unique(read_layers())) == len(MASKS) + 1


def test_they_are_measured(written: Path) -> None:
    image, table = written / "images" / "a.png", written / "cells.csv"
    expected = measure_file(samples.LABELS / "stained_2.png", image)
    for labels, of in (
        (written / "rois", written / "images"),
        (written / "rois" / "a.png.rois.zip", image),
    ):
        done = CliRunner().invoke(app, ["measure", str(labels), str(of), "--table", str(table)])
        assert done.exit_code == 0 and f"{len(MASKS)} objects of 1 image" in done.stdout
        areas = [line.split(",")[4] for line in table.read_text().splitlines()[1:]]
        assert len(areas) == len(MASKS) == len(expected)
    rows = measure_file(labels_of(image, written / "rois"), image)  # type: ignore[arg-type]
    assert sorted(row["area_px"] for row in rows) == sorted(row["area_px"] for row in expected)
    assert sorted(row["mean_0"] for row in rows) == sorted(row["mean_0"] for row in expected)
    with pytest.raises(UserError, match="is no label map, and other labels need the image"):
        arguments = ["measure", str(written / "yolo" / "a.txt"), "--table", str(table)]
        raise CliRunner().invoke(app, arguments).exception  # type: ignore[misc]
