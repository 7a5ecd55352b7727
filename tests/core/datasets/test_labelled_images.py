"""Labels of every format, written by other libraries and read back."""

import base64
import json
import pickle
import re
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import label_studio_brush_rle_rs as reference_brush
import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as reference_rle
from skimage.measure import find_contours

from samlet import samples
from samlet.datasets import find_labelled_images, iter_objects, pack_layers
from samlet.datasets.checking import check_labels
from samlet.datasets.label_studio import brush_rle
from samlet.errors import UserError
from samlet.masks import CroppedMask, crop_mask
from samlet.masks.compressed_rle import decode_counts
from samlet.outputs.results import write_results

NAMES = ("fluorescence_2", "fluorescence_3", "stained_1")
TRUTH = {name: np.asarray(Image.open(samples.LABELS / f"{name}.png")) for name in NAMES}
GRID = np.zeros((40, 60), np.uint8)
SQUARE, INNER, STRIP = (GRID.astype(bool) for _ in range(3))
SQUARE[5:25, 10:30] = True
INNER[8:12, 12:20] = True
STRIP[20:40, 25:60] = True


def masks_of(name: str) -> list[np.ndarray]:
    return [TRUTH[name] == i for i in np.unique(TRUTH[name]) if i]


def compressed(mask: np.ndarray) -> dict[str, Any]:
    rle = reference_rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    column_by_column = np.concatenate([[0], mask.T.ravel(), [0]]).astype(int)
    edges = np.flatnonzero(np.diff(column_by_column[1:-1])) + 1
    counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if mask.T.flat[0] else counts}


def polygons(mask: np.ndarray) -> list[list[float]]:
    contours = find_contours(np.pad(mask, 1).astype(float), 0.5)
    return [(contour[:-1, ::-1] - 0.5).ravel().tolist() for contour in contours]


def brush(mask: np.ndarray, opacity: int = 255) -> dict[str, Any]:
    rgba = np.repeat(mask.ravel() * np.uint8(opacity), 4).tobytes()
    packed = reference_brush.encode_rle(rgba, 8, [3, 4, 8, 16])
    return region("brushlabels", mask.shape, format="rle", rle=list(packed))


def bitmask(mask: np.ndarray) -> dict[str, Any]:
    """As a canvas of Label Studio writes it: black, and opaque on the object."""
    content = BytesIO()
    black = np.zeros((*mask.shape, 4), np.uint8)
    black[..., 3] = mask * np.uint8(255)
    Image.fromarray(black).save(content, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
    return region("bitmasklabels", GRID.shape, imageDataURL=url)


def region(kind: str, shape: tuple[int, ...], **value: Any) -> dict[str, Any]:
    size = {"original_height": shape[0], "original_width": shape[1], "image_rotation": 0}
    named = {"id": "r1", "from_name": "label", "to_name": "image"}
    return {**named, **size, "type": kind, "value": {**value, kind: ["cell"]}}


def task(results: list[Any], image: str = "/data/upload/1/0a1b2c3d-a.png", **more: Any) -> Any:
    annotation = {"id": 1, "result": results, "was_cancelled": False, **more}
    return {"id": 7, "data": {"text": "?", "image": image}, "annotations": [annotation]}


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco(annotations: list[Any], *names: str, shape: tuple[int, ...] = GRID.shape) -> Any:
    size = {"height": shape[0], "width": shape[1]}
    images = [{"id": i + 1, "file_name": name, **size} for i, name in enumerate(names or ["a.png"])]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}


def found_masks(layers: np.ndarray) -> list[np.ndarray]:
    found = dict(iter_objects(layers))
    assert layers.dtype == np.int32 and sorted(found) == list(range(1, len(found) + 1))
    return [found[i] for i in sorted(found)]


def messages_of(images: Path, place: Path) -> str:
    """All messages about labels, whether they are refused or used."""
    try:
        return "\n".join(check_labels(find_labelled_images(images, place)).messages())
    except UserError as error:
        return str(error)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Sample images in nested folders."""
    (tmp_path / "images" / "more").mkdir(parents=True)
    for name in NAMES:
        folder = "more" if name == "stained_1" else "."
        shutil.copy(samples.IMAGES / f"{name}.png", tmp_path / "images" / folder)
    return tmp_path / "images"


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    """A folder of one image, a.png, of GRID's size."""
    (tmp_path / "blank").mkdir()
    Image.fromarray(GRID).save(tmp_path / "blank" / "a.png")
    return tmp_path / "blank"


