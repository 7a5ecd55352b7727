"""Files of masks, read back by other libraries."""

import contextlib
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools.coco import COCO

from samlet import outputs
from samlet.errors import UserError
from samlet.masks import to_rle

LABELS = np.random.default_rng(0).integers(0, 300, (12, 17))
MASK = np.zeros((20, 30), bool)
MASK[3:12, 5:16] = True
MASK[6:8, 8:11] = False
TWO_PARTS = np.zeros((20, 30), bool)
TWO_PARTS[0:4, 0:4] = TWO_PARTS[10:15, 20:30] = True


@pytest.mark.parametrize("name", ["a.png", "a.tif", "sub/b.TIFF", "c.PNG"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_label_map_round_trip(tmp_path: Path, name: str, dtype: type) -> None:
    labels: np.ndarray = (LABELS % 256 if dtype is np.uint8 else LABELS).astype(dtype)
    outputs.write_label_map(tmp_path / name, labels)
    seen = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED)
    assert seen is not None and seen.dtype == np.uint16 and np.array_equal(seen, labels)
    result = outputs.read_label_map(tmp_path / name)
    assert result.dtype == np.uint16 and np.array_equal(result, labels)
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_large_labels(tmp_path: Path) -> None:
    labels = LABELS + 70_000
    outputs.write_label_map(tmp_path / "a.tif", labels)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), labels)
    result = outputs.read_label_map(tmp_path / "a.tif")
    assert result.dtype == np.uint32 and np.array_equal(result, labels)
    with pytest.raises(UserError, match=r"a\.png .*65535.*\.tif"):
        outputs.write_label_map(tmp_path / "a.png", labels)
    assert not (tmp_path / "a.png").exists()


def test_other_label_files(tmp_path: Path) -> None:
    small = (LABELS % 200).astype(np.uint8)
    Image.fromarray(small).save(tmp_path / "grey.png")
    palette = Image.fromarray(small, mode="P")
    palette.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
    palette.save(tmp_path / "palette.png")
    palette.save(tmp_path / "palette.tif")
    tifffile.imwrite(tmp_path / "signed.tif", LABELS.astype(np.int32))
    for name in ("grey.png", "palette.png", "palette.tif"):
        assert np.array_equal(outputs.read_label_map(tmp_path / name), small)
    assert np.array_equal(outputs.read_label_map(tmp_path / "signed.tif"), LABELS)
    Image.fromarray(small > 99).save(tmp_path / "bit.png")
    assert np.array_equal(outputs.read_label_map(tmp_path / "bit.png"), small > 99)


def test_not_label_maps(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "rgb.png")
    tifffile.imwrite(tmp_path / "float.tif", LABELS / np.float32(3))
    tifffile.imwrite(tmp_path / "negative.tif", LABELS.astype(np.int32) - 1)
    for name, sentence in [("rgb.png", "no label map"), ("float.tif", "no label map")]:
        with pytest.raises(UserError, match=rf"{name} is {sentence}"):
            outputs.read_label_map(tmp_path / name)
    with pytest.raises(UserError, match=r"negative\.tif has labels from -1"):
        outputs.read_label_map(tmp_path / "negative.tif")
    for labels in (LABELS - 1, LABELS / 2, LABELS[0], LABELS[:0]):
        with pytest.raises(UserError, match="not integers from 0"):
            outputs.write_label_map(tmp_path / "x.png", labels)
    with pytest.raises(UserError, match="suffix"):
        outputs.write_label_map(tmp_path / "x.jpg", LABELS)


def test_write_mask(tmp_path: Path) -> None:
    outputs.write_mask(tmp_path / "m.png", MASK)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "m.png")), MASK * 255)
    with pytest.raises(UserError, match=r"\.png"):
        outputs.write_mask(tmp_path / "m.jpg", MASK)


def test_coco_json_loads_in_pycocotools(tmp_path: Path) -> None:
    records = [
        {"segmentation": MASK, "predicted_iou": 0.75, "stability_score": np.float32(0.5)},
        {"segmentation": to_rle(TWO_PARTS), "score": 0.25, "bbox": "ignored"},
    ]
    outputs.write_coco(tmp_path / "a.json", records, "cells.png", (20, 30), category="nucleus")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "a.json"))
    assert coco.imgs[1]["file_name"] == "cells.png" and coco.imgs[1]["height"] == 20
    assert coco.cats[1]["name"] == "nucleus"
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=1, catIds=1, iscrowd=False))
    assert np.array_equal(coco.annToMask(first), MASK)
    assert np.array_equal(coco.annToMask(second), TWO_PARTS)
    assert (first["area"], first["bbox"]) == (MASK.sum(), [5, 3, 11, 9])
    assert (first["score"], first["predicted_iou"], first["stability_score"]) == (0.75, 0.75, 0.5)
    assert second["score"] == 0.25 and "predicted_iou" not in second
    with pytest.raises(UserError, match="does not belong"):
        outputs.write_coco(tmp_path / "b.json", records, "cells.png", (30, 20))
    assert not (tmp_path / "b.json").exists()


def test_polygons_are_geojson(tmp_path: Path) -> None:
    records: list[dict] = [
        {"segmentation": MASK, "score": 0.5},
        {"segmentation": np.zeros((20, 30), bool)},
        {"segmentation": to_rle(TWO_PARTS)},
    ]
    outputs.write_polygons(tmp_path / "a.geojson", records, (20, 30))
    content = json.loads((tmp_path / "a.geojson").read_text())
    first, second = content["features"]
    assert content["type"] == "FeatureCollection"
    assert first["geometry"]["type"] == "Polygon" and second["geometry"]["type"] == "MultiPolygon"
    outer, hole = first["geometry"]["coordinates"]
    assert outer == [[5, 3], [16, 3], [16, 12], [5, 12], [5, 3]]
    assert hole[0] == hole[-1] and len(hole) == 5
    assert len(second["geometry"]["coordinates"]) == 2
    assert first["properties"]["measurements"] == {"score": 0.5}
    assert [feature["properties"]["name"] for feature in (first, second)] == ["1", "3"]
