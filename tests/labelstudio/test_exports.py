"""What annotators get of our regions: from Label Studio's own converter, and from `export`."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter import Converter
from PIL import Image
from pycocotools.coco import COCO

from samlet.datasets import find_labelled_images
from samlet.datasets.labelled_images import ObjectClass
from samlet.masks import crop_mask, iou
from samlet_labelstudio.bulk.export import export_coco, file_name
from samlet_labelstudio.label_studio.labeling_config import parse
from samlet_labelstudio.regions import to_results
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads
from tests.labelstudio.test_images import Host
from tests.labelstudio.test_training import serve_tasks

SIZE = (90, 160)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]
DISC = (X - 80) ** 2 / 40**2 + (Y - 45) ** 2 / 25**2 < 1
HOLE = (X - 80) ** 2 / 12**2 + (Y - 45) ** 2 / 8**2 < 1
RING = DISC & ~HOLE

LABELS = '<Label value="cell"/><Label value="debris"/>'
FORMATS = ("COCO", "YOLO", "VOC", "BRUSH_TO_PNG", "BRUSH_TO_COCO")
NOTHING, MISSING = "empty", "not offered"

# Of each tag what the guide's table says: with KeyPointLabels and RectangleLabels as smart tools,
# and without any other tag.
WITH_SMART_TOOLS = {
    "Brush": (NOTHING, NOTHING, NOTHING, "mask", "outline"),
    "Bitmask": (NOTHING, NOTHING, NOTHING, MISSING, MISSING),
    "Polygon": ("outline", NOTHING, NOTHING, MISSING, MISSING),
    "Vector": (NOTHING, NOTHING, NOTHING, MISSING, MISSING),
    "Ellipse": (NOTHING, NOTHING, NOTHING, MISSING, MISSING),
    "Rectangle": ("box", "box", "box", MISSING, MISSING),
}
ALONE = {
    "Brush": (MISSING, MISSING, MISSING, "mask", "outline"),
    "Bitmask": (MISSING,) * 5,
    "Polygon": ("outline", "outline", MISSING, MISSING, MISSING),
    "Vector": (MISSING,) * 5,
    "Ellipse": (MISSING,) * 5,
    "Rectangle": ("box", "box", "box", MISSING, MISSING),
}


def config(tag: str, smart: bool) -> str:
    tools = (
        f'<KeyPointLabels name="click" toName="image" smart="true">{LABELS}</KeyPointLabels>'
        f'<RectangleLabels name="box" toName="image" smart="true">{LABELS}</RectangleLabels>'
    )
    return (
        '<View><Image name="image" value="$image"/>'
        f'<{tag}Labels name="mask" toName="image" closable="true">{LABELS}</{tag}Labels>'
        f"{tools if smart else ''}</View>"
    )


def annotated(mask: np.ndarray, text: str, url: str = "/data/upload/3/a.png") -> dict[str, Any]:
    """A task with an accepted mask, as Label Studio exports it."""
    control = parse(text).result_control("image", "debris")
    assert control is not None and control.name == "mask"
    results = [each | {"origin": "manual"} for each in to_results(
        crop_mask(mask), control, "debris", 0.9, tolerance=0.5
    )]  # fmt: skip
    annotation = {"id": 5, "completed_by": 1, "was_cancelled": False, "result": results}
    annotation["created_at"] = "2026-01-01T00:00:00Z"
    return {"id": 1, "data": {"image": url}, "annotations": [annotation]}


def converted(task: dict[str, Any], text: str, kind: str, folder: Path) -> str:
    """What Label Studio's converter makes of a mask: one of the words of the tables."""
    source, out = folder / "export.json", folder / kind
    source.write_text(json.dumps([task]))
    out.mkdir()
    converter = Converter(text, str(folder), download_resources=False)
    if kind not in converter.supported_formats:
        return MISSING
    converter.convert(str(source), str(out), kind, is_dir=False)
    if kind == "VOC":
        found = [path.read_text() for path in out.rglob("*.xml")]
        return "box" if any("<bndbox>" in text for text in found) else NOTHING
    if kind == "YOLO":
        lines = [line for path in (out / "labels").iterdir() for line in path.open()]
        return {0: NOTHING, 5: "box"}.get(len(lines[0].split()) if lines else 0, "outline")
    if kind == "BRUSH_TO_PNG":
        (path,) = out.glob("*.png")
        assert np.array_equal(np.asarray(Image.open(path)) > 0, RING)
        return "mask"
    (path,) = out.glob("result*.json")
    objects = COCO(path).loadAnns(COCO(path).getAnnIds())
    if not objects:
        return NOTHING
    return "outline" if objects[0]["segmentation"] else "box"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Label Studio's converter logs each image that it does not download."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("tag", WITH_SMART_TOOLS)