def test_label_maps(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    (folder / "more").mkdir(parents=True)
    shutil.copy(samples.LABELS / "fluorescence_3.png", folder)
    tifffile.imwrite(folder / "more" / "stained_1.tif", TRUTH["stained_1"].astype(np.uint32) * 1000)
    Image.fromarray(GRID).save(folder / "of_no_image.png")
    found = find_labelled_images(images, folder)
    assert [f.path for f in found] == [images / "fluorescence_3.png", images / "more/stained_1.png"]
    for item, expected in zip(
        found, (TRUTH["fluorescence_3"], TRUTH["stained_1"].astype(int) * 1000), strict=True
    ):
        layers = item.read_layers()
        assert layers.dtype == np.int32 and np.array_equal(layers, expected[None])


def test_what_everything_wrote_is_read_as_labels(blank: Path, tmp_path: Path) -> None:
    image = np.stack([GRID] * 3, axis=2)
    record = {"segmentation": SQUARE, "predicted_iou": 0.9}
    write_results(tmp_path / "out", blank / "a.png", image, [record], {})
    (labelled,) = find_labelled_images(blank, tmp_path / "out")
    assert np.array_equal(labelled.read_layers(), SQUARE[None])


@pytest.mark.parametrize("encode", [compressed, uncompressed])
def test_coco_rle(images: Path, tmp_path: Path, encode: Callable[[np.ndarray], Any]) -> None:
    content: Any = {"images": [], "annotations": []}
    for i, name in enumerate(NAMES):
        height, width = TRUTH[name].shape
        file = {"fluorescence_2": "./fluorescence_2.png", "stained_1": "more\\stained_1.png"}
        content["images"].append(
            {"id": i, "file_name": file.get(name, f"{name}.png"), "height": height, "width": width}
        )
        if name != "fluorescence_2":
            content["annotations"] += [
                {"image_id": i, "iscrowd": 0, "segmentation": encode(mask)}
                for mask in masks_of(name)
            ]
            crowd = encode(np.ones((height, width), bool))
            content["annotations"].append({"image_id": i, "iscrowd": 1, "segmentation": crowd})
    content["images"].append({"id": 9, "file_name": "not/here.png"})
    found = find_labelled_images(images, write_json(tmp_path / "coco.json", content))
    assert [item.path.stem for item in found] == list(NAMES)
    for item in pickle.loads(pickle.dumps(found)):
        layers = item.read_layers()
        expected = [] if item.path.stem == "fluorescence_2" else masks_of(item.path.stem)
        assert layers.shape == (1, *TRUTH[item.path.stem].shape)
        assert np.array_equal(found_masks(layers), expected)


def test_compressed_run_lengths() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        mask = rng.random(rng.integers(1, 90, 2)) < rng.random() ** 3
        mask[rng.integers(mask.shape[0]) :, rng.integers(mask.shape[1]) :] = rng.random() < 0.5
        assert decode_counts(compressed(mask)["counts"]) == uncompressed(mask)["counts"]


def test_coco_polygons(images: Path, tmp_path: Path) -> None:
    name, (height, width) = "stained_1", TRUTH["stained_1"].shape
    outlines = [polygons(mask) for mask in masks_of(name)]
    content = coco(
        [{"image_id": 1, "segmentation": outline} for outline in outlines],
        "more/stained_1.png",
        shape=(height, width),
    )
    (item,) = find_labelled_images(images, write_json(tmp_path / "coco.json", content))
    found = found_masks(item.read_layers())
    for mask, original, outline in zip(found, masks_of(name), outlines, strict=True):
        drawn = reference_rle.merge(reference_rle.frPyObjects(outline, height, width))
        assert iou(mask, original) > 0.95
        assert iou(mask, reference_rle.decode(drawn).astype(bool)) > 0.95


def test_polygons_of_several_parts_and_beyond_the_image(blank: Path, tmp_path: Path) -> None:
    parts = [[10, 5, 30, 5, 30, 25, 10, 25], [25, 20, 999, 20, 999, 888, 25, 888]]
    content = coco([{"image_id": 1, "segmentation": parts}])
    (item,) = find_labelled_images(blank, write_json(tmp_path / "coco.json", content))
    assert np.array_equal(found_masks(item.read_layers()), [SQUARE | STRIP])


@pytest.mark.parametrize("place", ["blank", "json"])
def test_sa1b_with_nested_masks(blank: Path, tmp_path: Path, place: str) -> None:
    entries = [
        {"segmentation": compressed(mask), "predicted_iou": 0.9} for mask in (INNER, STRIP, SQUARE)
    ]
    image = {"image_id": 1, "file_name": "a.png", "height": 40, "width": 60}
    write_json(tmp_path / place / "a.json", {"image": image, "annotations": entries})
    (item,) = find_labelled_images(blank, tmp_path / place)
    layers = item.read_layers()
    assert np.array_equal(found_masks(layers), [INNER, STRIP, SQUARE])
    # The largest lies in the first layer, what overlaps it beyond.
    assert layers.shape[0] == 2 and np.array_equal(layers[0] == 2, STRIP)


def test_label_studio_brush(images: Path, tmp_path: Path) -> None:
    tasks = [
        task(
            [brush(mask) for mask in masks_of(name)[:15]],
            f"http://x.org/up/0a1b2c3d-{name}.png?t=1",
        )
        for name in NAMES
    ]
    found = find_labelled_images(images, write_json(tmp_path / "project.json", tasks))
    assert [item.path.stem for item in found] == list(NAMES)
    for item in found:
        layers = item.read_layers()
        assert np.array_equal(found_masks(layers), masks_of(item.path.stem)[:15])


def test_label_studio_shapes(blank: Path, tmp_path: Path) -> None:
    in_percent = 100 / np.array([60, 40])
    corners = (np.array(polygons(INNER)[0]).reshape(-1, 2) * in_percent).tolist()
    x, y, width, height = (np.array([20, 10, 30, 12]).reshape(2, 2) * in_percent).ravel().tolist()
    box = {"x": x, "y": y, "width": width, "height": height, "rotation": 35}
    oval = {"x": x, "y": y, "radiusX": width / 2, "radiusY": height / 2, "rotation": 35}
    results = [
        region("polygonlabels", GRID.shape, points=corners),
        region("rectanglelabels", GRID.shape, **box),
        region("ellipselabels", GRID.shape, **oval),
        region("ellipselabels", GRID.shape, **{**oval, "radiusX": 0}),
        region("keypointlabels", GRID.shape, x=1, y=1, width=0.2),
        {"type": "choices", "value": {"choices": ["good"]}},
    ]
    (item,) = find_labelled_images(blank, write_json(tmp_path / "project.json", [task(results)]))
    polygon, rectangle, ellipse = found_masks(item.read_layers())
    assert np.array_equal(polygon, INNER)
    # OpenCV on a grid 16 times finer, whose pixels are then averaged; both turn clockwise.
    turn = np.deg2rad(35)
    clockwise = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.array([20, 10]) + clockwise @ [15, 6]
    fine = np.zeros((3, 640, 960), np.uint8)
    cv2.fillPoly(
        fine[0], [cv2.boxPoints(((middle * 16).tolist(), (480, 192), 35)).astype(np.int32)], 255
    )
    cv2.ellipse(fine[1], (320, 160), (240, 96), 35, 0, 360, 255, -1)
    for mask, drawn in ((rectangle, fine[0]), (ellipse, fine[1])):
        assert iou(mask, cv2.resize(drawn, (60, 40), interpolation=cv2.INTER_AREA) > 127) > 0.97


def test_label_studio_pages(tmp_path: Path) -> None:
    """Of an image with several pages, those with shapes count; all, if there are none."""
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(GRID).save(tmp_path / name)
    pages = ["/data/upload/1/a.png", "/data/upload/1/b.png", "/data/upload/1/c.png"]
    drawn = [brush(INNER), brush(STRIP) | {"item_index": 2}]
    path = tmp_path / "project.json"
    for results, expected in ((drawn, {"a.png": [INNER], "c.png": [STRIP]}), ([], None)):
        annotation = {"id": 1, "result": results}
        write_json(path, [{"id": 7, "data": {"image": pages}, "annotations": [annotation]}])
        found = {
            item.path.name: found_masks(item.read_layers())
            for item in find_labelled_images(tmp_path, path)
        }
        if expected is None:
            assert found == {"a.png": [], "b.png": [], "c.png": []}
        else:
            assert found.keys() == expected.keys()
            assert all(np.array_equal(found[name], masks) for name, masks in expected.items())


def test_label_studio_magic_wand(blank: Path, tmp_path: Path) -> None:
    wand = {**brush(INNER), "type": "magicwand"}
    (item,) = find_labelled_images(blank, write_json(tmp_path / "project.json", [task([wand])]))
    assert np.array_equal(found_masks(item.read_layers()), [INNER])


@pytest.mark.parametrize("prompt", ["keypointlabels", "rectanglelabels"])
@pytest.mark.parametrize("is_first", [False, True])
def test_label_studio_region_with_the_label_of_a_smart_tool(
    blank: Path, tmp_path: Path, prompt: str, is_first: bool
) -> None:
    """With *Keep label selected*, Label Studio 1.23 exports an accepted mask twice."""
    results = []
    for number, mask in enumerate((INNER, STRIP)):
        own = brush(mask) | {"id": f"samlet-{number}", "origin": "manual", "score": 0.8}
        value = {"format": "rle", "rle": own["value"]["rle"], prompt: ["cell"]}
        again = {**own, "from_name": "click", "type": prompt, "value": value}
        del again["score"]
        results += [again, own] if is_first else [own, again]
    point = region("keypointlabels", GRID.shape, x=70, y=20, width=0.26)
    path = write_json(tmp_path / "project.json", [task([*results, point])])
    left_out: list[str] = []
    (item,) = find_labelled_images(blank, path)
    assert np.array_equal(found_masks(item.read_layers(left_out)), [INNER, STRIP])
    assert left_out == []


def test_label_studio_shapes_under_the_type_of_a_smart_tool(blank: Path, tmp_path: Path) -> None:
    in_percent = 100 / np.array([60, 40])
    corners = (np.array(polygons(INNER)[0]).reshape(-1, 2) * in_percent).tolist()
    shapes: list[tuple[str, str, dict[str, Any]]] = [
        ("polygonlabels", "keypointlabels", {"points": corners, "closed": True}),
        ("rectanglelabels", "keypointlabels", {"x": 50, "y": 50, "width": 25, "height": 25}),
        ("ellipselabels", "rectanglelabels", {"x": 75, "y": 25, "radiusX": 10, "radiusY": 10}),
    ]
    drawn = []
    for is_prompt in (False, True):
        results = [
            region(prompt if is_prompt else own, GRID.shape, **value)
            for own, prompt, value in shapes
        ]
        path = write_json(tmp_path / f"{is_prompt}.json", [task(results)])
        drawn.append(found_masks(find_labelled_images(blank, path)[0].read_layers()))
    assert len(drawn[0]) == 3 and np.array_equal(drawn[0], drawn[1])


def test_newest_annotation_that_was_not_cancelled(blank: Path, tmp_path: Path) -> None:
    chosen = task([brush(INNER)])
    for result, time, cancelled in (
        ([brush(INNER)], "2024-05-01T10:00:00Z", False),
        ([brush(SQUARE)], "2024-05-01T10:00:00.5Z", False),
        ([brush(STRIP)], "2024-05-01T11:00:00+01:00", False),
        ([brush(STRIP)], "2024-06-01T10:00:00Z", True),
    ):
        more = {"updated_at": time, "was_cancelled": cancelled}
        chosen["annotations"].insert(0, {"result": result, **more})
    skipped = task([brush(INNER)], was_cancelled=True)
    unlabelled = {"id": 8, "data": {"image": "a.png"}, "annotations": []}
    path = write_json(tmp_path / "project.json", [chosen, skipped, unlabelled])
    assert np.array_equal(found_masks(find_labelled_images(blank, path)[0].read_layers()), [SQUARE])
    path = write_json(tmp_path / "nothing.json", [task([])])
    assert not find_labelled_images(blank, path)[0].read_layers().any()


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("a.png", "a.png"),
        ("a.png", "C:\\cells\\a.png"),
        ("a.png", "s3://bucket/cells/a.png"),
        ("a b.png", "https://x.org/up/a%20b.png?token=1"),
        ("a b (1).png", "/data/upload/3/12ab34cd-a_b_1.png"),
        ("12ab34cd-a.png", "/data/upload/3/12ab34cd-a.png"),
        ("a.png", "/data/local-files/?d=a.png"),
        ("a.png", "/data/local-files/?d=cells%5Ca.png"),
    ],
)
def test_image_names_in_label_studio(tmp_path: Path, name: str, reference: str) -> None:
    Image.fromarray(GRID).save(tmp_path / name)
    path = write_json(tmp_path / "p.json", [task([], reference), task([], "elsewhere.png")])
    assert [item.path.name for item in find_labelled_images(tmp_path, path)] == [name]


