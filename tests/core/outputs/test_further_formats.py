"""ImageJ ROIs, YOLO and COCO polygons, read by others than samlet's own readers."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import shapely
from pycocotools.coco import COCO
from roifile import ImagejRoi, roiread
from skimage import draw

from samlet import samples
from samlet.errors import UserError
from samlet.masks import from_label_map, iou, join_rings, to_polygons
from samlet.outputs import read_label_map, write_coco, write_rois, write_yolo
from samlet.outputs.further_formats import check_names, parse_formats

TRUTH = read_label_map(samples.LABELS / "stained_2.png")
SIZE = (TRUTH.shape[0], TRUTH.shape[1])


def rois_in(path: Path) -> list[ImagejRoi]:
    rois = roiread(path)
    assert isinstance(rois, list)
    return rois


def disc(x: int, y: int, radius: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[draw.disk((y, x), radius, shape=SIZE)] = True
    return mask


RING = disc(60, 60, 30) & ~disc(60, 60, 15)
"""With a hole."""
TWO = disc(40, 150, 20) | disc(120, 150, 25) & ~disc(120, 150, 5)
"""Two parts, and one of them has a hole."""
MASKS = [mask for _, mask in from_label_map(TRUTH)] + [RING, TWO]
RECORDS: list[dict[str, Any]] = [
    {"segmentation": mask, "predicted_iou": 0.5, "category": ("cell", "debris/dust")[i % 2]}
    for i, mask in enumerate(MASKS)
]
EMPTY = {"segmentation": np.zeros(SIZE, bool), "predicted_iou": 0.5}


def signed_area(ring: np.ndarray) -> float:
    (x, y), (x_next, y_next) = ring.T, np.roll(ring, -1, axis=0).T
    return float(np.sum(x * y_next - x_next * y) / 2)


def even_odd(rings: Sequence[np.ndarray]) -> np.ndarray:
    """As ImageJ fills a path: a pixel is inside if a ray from its centre crosses it oddly often."""
    mask = np.zeros(SIZE, bool)
    for ring in rings:
        mask ^= draw.polygon2mask(SIZE, np.asarray(ring, float)[:, ::-1] - 0.5)
    return mask


def test_one_ring_covers_what_several_did() -> None:
    for mask in (RING, TWO, MASKS[0]):
        for tolerance in (0.0, 1.0):
            rings = [ring for polygon in to_polygons(mask, tolerance) for ring in polygon]
            joined = join_rings(rings)
            assert len(joined) == sum(map(len, rings)) + 2 * (len(rings) - 1)
            assert signed_area(joined) == pytest.approx(sum(map(signed_area, rings)))
            # Only centres that lie exactly on a bridge or an outline may differ.
            differing = even_odd([joined]) ^ even_odd(rings)
            line = shapely.LinearRing(joined)
            for y, x in np.argwhere(differing).tolist():
                assert shapely.Point(x + 0.5, y + 0.5).distance(line) < 1e-9


def test_rois_are_the_masks(tmp_path: Path) -> None:
    write_rois(tmp_path / "a.zip", [*RECORDS, EMPTY], SIZE)
    rois = rois_in(tmp_path / "a.zip")
    assert len(rois) == len(MASKS)
    for roi, mask in zip(rois, MASKS, strict=True):
        rings = roi.coordinates(multi=True)
        assert isinstance(rings, list) and np.array_equal(even_odd(rings), mask)
        rows, columns = np.nonzero(mask)
        assert (roi.left, roi.top) == (columns.min(), rows.min())
    assert [roi.composite for roi in rois[-3:]] == [False, True, True]
    names = zipfile.ZipFile(tmp_path / "a.zip").namelist()
    assert names[:2] == ["0001-cell.roi", "0002-debris_dust.roi"]
    assert len(set(names)) == len(names)


def test_yolo_is_as_its_format_says(tmp_path: Path) -> None:
    """Of each line the class from 0, then x and y as shares: filled as Ultralytics does."""
    write_yolo(tmp_path / "a.txt", [*RECORDS, EMPTY], SIZE, ["other", "cell"])
    lines = (tmp_path / "a.txt").read_text().splitlines()
    assert len(lines) == len(MASKS)
    height, width = SIZE
    for number, (line, mask) in enumerate(zip(lines, MASKS, strict=True)):
        label, *shares = line.split(" ")
        assert int(label) == (1, 2)[number % 2]
        corners = np.array(shares, float).reshape(-1, 2)
        assert len(corners) >= 3 and corners.min() >= 0 and corners.max() <= 1
        # The outline belongs to the polygon there, which matters little at eight times the size.
        filled = np.zeros((8 * height, 8 * width), np.uint8)
        cv2.fillPoly(filled, [np.rint(corners * [8 * width, 8 * height]).astype(np.int32)], 1)
        assert iou(filled[4::8, 4::8].astype(bool), mask) > 0.9


def test_polygons_of_coco(tmp_path: Path) -> None:
    write_coco(tmp_path / "a.json", [*RECORDS, EMPTY], "a.png", SIZE, as_polygons=True)
    coco = COCO(tmp_path / "a.json")
    found = coco.loadAnns(coco.getAnnIds())
    assert len(found) == len(MASKS)
    for annotation, mask in zip(found, MASKS, strict=True):
        assert isinstance(annotation["segmentation"], list)
        assert iou(coco.annToMask(annotation).astype(bool), mask) > 0.85
        assert annotation["area"] == mask.sum()
    assert [len(one["segmentation"]) for one in found[-2:]] == [1, 2]
    names = [coco.cats[one["category_id"]]["name"] for one in found[:2]]
    assert names == ["cell", "debris/dust"]
    assert json.loads((tmp_path / "a.json").read_text())["categories"][0]["id"] == 1


def test_formats_by_name(tmp_path: Path) -> None:
    assert parse_formats("yolo, rois,yolo") == ["rois", "yolo"]
    assert parse_formats(None) == []
    with pytest.raises(UserError, match="no format roi: choose rois"):
        parse_formats("roi")
    paths = [Path("a/x.png"), Path("a/x.tif"), Path("b/x.png")]
    check_names(["rois"], paths, [tmp_path / path.parent for path in paths])
    with pytest.raises(UserError, match=r"x\.png and .*x\.tif differ only in their suffix"):
        check_names(["yolo"], paths, [tmp_path / path.parent for path in paths])