@pytest.mark.parametrize("smart", [True, False])
def test_label_studios_own_exports(tag: str, smart: bool, tmp_path: Path) -> None:
    text = config(tag, smart)
    task = annotated(RING, text)
    found = tuple(converted(task, text, kind, tmp_path) for kind in FORMATS)
    assert found == (WITH_SMART_TOOLS if smart else ALONE)[tag]


def test_label_studios_outlines_of_brush_masks_have_no_holes(tmp_path: Path) -> None:
    text = config("Brush", False)
    converted(annotated(RING, text), text, "BRUSH_TO_COCO", tmp_path)
    (path,) = (tmp_path / "BRUSH_TO_COCO").glob("result*.json")
    coco = COCO(path)
    (drawn,) = (coco.annToMask(each) for each in coco.loadAnns(coco.getAnnIds()))
    assert drawn[HOLE].mean() > 0.9


@pytest.fixture
def host() -> Iterator[Host]:
    """Stands for Label Studio."""
    with Host() as host:
        yield host
        host.shutdown()


def test_export_of_every_tag(host: Host, tmp_path: Path) -> None:
    tasks = []
    for number, tag in enumerate(WITH_SMART_TOOLS, 1):
        task = annotated(RING, config(tag, True), f"/data/upload/3/0a1b2c3d-{tag}.png")
        tasks.append(task | {"id": number})
    tags = list(WITH_SMART_TOOLS)
    # A task without objects, one that was skipped, and one whose image is gone.
    empty = payloads.png(np.zeros((30, 40, 3), np.uint8))
    host.respond("/data/upload/3/empty.png", empty)
    for number, (name, cancelled) in enumerate((("empty", False), ("b", True), ("c", False)), 10):
        annotation = {"id": number, "result": [], "was_cancelled": cancelled}
        url = f"/data/upload/3/{name}.png"
        tasks.append({"id": number, "data": {"image": url}, "annotations": [annotation]})
    serve_tasks(host, tasks)

    settings = Settings(label_studio_url=host.url, api_key="a-key")
    made = export_coco(3, tmp_path / "out" / "coco.json", settings)
    (gone,) = made.skipped
    assert gone.endswith(
        "/data/upload/3/c.png was refused with status 404: check that the image is there."
    )
    coco = COCO(tmp_path / "out" / "coco.json")
    names = {image["id"]: image["file_name"] for image in coco.loadImgs(coco.getImgIds())}
    assert set(names.values()) == {f"0a1b2c3d-{tag}.png" for tag in tags} | {"empty.png"}
    assert [each["name"] for each in coco.loadCats(coco.getCatIds())] == ["debris"]
    # Outlines have no holes, and an ellipse and a box are what they are.
    least = {"Brush": 1.0, "Bitmask": 1.0, "Polygon": 0.85, "Vector": 0.85, "Ellipse": 0.8}
    for each in coco.loadAnns(coco.getAnnIds()):
        tag = names[each["image_id"]].partition("-")[2].removesuffix(".png")
        mask = coco.annToMask(each).astype(bool)
        assert iou(mask, RING) >= least.get(tag, 0.6)
        assert each["area"] == mask.sum()
        x, y, width, height = each["bbox"]
        assert mask[int(y) : int(y + height), int(x) : int(x + width)].sum() == mask.sum()
    assert len(coco.getAnnIds()) == len(tags)


def test_an_export_is_read_again(host: Host, tmp_path: Path) -> None:
    """By `samlet finetune` and `samlet classify`, for which labels are classes."""
    serve_tasks(host, [annotated(RING, config("Brush", True))])
    settings = Settings(label_studio_url=host.url, api_key="a-key")
    export_coco(3, tmp_path / "coco.json", settings)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(payloads.png(np.zeros((*SIZE, 3), np.uint8)))
    (item,) = find_labelled_images(tmp_path / "images", tmp_path / "coco.json")
    classes: dict[int, ObjectClass] = {}
    assert np.array_equal(item.read_layers(None, classes)[0] == 1, RING)
    assert classes == {1: ObjectClass("debris")}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/data/upload/3/0a1b-a%20b.png", "0a1b-a b.png"),
        ("/data/local-files/?d=folder/a.png", "a.png"),
        ("https://example.org/x/a.tif?signature=1", "a.tif"),
        ("s3://bucket/folder/a.png", "a.png"),
        ("data:image/png;base64,AAAA", "7.png"),
    ],
)
def test_names_of_files(url: str, name: str) -> None:
    assert file_name(url, 7) == name
