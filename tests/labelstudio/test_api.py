"""The backend over HTTP, with the bundled model and images."""

import gc
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import ExifTags, Image

import samlet
from samlet.masks import iou
from samlet_labelstudio.images.image_resolver import TaskImage
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads
from tests.labelstudio.label_studio import free_port
from tests.models import nuclei_at, quick_nuclei

NAME = "fluorescence_2"
IMAGE = payloads.image_file(NAME)
NUCLEI = payloads.objects(NAME)
SIZE = NUCLEI[0].shape[:2]
PART_SIDE = 130
PART = payloads.png(payloads.rgb("fluorescence_3")[:PART_SIDE, :PART_SIDE])
"""A dozen small nuclei, for everything mode where the image's size does not matter."""
NUCLEUS = NUCLEI[1]
LEAST_IOU = 0.8
"""The model alone has 0.9 on these nuclei."""
WAIT_S = 600.0
"""Label Studio waits so long for /health."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return client_of(Settings(engine="auto", folder=tmp_path_factory.mktemp("backend")))


@pytest.fixture(scope="module")
def quick_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model at half its size, for what does not depend on how good it is."""
    path = tmp_path_factory.mktemp("quick") / "microscopy.safetensors"
    samlet.save(quick_nuclei(512), path)
    return path