def test_tasks_of_two_images(blank: Path, tmp_path: Path) -> None:
    Image.fromarray(GRID).save(blank / "b.png")
    first, second = brush(SQUARE), {**brush(INNER), "to_name": "img-2", "source": "$right"}
    pair = task([first, second], "a.png")
    pair["data"]["right"] = "b.png"
    found = find_labelled_images(blank, write_json(tmp_path / "p.json", [pair]))
    assert [found_masks(item.read_layers())[0].sum() for item in found] == [
        SQUARE.sum(),
        INNER.sum(),
    ]


def test_pack_keeps_every_mask() -> None:
    rng = np.random.default_rng(0)
    masks = [np.zeros((50, 50), bool) for _ in range(40)]
    for mask in masks:
        (y0, y1), (x0, x1) = np.sort(rng.integers(0, 50, (2, 2)))
        mask[y0:y1, x0:x1] = rng.random((y1 - y0, x1 - x0)) < 0.7
    layers = pack_layers(iter(masks), (50, 50))
    assert np.array_equal(found_masks(layers), [mask for mask in masks if mask.any()])
    assert len(layers) < 40 and all(layer.any() for layer in layers)
    largest = max(masks, key=np.count_nonzero)
    assert any(np.array_equal(layers[0] == i, largest) for i in np.unique(layers[0]))
    assert pack_layers([], (4, 5)).shape == (1, 4, 5)
    with pytest.raises(UserError, match="does not belong"):
        pack_layers([SQUARE], (50, 50))


