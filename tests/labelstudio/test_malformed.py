"""Requests that Label Studio would never send: each gets an answer in JSON, and harms no other."""

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import samlet
from samlet.datasets.label_studio import brush_rle
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads
from tests.models import quick_nuclei

NUCLEUS = payloads.objects("stained_1")[0]
# Everything mode, which spoiled requests come to without their prompts, is soon done with it.
SMALL = payloads.png(
    np.multiply.outer(np.arange(32, dtype=np.uint8), np.arange(40, dtype=np.uint8) % 6)
)
CLICK = payloads.click(20, 10, (32, 40))
DEEP = 100_000


def examples(count: int) -> hypothesis.settings:
    """Settings of a test; Hypothesis also draws constants of all modules that are loaded.

    So a run of all tests has other examples than a run of this file only.
    """
    return hypothesis.settings(
        max_examples=count,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("backend")
    samlet.save(quick_nuclei(), folder / "nuclei.safetensors")
    settings = Settings(
        model=str(folder / "nuclei.safetensors"),
        engine="torch",
        folder=folder,
        # Nobody is there.
        label_studio_url="http://127.0.0.1:1",
        api_key="key",
        max_pixels=1_000_000,
        max_image_mb=1,
        max_regions=5,
    )
    return create_app(Service(settings), 4).test_client()


def post(client: Any, path: str, body: Any) -> Any:
    """Send a body, JSON unless it is bytes, and check that the response is well-formed."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, data=content, content_type="application/json")
    assert isinstance(answer.json, dict), answer.data
    if answer.status_code >= 400:
        sentence = answer.json["error"]
        assert answer.status_code < 500, sentence
        assert isinstance(sentence, str) and sentence.endswith((".", "?")) and len(sentence) < 2000
    return answer


def answers_well(client: Any) -> None:
    body = payloads.request(
        [payloads.task(payloads.image_file("stained_1"))], [payloads.click_in(NUCLEUS)]
    )
    answer = post(client, "/predict", body)
    assert answer.status_code == 200 and answer.json["results"][0]["result"]


NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1e308, -1e308, float("nan"), float("inf"), 10**400, 2**63, 1e-320]),
    # OpenVINO, which other tests run in this thread, makes it flush subnormal numbers to zero, and
    # Hypothesis does not draw them then; there is one above.
    st.floats(allow_subnormal=False),
    st.integers(),
)
JUNK = st.recursive(
    st.one_of(
        st.none(), st.booleans(), NUMBERS, st.text(max_size=8), st.sampled_from(["\ud800", "\0"])
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all that is in a JSON value."""
    # Of a stroke's numbers one is like another.
    if not isinstance(value, dict | list) or len(value) > 20:
        return []
    found = []
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        found += [(*path, key), *places(each, (*path, key))]
    return found


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of a JSON value, with one place changed."""
    copy = json.loads(json.dumps(value))
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return copy


def spoiled(good: Any) -> st.SearchStrategy[Any]:
    """A good body, with one or two places gone, or with something else in them."""

    def spoil(body: Any, picks: list[tuple[int, bool, Any]]) -> Any:
        for number, is_gone, junk in picks:
            known = places(body)
            if not known:
                break

            def change(holder: Any, key: Any, is_gone: bool = is_gone, junk: Any = junk) -> None:
                if is_gone:
                    del holder[key]
                else:
                    holder[key] = junk

            body = changed(body, known[number % len(known)], change)
        return body

    pick = st.tuples(st.integers(0, 1000), st.booleans(), JUNK)
    return st.lists(pick, min_size=1, max_size=2).map(lambda picks: spoil(good, picks))


BOX = payloads.box_around(np.pad(np.ones((8, 8), bool), 12)[:, :40])
STROKE = {
    **CLICK,
    "type": "brushlabels",
    "from_name": "answer",
    "value": {"format": "rle", "rle": brush_rle.encode(np.eye(32, 40) > 0), "brushlabels": []},
}
THEIRS = {"model_version": "yolo", "score": 0.5, "result": [BOX]}
CLICKED = payloads.request([payloads.task(SMALL, 1, predictions=[THEIRS])], [CLICK, BOX, STROKE])
SET_UP = {"project": "1.17", "schema": payloads.config(), "extra_params": {"min_area": 5}}
HOOK = {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "annotation": {"result": [CLICK]}}


@examples(80)
@given(body=spoiled(CLICKED))
def test_spoiled_prompts(client: Any, body: Any) -> None:
    post(client, "/predict", body)


@examples(60)
@given(predictions=spoiled([THEIRS, THEIRS]))
def test_spoiled_boxes(client: Any, predictions: list[Any]) -> None:
    task = payloads.task(SMALL, 1, predictions=[THEIRS, *predictions])
    post(client, "/predict", payloads.request([task]))


@examples(80)
@given(body=spoiled(SET_UP))
def test_spoiled_setups(client: Any, body: Any) -> None:
    post(client, "/setup", body)


@examples(60)
@given(body=spoiled(HOOK))
def test_spoiled_webhooks(client: Any, body: Any) -> None:
    # A training would be started by this word alone.
    post(client, "/webhook", body)


@examples(40)
@given(path=st.sampled_from(["/predict", "/setup", "/webhook", "/versions"]), body=JUNK)
def test_junk(client: Any, path: str, body: Any) -> None:
    post(client, path, body)


@examples(40)
@given(path=st.sampled_from(["/predict", "/setup", "/webhook", "/versions"]), body=st.binary())
def test_no_json(client: Any, path: str, body: bytes) -> None:
    post(client, path, body)


@examples(30)
@given(project=JUNK)
def test_projects(client: Any, project: Any) -> None:
    post(client, "/versions", {"project": project})


@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook", "/versions"])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP + b"]" * DEEP,
        b'{"tasks": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        b"9" * 5000,
        b'{"project": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"",
    ],
)
def test_bodies_that_cannot_be_read(client: Any, path: str, body: bytes) -> None:
    assert post(client, path, body).status_code == 400


@pytest.mark.parametrize("extra", ["[" * DEEP, '{"a":' * DEEP, "9" * 5000, "\ud800"])
def test_extra_params_that_cannot_be_read(client: Any, extra: str) -> None:
    body = {"project": "1", "schema": payloads.config(), "extra_params": extra}
    assert post(client, "/setup", body).status_code == 400


KEYPOINTS = '<KeyPointLabels name="click" toName="img" smart="true"><Label value="cell"/>'
IMG = '<Image name="img" value="$image"/>'


@pytest.mark.parametrize(
    "text",
    [
        "<View>",
        "<View/>",
        f"<View>{IMG}</View>",
        f"<View>{IMG}{KEYPOINTS}</KeyPointLabels></View>",
        f"<View>{IMG}<!-- a comment --><BrushLabels/><Label/></View>",
        f'<View>{IMG}<BrushLabels name="a"/><Unknown toName="img"/></View>',
        f'<View>{IMG}<BrushLabels name="a" toName="img"><Label/></BrushLabels></View>',
        f'<View>{IMG}<Text name="t"/><Choices name="c" toName="img"/></View>',
        f'<View><Image name="other" value="$b"/>{KEYPOINTS}</KeyPointLabels></View>',
        '<?xml version="1.0" encoding="utf-8"?>' + payloads.config(),
        '<?xml version="1.0" encoding="utf-16"?>' + payloads.config(),
        '<?xml version="1.0" encoding="nothing"?>' + payloads.config(),
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>" + payloads.config(),
        "<View>" * DEEP + "</View>" * DEEP,
        "<View>" * 1000 + IMG + "</View>" * 1000,
        f'<View>{IMG}<Label value="{"x" * 100_000}"/></View>',
        "\ud800",
        "\0",
    ],
)
def test_labeling_configs(client: Any, text: str) -> None:
    post(client, "/setup", {"project": "1", "schema": text})
    answer = post(client, "/predict", payloads.request([payloads.task(SMALL)], [CLICK], text))
    assert answer.status_code == 400 or "<?xml" in text


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_declaring(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(content: bytes) -> str:
    return payloads.data_uri(content)


BROKEN = {
    "nothing": encoded(b""),
    "one byte": encoded(b"\x89"),
    "text": encoded(b"This is no image, but a text."),
    "html": encoded(b"<!doctype html><title>Log in</title>"),
    "cut short": encoded(SMALL[: len(SMALL) // 2]),
    "only its signature": encoded(SMALL[:8]),
    "a flipped bit": encoded(SMALL[:60] + bytes([SMALL[60] ^ 255]) + SMALL[61:]),
    "huge": encoded(png_declaring(100_000, 100_000)),
    "huger": encoded(png_declaring(2**31 - 1, 2**31 - 1)),
    "larger than it is": encoded(png_declaring(900, 900)),
    "without pixels": encoded(png_declaring(0, 0)),
    "a bomb": encoded(payloads.png(np.zeros((20_000, 20_000), np.uint8))),
    "jpeg": encoded(b"\xff\xd8\xff\xe0" + b"\0" * 50),
    "tiff": encoded(b"II*\0" + b"\xff" * 50),
    "tiff without end": encoded(b"II*\0\x08\0\0\0" + b"\x01\0" * 50),
    "gif": encoded(b"GIF89a" + b"\xff" * 50),
    "bmp": encoded(b"BM" + b"\xff" * 50),
    "webp": encoded(b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\xff" * 50),
    "wrong base64": "data:image/png;base64,!!!!",
    "cut base64": encoded(SMALL)[:-1],
    "no comma": "data:image/png;base64",
    "bytes without base64": "data:image/png," + "%89PNG",
    "surrogates": "data:image/png,\ud800",
    "nobody": "/data/upload/1/a.png",
    "nobody's cloud": "s3://bucket/a.png",
    "forbidden": "http://169.254.169.254/latest/meta-data/",
    "file": "file:///etc/passwd",
    "odd": "http://[::1",
    "bare": "a.png",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_images(client: Any, name: str) -> None:
    for drawn in ([CLICK], None):
        answer = post(client, "/predict", payloads.request([payloads.task(BROKEN[name])], drawn))
        assert answer.status_code == 400
        if "more than the limit" in answer.json["error"]:
            assert answer.json["error"].endswith(", or raise the limit with SAMLET_MAX_PIXELS.")
    # Numbers of their own: another test's task of the same may still be in work.
    number = 100 + 2 * list(BROKEN).index(name)
    several = [payloads.task(BROKEN[name], number), payloads.task(BROKEN[name], number + 1)]
    answer = post(client, "/predict", payloads.request(several))
    assert [each["result"] for each in answer.json["results"]] == [[], []]


@examples(30)
@given(
    content=st.binary(max_size=200), start=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"II*\0", b""])
)
def test_random_images(client: Any, content: bytes, start: bytes) -> None:
    body = payloads.request([payloads.task(start + content)], [CLICK])
    assert post(client, "/predict", body).status_code == 400


@examples(40)
@given(x=NUMBERS, y=NUMBERS, width=NUMBERS, height=NUMBERS, rotation=NUMBERS)
def test_numbers(client: Any, x: Any, y: Any, width: Any, height: Any, rotation: Any) -> None:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
    box = {**BOX, "value": {**value, "rectanglelabels": ["cell"]}}
    point = {**CLICK, "value": {"x": x, "y": y, "keypointlabels": ["cell"]}}
    post(client, "/predict", payloads.request([payloads.task(SMALL)], [box, point]))
    theirs = [{"model_version": "yolo", "result": [box]}]
    post(client, "/predict", payloads.request([payloads.task(SMALL, 1, predictions=theirs)]))


@examples(40)
@given(rle=st.lists(st.integers(0, 255), max_size=60) | JUNK)
def test_strokes(client: Any, rle: Any) -> None:
    # 40 x 32 pixels are announced, as in a good one.
    start = list((40 * 32 * 4).to_bytes(4, "big")) if isinstance(rle, list) else []
    stroke = {**STROKE, "value": {"format": "rle", "rle": start + rle if start else rle}}
    post(client, "/predict", payloads.request([payloads.task(SMALL)], [stroke]))


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (2, 3)])
@pytest.mark.parametrize("answer", payloads.ANSWERS)
def test_tiny_images(client: Any, size: tuple[int, int], answer: str) -> None:
    task = payloads.task(payloads.png(np.full((*size, 3), 100, np.uint8)))
    drawn = [payloads.click(0, 0, size)]
    post(client, "/predict", payloads.request([task], drawn, payloads.config(answer)))


def test_too_long_a_request(client: Any) -> None:
    answer = client.post("/predict", data=b" " * 100_000_001, content_type="application/json")
    assert answer.status_code in (400, 413) and answer.json["error"]


def test_afterwards_all_is_well(client: Any) -> None:
    # The last in this file; each test before has used the same service.
    answers_well(client)
    assert client.get("/health").status_code == 200