@pytest.fixture(scope="module")
def quick_client(quick_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("backend")
    return client_of(Settings(model=str(quick_model), engine="auto", folder=folder))


def client_of(settings: Settings, most_at_once: int = 12) -> Any:
    return create_app(Service(settings), most_at_once).test_client()


def predict(client: Any, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.json
    assert Path(answer.json["model_version"]).stem == "microscopy"
    return list(answer.json["results"])


def regions_of(client: Any, drawn: list[payloads.Region], text: str | None = None) -> Any:
    (prediction,) = predict(client, payloads.request([payloads.task(IMAGE)], drawn, text))
    assert prediction["model_version"] == "microscopy" and 0.5 < prediction["score"] <= 1
    return prediction["result"]


def found(client: Any, project: str = "1", image: bytes = IMAGE, **more: Any) -> Any:
    """The pre-annotated regions of the image."""
    body = payloads.request([payloads.task(image, **more)], None, None, project)
    return predict(client, body)[0]["result"]


@pytest.fixture(scope="module")
def everything(client: Any) -> Any:
    """The same of a project without any settings."""
    return found(client, "10")


def set_up(client: Any, project: str, extra: Any) -> Any:
    body = {"project": f"{project}.1700000000", "schema": payloads.config(), "extra_params": extra}
    return client.post("/setup", json=body)


@pytest.mark.parametrize("path", ["/", "/health"])
def test_health(client: Any, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.json == {"status": "UP", "model_class": "SamletBackend"}


def test_setup(client: Any) -> None:
    answer = set_up(client, "1", None)
    assert (answer.status_code, answer.json) == (200, {"model_version": "microscopy"})
    answer = client.post("/versions", json={"project": "1.17"})
    assert (answer.status_code, answer.json) == (200, {"versions": ["microscopy"]})


def test_setup_of_a_config_that_is_useless(quick_client: Any) -> None:
    text = '<View><Image name="img" value="$image"/><Brush name="d\u00e9bris" toName="img"/></View>'
    answer = quick_client.post("/setup", json={"project": "9.17", "schema": text})
    # All that Label Studio shows of it is the first line.
    assert answer.status.startswith("400 The tag Brush ('d?bris') has no labels: use BrushLabels, ")
    assert answer.status.endswith('or add <Labels name="labels" toName="img">.')


def test_unknown_addresses(client: Any) -> None:
    for answer in (client.get("/nowhere"), client.get("/predict")):
        assert answer.status_code in (404, 405) and answer.json["error"].startswith("GET /")


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ("{", "extra parameters are not JSON"),
        ("[1]", "extra parameters are no object"),
        (7, "extra parameters are no object"),
        ({"min_score": 2}, "min_score is '2': it must be less than or equal to 1"),
        ({"min_score": "nan"}, "min_score is 'nan': it must be a finite number"),
        ({"min_score": "high"}, "extra parameter min_score is 'high': it must be a valid number"),
        ('{"min_area": -1}', "min_area is '-1': it must be greater than or equal to 0"),
        ({"max_regions": [3]}, "extra parameter max_regions is"),
        ({"tolerance": "nan"}, "tolerance is 'nan': it must be a finite number"),
        ({"tolerance": "inf"}, "tolerance is 'inf': it must be a finite number"),
    ],
)
def test_bad_extra_params(client: Any, extra: Any, sentence: str) -> None:
    answer = set_up(client, "2", extra)
    assert answer.status_code == 400
    assert sentence in answer.json["error"] and answer.json["error"].endswith(".")


def test_extra_params_are_the_projects(quick_client: Any) -> None:
    everything = len(found(quick_client, "1", PART))
    # What cannot be changed by a project is passed over.
    assert set_up(quick_client, "3", {"max_regions": 4, "max_pixels": 1}).status_code == 200
    assert set_up(quick_client, "4", '{"max_regions": "5"}').status_code == 200
    counts = [len(found(quick_client, project, PART)) for project in ("3", "4", "1")]
    assert counts == [4, 5, everything] and everything > 5
    # A mistake changes nothing; leaving them out does.
    assert set_up(quick_client, "4", "{").status_code == 400
    assert len(found(quick_client, "4", PART)) == 5
    assert set_up(quick_client, "4", None).status_code == 200
    assert len(found(quick_client, "4", PART)) == everything


def test_click(client: Any) -> None:
    for nucleus in NUCLEI[1:8]:
        (region,) = regions_of(client, [payloads.click_in(nucleus)])
        assert (region["type"], region["from_name"], region["to_name"]) == (
            "brushlabels",
            "answer",
            "img",
        )
        assert (region["original_height"], region["original_width"]) == SIZE
        assert iou(payloads.mask_of([region], SIZE), nucleus) > LEAST_IOU


@pytest.mark.parametrize("answer", payloads.ANSWERS)
def test_every_answer(client: Any, answer: str) -> None:
    regions = regions_of(client, [payloads.click_in(NUCLEUS)], payloads.config(answer))
    assert {region["type"] for region in regions} == {answer.lower()}
    # A round object fills pi / 4 of its box.
    least = 0.65 if answer == "RectangleLabels" else LEAST_IOU
    assert iou(payloads.mask_of(regions, SIZE), NUCLEUS) > least


@pytest.mark.parametrize("answer", payloads.ANSWERS)
def test_label_is_kept(client: Any, answer: str) -> None:
    for label in ("cell", "debris"):
        drawn = [payloads.click_in(NUCLEUS, label)]
        for region in regions_of(client, drawn, payloads.config(answer)):
            assert region["value"][answer.lower()] == [label]


def test_box(client: Any) -> None:
    for nucleus in NUCLEI[1:8]:
        (region,) = regions_of(client, [payloads.box_around(nucleus, "debris")])
        assert iou(payloads.mask_of([region], SIZE), nucleus) > LEAST_IOU
        assert region["value"]["brushlabels"] == ["debris"]


def two_neighbours() -> tuple[np.ndarray, np.ndarray]:
    return NUCLEI[13], NUCLEI[14]


def test_second_clicks_refine(client: Any) -> None:
    first, second = two_neighbours()
    one = payloads.click_in(first)

    def covered(*drawn: payloads.Region) -> list[float]:
        mask = payloads.mask_of(regions_of(client, list(drawn)), SIZE)
        return [float(mask[nucleus].mean()) for nucleus in (first, second)]

    alone = covered(one)
    assert alone[0] > 0.8 and alone[1] < 0.1
    assert min(covered(one, payloads.click_in(second))) > 0.5
    # On its border, to push it back.
    ys, xs = np.nonzero(first)
    edge = payloads.click(float(xs[0]), float(ys[0] + 2), SIZE, positive=False)
    smaller = covered(one, edge)
    assert 0.3 < smaller[0] < alone[0] and smaller[1] < 0.1


def test_later_clicks_go_on_from_the_mask_before(tmp_path: Path) -> None:
    first, second = two_neighbours()
    drawn = [payloads.click_in(first), payloads.click_in(second)]
    service = Service(Settings(engine="auto", folder=tmp_path))
    client = create_app(service, 2).test_client()
    regions_of(client, drawn[:1])
    shown = payloads.mask_of(regions_of(client, drawn), SIZE)
    predictor = service.models.load("microscopy")
    embedding = predictor.encode(np.asarray(Image.open(BytesIO(IMAGE)).convert("RGB")))
    points = [[d["value"]["x"] * SIZE[1] / 100, d["value"]["y"] * SIZE[0] / 100] for d in drawn]
    coords = np.array(points) - 0.5
    draft = predictor.segment(embedding, coords[:1], [1])
    expected = predictor.segment(
        embedding,
        coords,
        [1, 1],
        mask_input=draft.low_res_masks[draft.best_index],
        multimask_output=False,
    )
    assert np.array_equal(shown, expected.best)
    # A backend that has forgotten, or was started since, answers the same.
    fresh = client_of(Settings(engine="auto", folder=tmp_path))
    assert np.array_equal(payloads.mask_of(regions_of(fresh, drawn), SIZE), shown)


def test_box_and_clicks(client: Any) -> None:
    box = payloads.box_around(NUCLEUS)
    alone = payloads.mask_of(regions_of(client, [box]), SIZE)
    x, y = np.argwhere(alone)[0][::-1]
    edge = payloads.click(float(x), float(y), SIZE, "debris", positive=False)
    (region,) = regions_of(client, [box, payloads.click_in(NUCLEUS), edge])
    mixed = payloads.mask_of([region], SIZE)
    assert not np.array_equal(mixed, alone) and iou(mixed, NUCLEUS) > 0.7
    assert region["value"]["brushlabels"] == ["debris"]


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (3, Image.Transpose.ROTATE_180),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_rotated_jpeg(client: Any, orientation: int, turn: Image.Transpose) -> None:
    # Label Studio shows, and gives percents of, the picture as EXIF says it must be turned.
    name = "fluorescence_1"
    upright = Image.open(BytesIO(payloads.image_file(name))).convert("RGB")
    stored = upright.transpose(turn)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stream = BytesIO()
    stored.save(stream, "JPEG", quality=95, exif=exif)
    nucleus = payloads.objects(name)[0]
    body = payloads.request([payloads.task(stream.getvalue())], [payloads.click_in(nucleus)])
    (region,) = predict(client, body)[0]["result"]
    assert (region["original_height"], region["original_width"]) == nucleus.shape
    assert iou(payloads.mask_of([region], nucleus.shape), nucleus) > LEAST_IOU


def test_everything(everything: Any) -> None:
    regions = everything
    scores = [region["score"] for region in regions]
    assert scores == sorted(scores, reverse=True)
    assert {region["value"]["brushlabels"][0] for region in regions} == {"cell"}
    masks = [payloads.mask_of([region], SIZE) for region in regions]
    hit = sum(max(iou(nucleus, mask) for mask in masks) > 0.7 for nucleus in NUCLEI)
    assert hit > 0.7 * len(NUCLEI) and len(masks) < 1.5 * len(NUCLEI)
    # One region an object.
    shared = [iou(a, b) for i, a in enumerate(masks) for b in masks[:i]]
    assert max(shared) <= 0.5


def test_what_is_kept_of_everything(quick_client: Any) -> None:
    regions = found(quick_client, "11", PART)
    size = (PART_SIDE, PART_SIDE)
    areas = [int(payloads.mask_of([region], size).sum()) for region in regions]
    least_score, least_area = regions[len(regions) // 2]["score"], int(np.median(areas))
    expected = [
        (region["score"], region["value"]["rle"])
        for region, area in zip(regions, areas, strict=True)
        if region["score"] >= least_score and area >= least_area
    ]
    extra = {"min_score": least_score, "min_area": least_area, "label": "debris"}
    assert set_up(quick_client, "11", extra).status_code == 200
    kept = found(quick_client, "11", PART)
    assert [(region["score"], region["value"]["rle"]) for region in kept] == expected
    assert {region["value"]["brushlabels"][0] for region in kept} == {"debris"}
    assert 0 < len(kept) < len(regions)
    assert set_up(quick_client, "11", extra | {"max_regions": 2}).status_code == 200
    best = [region["score"] for region in found(quick_client, "11", PART)]
    assert best == [score for score, _ in expected[:2]]
    assert set_up(quick_client, "11", {"label": "nobody"}).status_code == 200
    answer = quick_client.post(
        "/predict", json=payloads.request([payloads.task(IMAGE)], project="11")
    )
    assert answer.status_code == 400 and "nothing to draw nobody with" in answer.json["error"]


def test_boxes_of_a_detector(
    client: Any, quick_client: Any, quick_model: Path, tmp_path: Path
) -> None:
    labels = ["debris", "cell", "debris"]
    boxes = [
        payloads.box_around(nucleus, label)
        for nucleus, label in zip(NUCLEI[1:4], labels, strict=True)
    ]
    by_score = {"score": 0.9, "result": boxes}
    regions = found(client, predictions=[by_score | {"model_version": "yolo"}])
    assert len(regions) == 3
    for nucleus, label in zip(NUCLEI[1:4], labels, strict=True):
        ious = [iou(payloads.mask_of([region], SIZE), nucleus) for region in regions]
        best = regions[int(np.argmax(ious))]
        assert max(ious) > LEAST_IOU and best["value"]["brushlabels"] == [label]
    # What samlet itself has predicted before is no reason to leave the rest out.
    own = by_score | {"model_version": str(quick_model)}
    service = Service(Settings(model=str(quick_model), engine="auto", folder=tmp_path))
    context, task = service.context("1", payloads.config()), payloads.task(IMAGE, predictions=[own])
    again = service.preannotator.preannotate(service.preannotator.prepare(context, task))
    assert len(again["result"]) == len(found(quick_client)) > 3


def test_more_boxes_than_are_answered_at_once(client: Any, quick_client: Any) -> None:
    boxes = [payloads.box_around(nucleus) for nucleus in NUCLEI[1:22]]
    given = [{"model_version": "yolo", "score": 0.9, "result": boxes}]
    regions = found(client, predictions=given)
    masks = [payloads.mask_of([region], SIZE) for region in regions]
    best = [max(iou(nucleus, mask) for mask in masks) for nucleus in NUCLEI[1:22]]
    assert len(masks) == len(boxes) and np.mean(best) > LEAST_IOU


def test_memory_of_many_boxes(tmp_path: Path) -> None:
    """A mask as large as the image for each box would be 40 times 9 MB."""
    image = np.tile(np.asarray(Image.open(BytesIO(IMAGE)).convert("RGB")), (8, 8, 1))[:3000, :3000]
    size = image.shape[:2]
    corners = [(70 * i + 5.0, 60 * i + 5.0, 70 * i + 45.0, 60 * i + 45.0) for i in range(40)]
    boxes = [payloads.box(each, size) for each in corners]
    samlet.save(nuclei_at(512), tmp_path / "zooms.safetensors")
    model = str(tmp_path / "zooms.safetensors")
    service = Service(Settings(model=model, engine="torch", folder=tmp_path))
    predictor, _ = service.models.of_project("1")
    task_image = TaskImage("a", lambda: image)
    service.preannotator.segment_boxes(predictor, task_image, boxes[:1])
    tracemalloc.start()
    try:
        masks = service.preannotator.segment_boxes(predictor, task_image, boxes)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(masks) == 40
    assert kept < 5_000_000 and most < 150_000_000


def test_one_broken_task_of_several(client: Any) -> None:
    boxes = [{"model_version": "yolo", "result": [payloads.box_around(NUCLEUS)]}]
    broken = [payloads.task(IMAGE[:2000], 2), {"id": 3, "data": {"other": "x"}}]
    good = [payloads.task(IMAGE, number, predictions=boxes) for number in (1, 4)]
    tasks = [good[0], *broken, good[1]]
    results = predict(client, payloads.request(tasks))
    assert [bool(prediction["result"]) for prediction in results] == [True, False, False, True]
    assert results[1] == {"result": [], "score": 0.0, "model_version": "microscopy"}


@pytest.mark.parametrize("drawn", [None, [payloads.click_in(NUCLEUS)]])
def test_a_broken_task_alone(client: Any, drawn: list[payloads.Region] | None) -> None:
    for broken, sentence in (
        (payloads.task(IMAGE[:2000]), "The task's data URI cannot be decoded"),
        ({"id": 3, "data": {"other": "x"}}, 'The task has no image in its data under "image"'),
    ):
        answer = client.post("/predict", json=payloads.request([broken], drawn))
        assert answer.status_code == 400
        assert answer.json["error"].startswith(sentence) and answer.json["error"].endswith(".")
        assert answer.json["detail"] == answer.json["error"]


def test_projects_at_once_are_not_mixed_up(client: Any) -> None:
    tags = [*payloads.ANSWERS, *payloads.ANSWERS[:2]]
    projects = [(str(20 + i), tag, f"label{i}") for i, tag in enumerate(tags)]
    answers = [regions_of(client, [payloads.click_in(nucleus)]) for nucleus in NUCLEI[1:6]]
    alone = [payloads.mask_of(regions, SIZE) for regions in answers]

    def send(project: tuple[str, str, str]) -> None:
        number, answer, label = project
        text = payloads.config(answer, [label])
        for nucleus, expected in zip(NUCLEI[1:6], alone, strict=True):
            drawn = [payloads.click_in(nucleus, label)]
            body = payloads.request([payloads.task(IMAGE)], drawn, text, number)
            regions = predict(client.application.test_client(), body)[0]["result"]
            assert {region["type"] for region in regions} == {answer.lower()}
            assert {region["value"][answer.lower()][0] for region in regions} == {label}
            assert iou(payloads.mask_of(regions, SIZE), expected) > 0.6

    with ThreadPoolExecutor(len(projects)) as pool:
        list(pool.map(send, projects))


def test_a_folder_that_cannot_be_written(
    quick_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "samlet"
    client = client_of(Settings(model=str(quick_model), engine="auto", folder=folder))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"Cannot write {folder} (Not a directory): images are encoded again")
    for _ in range(2):
        body = payloads.request([payloads.task(IMAGE)], [payloads.click_in(NUCLEUS)])
        (prediction,) = predict(client, body)
        assert iou(payloads.mask_of(prediction["result"], SIZE), NUCLEUS) > 0.4
    answer = client.post("/versions", json={"project": "1.17"})
    assert answer.json == {"versions": [str(quick_model)]}
    assert len(caplog.records) == 1


class SlowHost(BaseHTTPRequestHandler):
    """Gives the image only when the test allows it."""

    received = threading.Semaphore(0)
    allowed = threading.Event()

    def do_GET(self) -> None:
        self.received.release()
        assert self.allowed.wait(WAIT_S)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(IMAGE)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def slow_host() -> Iterator[str]:
    SlowHost.allowed.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowHost) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        SlowHost.allowed.set()
        server.shutdown()


def test_too_many_at_once(tmp_path: Path, slow_host: str) -> None:
    settings = Settings(engine="auto", folder=tmp_path, allowed_hosts=(slow_host,))
    app = create_app(Service(settings), 2)

    def send(number: int) -> Any:
        body = payloads.request(
            [payloads.task(f"http://{slow_host}/{number}.png")], [payloads.click_in(NUCLEUS)]
        )
        return app.test_client().post("/predict", json=body)

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(send, number) for number in (1, 2)]
        for _ in waiting:
            assert SlowHost.received.acquire(timeout=WAIT_S)
        refused = send(3)
        assert refused.status_code == 503
        busy = "The backend is busy with 2 requests, and 0 wait: try again soon."
        assert refused.json["error"] == busy
        # Both are still held by their images.
        assert app.test_client().get("/health").status_code == 200
        assert set_up(app.test_client(), "1", None).status_code == 200
        assert not any(each.done() for each in waiting)
        SlowHost.allowed.set()
        assert [each.result().status_code for each in waiting] == [200, 200]
    assert send(3).status_code == 200