def test_brush_streams_of_any_groups() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        count_sizes = rng.integers(1, 9, 4)
        total, groups = 4 * 30 * 20, []
        bits = f"{total:032b}{7:05b}" + "".join(f"{n - 1:04b}" for n in count_sizes)
        while total:
            which = rng.integers(4)
            count = min(total, int(rng.integers(1, 2 ** count_sizes[which] + 1)))
            run = bool(rng.integers(2))
            words = rng.integers(0, 256, 1 if run else count)
            bits += f"{run:01b}{which:02b}{count - 1:0{count_sizes[which]}b}"
            bits += "".join(f"{word:08b}" for word in words)
            total -= count
            groups.append(count)
        packed = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
        opacity = np.reshape(reference_brush.decode_rle(packed, False), (30, 20, 4))[..., 3]
        mask = brush_rle.decode(packed, (30, 20))
        assert np.array_equal(mask, opacity > opacity.max() / 2)
        with pytest.raises(UserError, match="cut short"):
            brush_rle.decode(packed[:-2], (30, 20))
    for strength in (1, 77, 255):
        faint = bytes(brush(SQUARE, strength)["value"]["rle"])
        assert np.array_equal(brush_rle.decode(faint, GRID.shape), SQUARE)


def test_brush_masks_are_packed_as_label_studio_does() -> None:
    rng = np.random.default_rng(3)
    masks = [rng.random(rng.integers(1, 40, 2)) < rng.random() ** 2 for _ in range(100)]
    corner = GRID.astype(bool)
    corner[-1, -1] = True
    masks += [corner, GRID.astype(bool), ~GRID.astype(bool), SQUARE, SQUARE[:, 10:30]]
    # 4 x 128 x 128 words are the most that one group counts.
    masks += [np.ones((128, width), bool) for width in (127, 128, 129, 300)]
    masks += [np.zeros((128, width), bool) for width in (128, 129, 300)]
    for mask in masks:
        packed = brush_rle.encode(mask)
        rgba = np.repeat(mask.ravel() * np.uint8(255), 4)
        assert packed == list(reference_brush.encode_rle(rgba.tobytes(), 8, [3, 4, 8, 16]))
        assert np.array_equal(reference_brush.decode_rle(bytes(packed), False), rgba)
        size = (mask.shape[0], mask.shape[1])
        assert np.array_equal(brush_rle.decode(bytes(packed), size), mask)
        assert brush_rle.encode(crop_mask(mask)) == packed
    with pytest.raises(UserError, match=r"32768 x 32768 pixels is too large .* use polygons"):
        brush_rle.encode(CroppedMask(SQUARE, 0, 0, (1 << 15, 1 << 15)))


def test_turned_images(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(GRID).save(tmp_path / "a.jpg", exif=turned)
    for mask, sentence in ((SQUARE.T, None), (SQUARE, r"60 x 40 .* is 40 x 60: .*rotation")):
        content = coco(
            [{"image_id": 1, "segmentation": compressed(mask)}], "a.jpg", shape=mask.shape
        )
        (item,) = find_labelled_images(tmp_path, write_json(tmp_path / "coco.json", content))
        if sentence is None:
            assert np.array_equal(found_masks(item.read_layers()), [mask])
        else:
            with pytest.raises(UserError, match=sentence):
                item.read_layers()


SHAPE = GRID.shape
SMALL = SQUARE[:20, :20]
COCO_FAULTS: dict[str, Any] = {
    r'lists 1 image, such as "b.png", and none is below .*file_name': coco([], "b.png"),
    r"lists 0 images and none": {"images": [], "annotations": []},
    r'coco.json has no list "annotations"': {"images": []},
    r'images\[0\] of .* has no text "file_name"': {"images": [{"id": 1}], "annotations": []},
    r'images\[0\] of .* has no number "id"': {"images": [{}], "annotations": []},
    r"two images with the id 1, a.png and b.png": {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}],
        "annotations": [],
    },
    r'annotations\[0\] of .* has no number "image_id"': coco([{}]),
    r"annotations\[0\] of .* belongs to the image '7'": coco([{"image_id": 7}]),
    r'annotations\[0\] of .* has no "segmentation": .*boxes': coco([{"image_id": 1}]),
    r"annotations\[0\] of .* three or more points": coco(
        [{"image_id": 1, "segmentation": [[1, 2, 3, 4]]}]
    ),
    r"annotations\[0\] of .* cannot be read: .*add up to H x W": coco(
        [{"image_id": 1, "segmentation": {"size": [40, 60], "counts": "0123"}}]
    ),
    r"annotations\[0\] of .* cannot be read: .*damaged": coco(
        [{"image_id": 1, "segmentation": {"size": [40, 60], "counts": "01P"}}]
    ),
    r'annotations\[0\] of .* has no list "size"': coco([{"image_id": 1, "segmentation": {}}]),
    r"annotations\[0\] of .* is for 20 x 20 pixels but .*a.png is 60 x 40": coco(
        [{"image_id": 1, "segmentation": compressed(SMALL)}]
    ),
    r"images\[0\] of .* is for 9 x 8 pixels": coco([], shape=(8, 9)),
    r'images\[0\] of .* has no number "height"': {
        "images": [{"id": 1, "file_name": "a.png", "width": 60}],
        "annotations": [],
    },
    r"is the SA-1B JSON of one image: give its folder": {"image": {}, "annotations": []},
    r"is neither COCO .* nor a Label Studio export": {"shapes": []},
}
LABEL_STUDIO_FAULTS: dict[str, Any] = {
    r"has no annotation that was submitted": [task([], was_cancelled=True)],
    r"labels 1 image, such as b.png, and none is below": [task([], "b.png")],
    r"Task 7 of .* labels 0a1b2c3d-a.png as Task 7 of .* does": [task([]), task([])],
    r"Task 0 of .* JSON, not JSON-MIN": [{"image": "a.png", "label": []}],
    r'Task 7 .* annotations\[0\], has no list "result"': [{"id": 7, "annotations": [{}]}],
    r'result\[0\], has no text "type"': [task([{}])],
    r"annotations\[0\], was made at 'today'": [task([], updated_at="today")],
    r'Task 7 of .* names no image in its "data" \(text, image\)': [task([], "sound.mp3")],
    r"region r1, is on page 3, and the image has 1 page: export": [
        task([brush(SQUARE) | {"item_index": 2}])
    ],
    r"region r1, is a line and no outline of an object": [
        task([region("vectorlabels", SHAPE, vertices=[], closed=False)])
    ],
    r'region r1, has no text "imageDataURL"': [task([region("bitmasklabels", SHAPE)])],
    r'region r1, has no image in its "imageDataURL"': [
        task([region("bitmasklabels", SHAPE, imageDataURL="data:image/png;base64,AAAA")])
    ],
    r"region r1, has a bitmask that is not 60 x 40": [task([bitmask(SMALL)])],
    r'region r1, has no list "rle"': [task([region("brushlabels", SHAPE)])],
    r'region r1, has something else in its "rle" than bytes': [
        task([region("brushlabels", SHAPE, rle=["x"])])
    ],
    r"region r1, cannot be read: The brush mask is cut": [
        task([region("brushlabels", SHAPE, rle=brush(SQUARE)["value"]["rle"][:20])])
    ],
    r"region r1, cannot be read: .*1600 words of 8 bits": [
        task([{**brush(SMALL), "original_width": 60, "original_height": 40}])
    ],
    r"region r1, is for 20 x 20 pixels": [task([brush(SMALL)])],
    r"region r1, has a polygon": [task([region("polygonlabels", SHAPE, points=[[0, 1]])])],
    r'region r1, has no number "y"': [task([region("rectanglelabels", SHAPE, x=1)])],
    r"turned in Label Studio": [task([{**brush(SQUARE), "image_rotation": 90}])],
}