@pytest.mark.slow
def test_health_while_the_server_works(quick_model: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", "from samlet_labelstudio.cli import main; main()"]
    environment = {"SAMLET_FOLDER": str(tmp_path)}
    process = subprocess.Popen(
        [*command, "--port", str(port), "--model", str(quick_model)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(url)
        answered = 0
        # This process may stand still while the requests are done: then once more.
        for attempt in range(10):
            with ThreadPoolExecutor(2) as pool:
                waiting = [
                    pool.submit(requests.post, f"{url}/predict", json=body, timeout=WAIT_S)
                    for number in range(2)
                    if (body := payloads.request([payloads.task(PART, 2 * attempt + number)]))
                ]
                while not all(each.done() for each in waiting):
                    assert requests.get(f"{url}/health", timeout=WAIT_S).ok
                    answered += not any(each.done() for each in waiting)
                assert [each.result().status_code for each in waiting] == [200] * 2
            if answered > 3:
                break
        assert answered > 3
    finally:
        process.terminate()
        process.wait(WAIT_S)


def wait_for(url: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            requests.get(f"{url}/health", timeout=5)
            return
        except requests.RequestException:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_service_that_nobody_uses_is_not_kept(tmp_path: Path) -> None:
    reference = weakref.ref(Service(Settings(folder=tmp_path)))
    gc.collect()
    assert reference() is None