@pytest.mark.parametrize(
    ("sentence", "content"), [*COCO_FAULTS.items(), *LABEL_STUDIO_FAULTS.items()]
)
def test_faults_in_json(blank: Path, tmp_path: Path, sentence: str, content: Any) -> None:
    path = write_json(tmp_path / "coco.json", content)
    assert re.search(sentence, messages_of(blank, path))


def test_faults_in_folders_and_files(blank: Path, tmp_path: Path) -> None:
    def refused(place: Path, sentence: str) -> None:
        with pytest.raises(UserError, match=sentence):
            for item in find_labelled_images(blank, place):
                item.read_layers()

    refused(tmp_path / "nowhere", "neither a folder of labels nor a .json file")
    refused(tmp_path / "nowhere.json", "Cannot read .*nowhere.json")
    (tmp_path / "cut.json").write_text('{"images": [')
    refused(tmp_path / "cut.json", "cut.json is not valid JSON")
    refused(blank, r"has no label map .* or SA-1B JSON .* such as a:")

    maps = tmp_path / "maps"
    maps.mkdir()
    Image.fromarray(GRID.T).save(maps / "a.png")
    refused(maps, r"maps/a.png is for 40 x 60 pixels but .*a.png is 60 x 40")
    tifffile.imwrite(maps / "a.tif", GRID)
    refused(maps, r"a.png and .*a.tif differ only in their suffix, and both")
    (maps / "a.png").unlink()
    tifffile.imwrite(maps / "a.tif", np.full(GRID.shape, 2**31, np.uint32))
    refused(maps, "a.tif has labels up to 2147483648")
    write_json(maps / "a.json", {})
    refused(maps, "both label maps and JSON files")
    (maps / "a.tif").unlink()
    refused(maps, r'a.json is not an SA-1B JSON, as it has no object "image"')
    Image.fromarray(GRID).save(blank / "a.bmp")
    refused(maps, r"a.bmp and .*a.png differ only in their suffix")
    (blank / "b").mkdir()
    shutil.copy(blank / "a.png", blank / "b")
    refused(
        write_json(tmp_path / "p.json", [task([])]), r"Task 7 of .* may be .*a.png or .*b/a.png"
    )


@pytest.mark.parametrize(
    ("names", "references"),
    [
        (["x.png"], ["..\\..\\label-studio\\media\\upload\\4\\x.png"]),
        (["x.png"], ["..\\..\\label-studio\\media\\upload\\4\\0a1b2c3d-x.png"]),
        (["0a1b2c3d-x.png"], ["images/x.png"]),
        (["1/x.png", "2/x.png"], ["images\\1/x.png", "images\\2/x.png"]),
        (["x.png", "y.png"], ["/data/upload/4/0a1b2c3d-x.png", "C:\\cells\\y.png"]),
        (["x.png", "more/x.png"], ["x.png", "more/x.png"]),
        (["IMG 1.png"], ["https://x.org/up/IMG%201.png?t=1"]),
        (["b.png", "B.png"], ["b.png", "B.png"]),
        (["b.png"], ["B.PNG"]),
        (["Zellen-\u00fc.png"], ["Zellen-u\u0308.png"]),
    ],
)
def test_the_longest_end_of_a_path_decides(
    tmp_path: Path, names: list[str], references: list[str]
) -> None:
    for number, name in enumerate(names):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (60, 40), number).save(tmp_path / "data" / name)
    found = find_labelled_images(
        tmp_path / "data", write_json(tmp_path / "c.json", coco([], *references, "z/missing.png"))
    )
    assert sorted(found, key=lambda item: item.path) == list(found)
    assert {item.path for item in found} == {tmp_path / "data" / name for name in names}
    assert found.unmatched == ["z/missing.png"] and not found.faults and not found.unlabelled
    tasks = [task([], reference) for reference in references]
    found = find_labelled_images(tmp_path / "data", write_json(tmp_path / "p.json", tasks))
    assert len(found) == len(names)


def test_images_that_a_path_does_not_tell_apart(tmp_path: Path) -> None:
    for name in ("val/x.png", "val/1/y.png", "val/2/y.png", "val/z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GRID).save(tmp_path / name)
    # One file describes two folders, of which one is here.
    listed = coco([], "train/x.png", "val/x.png", "y.png", "0a1b2c3d-z.png", "12345678-z.png")
    found = find_labelled_images(tmp_path / "val", write_json(tmp_path / "coco.json", listed))
    assert [item.path.name for item in found] == ["x.png"]
    assert found.unmatched == ["train/x.png"]
    assert "labels y.png, which may be" in found.faults[0]
    assert re.search(
        "0a1b2c3d-z.png and 12345678-z.png, and .*z.png may be either", found.faults[1]
    )
    assert len(found.unlabelled) == 3


def test_coco_as_tools_write_it(blank: Path, tmp_path: Path) -> None:
    """Flat and nested polygons, text for numbers, no size, BOM, repeated images, specks."""
    square = [10, 5, 30, 5, 30, 25, 10, 25]
    pairs = [[10, 5], [30, 5], [30, 25], [10, 25]]
    segmentations: list[Any] = [
        square, [square], pairs, [pairs], [square, [1, 2, 3, 4]], [[*square], [7, 7]],
        compressed(SQUARE), uncompressed(SQUARE),
    ]  # fmt: skip
    annotations = [
        {"id": "1", "image_id": "1" if i % 2 else 2.0, "segmentation": segmentation}
        for i, segmentation in enumerate(segmentations)
    ]
    # CVAT calls every mask a crowd, and writes attributes.
    crowd = {"image_id": 1, "segmentation": compressed(SQUARE), "iscrowd": 1}
    annotations += [crowd | {"attributes": {"occluded": False}}, crowd]
    path = tmp_path / "coco.json"
    url = "http://images.cocodataset.org/train2017/a.png"
    for encoding, name in (("utf-8-sig", {"file_name": "a.png"}), ("utf-16", {"coco_url": url})):
        entries = [{"id": 1, "width": 0, "height": 0} | name, {"id": "2", "width": None} | name]
        content = json.dumps({"images": entries, "annotations": annotations})
        path.write_bytes(content.encode(encoding))
        (item,) = find_labelled_images(blank, path)
        left_out: list[str] = []
        masks = found_masks(item.read_layers(left_out))
        assert len(masks) == 9 and all(np.array_equal(mask, SQUARE) for mask in masks)
        assert len(left_out) == 1 and "marked iscrowd" in left_out[0]


def bad_regions() -> list[Any]:
    percent = {"x": 10, "y": 10, "width": 20, "height": 20}
    turned = region("rectanglelabels", GRID.shape, **percent)
    return [
        region("polygonlabels", GRID.shape, points=[[0, 1], [5, 5]]),
        {**turned, "image_rotation": 90},
        region("vectorlabels", GRID.shape, vertices=[]),
        region("rectanglelabels", GRID.shape, **{**percent, "x": float("nan")}),
        region("rectanglelabels", GRID.shape, **{**percent, "x": 300}),
    ]


def test_what_is_faulty_is_left_out_and_all_of_it_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png", "d.png", "e.png"):
        Image.fromarray(GRID).save(folder / name)
    (folder / "d.png").write_bytes(b"no image")
    boxes = [{"image_id": i, "bbox": [1, 2, 3, 4], "segmentation": []} for i in (1, 2)]
    good = [{"image_id": i, "segmentation": compressed(SQUARE)} for i in (1, 3, 4)]
    strays = [{"image_id": 99, "segmentation": compressed(SQUARE)}, {"segmentation": []}]
    content = coco([*boxes, *good, *strays], "a.png", "b.png", "c.png", "d.png")
    content["images"][2]["width"] = 61
    checked = check_labels(
        find_labelled_images(folder, write_json(tmp_path / "coco.json", content))
    )
    assert [item.path.name for item in checked.usable] == ["a.png"]
    assert np.array_equal(found_masks(checked.usable[0].read_layers([])), [SQUARE])
    shown = "\n".join(checked.messages())
    assert shown.startswith("4 of 5 images have labels. Without labels: e.png.")
    assert "3 whole images among them" in shown
    assert shown.count("belongs to the image '99'") == 1
    for fault in (
        r"annotations\[5\] .* belongs to the image '99'", r'annotations\[6\] .* has no number',
        r'annotations\[0\] .* has no "segmentation"', r'annotations\[1\] .* has no "segmentation"',
        r"images\[2\] of .* is for 61 x 40", r"d\.png is not an image",
    ):  # fmt: skip
        assert re.search(fault, shown), fault

    tasks = [task([*bad_regions(), brush(INNER), bitmask(SQUARE)], "a.png"), task([{}], "b.png")]
    checked = check_labels(
        find_labelled_images(folder, write_json(tmp_path / "project.json", tasks))
    )
    (item,) = checked.usable
    assert np.array_equal(found_masks(item.read_layers([])), [INNER, SQUARE])
    shown = "\n".join(checked.messages())
    for fault in (
        "three or more points", "turned in Label Studio", "is a line and no outline of an object",
        'no number "x"', "covers no pixel of its image", 'has no text "type"',
    ):  # fmt: skip
        assert fault in shown
    bad = [{**each, "id": f"r{i}"} for i in range(30) for each in bad_regions()]
    many = [task([*bad, brush(INNER)], "a.png")]
    shown = messages_of(folder, write_json(tmp_path / "many.json", many))
    assert shown.endswith("- and 130 more") and shown.count("\n") == 22


def test_label_maps_by_the_names_that_tools_give_them(tmp_path: Path) -> None:
    folder, maps = tmp_path / "images", tmp_path / "maps"
    folder.mkdir()
    maps.mkdir()
    names = {
        "a.png": "a_masks.tif", "b.jpg": "b_cp_masks.png", "c.1.png": "c.1-labels.tif",
        "d.ome.tif": "d.ome.tif", "e.ome.tif": "e.png", "f_1.png": "f_1_label.png",
        "g\u00e9.png": "ge\u0301.png", "h.png": "h_Object Identities.tif",
        "i.png": "i.png.labels.png",
        "i.jpg": "i.jpg.labels.png", "j_mask.png": "j_mask.bmp", "k.png": "l_masks.png",
        "m.png": "m.png.samlet.tif", "n.jpg": "n.samlet.tif",
    }  # fmt: skip
    for number, (image, label_map) in enumerate(names.items()):
        for path in (folder / image, maps / label_map):
            if path.suffix == ".tif":
                tifffile.imwrite(path, np.full(GRID.shape, number, np.uint8))
            else:
                Image.new("L", (60, 40), number).save(path)
    found = find_labelled_images(folder, maps)
    assert [path.name for path in found.unlabelled] == ["k.png"]
    assert found.unmatched == ["l_masks.png"] and not found.faults
    for item in found:
        assert (item.read_layers() == [*names].index(item.path.name)).all()

    for path in maps.iterdir():
        shutil.copy(path, folder)
    both = find_labelled_images(folder, folder)
    assert {item.path.name for item in both} >= {
        "a.png",
        "b.jpg",
        "f_1.png",
        "i.png",
        "i.jpg",
        "m.png",
    }
    assert not any("masks" in p.name or ".labels." in p.name for p in both.unlabelled[:-1])


@pytest.mark.parametrize("below", [True, False])
def test_label_maps_below_the_images_are_no_images(tmp_path: Path, below: bool) -> None:
    maps = tmp_path / "images" / "masks" if below else tmp_path / "masks"
    maps.mkdir(parents=True)
    (tmp_path / "images").mkdir(exist_ok=True)
    Image.fromarray(GRID).save(tmp_path / "images" / "a.png")
    Image.fromarray(GRID).save(maps / "a.png")
    found = find_labelled_images(tmp_path / "images", maps)
    assert [item.path.name for item in found] == ["a.png"] and not found.unlabelled
    # Folders that are links, as on a cluster.
    for kind in ("images", "masks"):
        (tmp_path / f"linked-{kind}").mkdir()
        (tmp_path / f"linked-{kind}" / "plate").symlink_to(
            maps if kind == "masks" else tmp_path / "images"
        )
    linked = find_labelled_images(tmp_path / "linked-images", tmp_path / "linked-masks")
    assert [item.path.name for item in linked] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a_seg.npy", b"", "a_seg.npy is in Cellpose's own format: save masks as PNG or TIFF"),
        ("a.geojson", b"{}", "a.geojson is GeoJSON, as QuPath writes it"),
        ("b.txt", b"0 0.1 0.2", "b.txt is a text: of YOLO's labels give the folder"),
        ("annotations.xml", b"<", "annotations.xml is in the format of CVAT or Pascal VOC: export"),
        ("a.jpg", b"", "a.jpg is JPEG, which changes the numbers of objects"),
        ("a.h5", b"", "a.h5 is HDF5, as ilastik writes it"),
        ("a.json", b'{"shapes": [], "imagePath": "a.png"}', "a.json is in labelme's format: "),
        ("c.json", b'{"a.png1": {"filename": "a.png", "regions": []}}', "VGG Image Annotator"),
        ("c.json", b'{"type": "FeatureCollection", "features": []}', "c.json is GeoJSON"),
        ("c.json", b'[{"type": "Feature"}]', "c.json is GeoJSON"),
        ("c.json", b'[{"image_id": 1, "segmentation": {}}]', "a list of COCO results"),
        ("c.json", b'{"images": [], "annotations": [{"segments_info": []}]}', "panoptic"),
        ("c.json", b"", "c.json is not valid JSON"),
        ("_annotations.coco.json", b"{}", "labels/_annotations.coco.json itself if it is COCO"),
    ],
)
def test_formats_that_are_not_read(
    blank: Path, tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    place = tmp_path / "labels"
    place.mkdir()
    (place / name).write_bytes(content)
    whole = name == "c.json"
    shown = messages_of(blank, place / name if whole else place)
    assert sentence in shown and "\n" not in shown.removeprefix("None of the labels can be used:\n")
