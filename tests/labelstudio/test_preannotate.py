"""Folders that are pre-annotated from the command line: stopped, changed, and gone on with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import samlet
from samlet.engines import precision
from samlet.errors import UserError
from samlet_labelstudio.bulk.folder import PARTIAL, preannotate_folder
from samlet_labelstudio.images.image_resolver import open_file
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads
from tests.models import quick_nuclei

NAMES = ("a.png", "b.png", "c.png")
PREFIX = "/data/local-files/?d="


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two small models of the same encoder; the second one's decoder is another."""
    folder = tmp_path_factory.mktemp("models")
    model = quick_nuclei()
    samlet.save(model, folder / "one.safetensors")
    for weights in model.mask_decoder.iou_prediction_head.parameters():
        weights.data *= 0.9
    samlet.save(model, folder / "two.safetensors")
    return folder / "one.safetensors", folder / "two.safetensors"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Parts of a bundled image, each another one."""
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.asarray(Image.open(payloads.IMAGES / "fluorescence_2.png"))
    for number, name in enumerate(NAMES):
        Image.fromarray(pixels[40 * number : 40 * number + 110, :110]).save(folder / name)
    return folder


def service_of(tmp_path: Path, model: Path, **more: Any) -> Service:
    return Service(Settings(model=str(model), engine="torch", folder=tmp_path / "data", **more))


def run(service: Service, images: Path, labels: str = "cell", prefix: str = PREFIX) -> Any:
    out = images.parent / "tasks.json"
    preannotate_folder(service, images, out, labels.split(","), prefix, workers=2)
    return json.loads(out.read_text())


def stop_before(service: Service, images: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Stop a run before its last image; and how many images are done."""
    real = service.preannotator.preannotate

    def until_the_last(prepared: Any, image: Any) -> Any:
        if image.hash == file_hash(images / NAMES[-1]):
            raise KeyboardInterrupt
        return real(prepared, image)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(service.preannotator, "preannotate", until_the_last)
        run(service, images)
    lines = (images.parent / f"tasks.json{PARTIAL}").read_text().splitlines()
    return sum(line.startswith("[") for line in lines)


def file_hash(path: Path) -> str:
    return open_file(path, 10**8).hash


def counted(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that a service looks at from now on, by their hashes."""
    seen: list[str] = []
    real = service.preannotator.preannotate

    def preannotate(prepared: Any, image: Any) -> Any:
        seen.append(image.hash)
        return real(prepared, image)

    monkeypatch.setattr(service.preannotator, "preannotate", preannotate)
    return seen


def scores(tasks: Any) -> list[Any]:
    return [[r["score"] for r in task["predictions"][0]["result"]] for task in tasks]


def drawn(tasks: Any) -> list[Any]:
    """All but the numbers that regions get by chance."""
    return [
        [{k: v for k, v in r.items() if k != "id"} for r in task["predictions"][0]["result"]]
        for task in tasks
    ]


def test_it_goes_on_where_it_stopped(
    tmp_path: Path, images: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = drawn(run(service_of(tmp_path, models[0]), images))
    assert not list(tmp_path.glob(f"*{PARTIAL}"))
    service = service_of(tmp_path, models[0])
    assert stop_before(service, images, monkeypatch) == 2
    part = tmp_path / f"tasks.json{PARTIAL}"
    # As a power cut leaves it.
    part.write_text(part.read_text() + '["b.png", "')
    seen = counted(service, monkeypatch)
    # Where Label Studio finds the images changes no prediction.
    tasks = run(service, images, prefix="http://host/")
    assert seen == [file_hash(images / NAMES[-1])]
    assert drawn(tasks) == expected and sum(map(len, expected)) > 1
    assert [task["data"]["image"] for task in tasks] == [f"http://host/{name}" for name in NAMES]
    assert not part.exists()


@pytest.mark.parametrize("changed", ["model", "retrained", "precision", "label", "score", "file"])
def test_nothing_else_is_mixed_in(
    changed: str,
    tmp_path: Path,
    images: Path,
    models: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(models[0].read_bytes())
    assert stop_before(service_of(tmp_path, model), images, monkeypatch) == 2
    labels, more, again = "cell", dict[str, Any](), 2
    if changed == "model":
        model = models[1]
    elif changed == "retrained":
        model.write_bytes(models[1].read_bytes())
    elif changed == "precision":
        monkeypatch.setattr(precision, "computes_in_bfloat16", lambda device_type: True)
        more = {"precision": "bfloat16"}
    elif changed == "label":
        labels = "nucleus,cell"
    elif changed == "score":
        more = {"min_score": 0.7}
    else:
        (images / "b.png").write_bytes((images / "c.png").read_bytes())
        again = 0
    service = service_of(tmp_path, model, **more)
    tasks = run(service, images, labels)
    (tmp_path / "fresh").mkdir()
    fresh = run(service_of(tmp_path / "fresh", model, **more), images, labels)
    assert drawn(tasks) == drawn(fresh)
    assert {task["predictions"][0]["model_version"] for task in tasks} == {str(model)}
    assert {task["meta"]["samlet"]["precision"] for task in tasks} == {
        more.get("precision", "float32")
    }
    warnings = [r.getMessage() for r in caplog.records if "are done again" in r.getMessage()]
    assert len(warnings) == bool(again) and all(
        f"{again} images were done with" in t for t in warnings
    )


def test_going_back_loses_nothing(
    tmp_path: Path, images: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in models:
        assert stop_before(service_of(tmp_path, model), images, monkeypatch) % 2 == 0
    service = service_of(tmp_path, models[0])
    seen = counted(service, monkeypatch)
    run(service, images)
    assert len(seen) == 1


def test_one_that_fails_is_left_out(
    tmp_path: Path,
    images: Path,
    models: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = service_of(tmp_path, models[0])
    real = service.preannotator.preannotate

    def but_the_second(prepared: Any, image: Any) -> Any:
        if image.hash == file_hash(images / "b.png"):
            raise RuntimeError("of a library")
        return real(prepared, image)

    monkeypatch.setattr(service.preannotator, "preannotate", but_the_second)
    out = tmp_path / "tasks.json"
    count, failed = preannotate_folder(service, images, out, ["cell"], PREFIX, 2)
    assert count == 2 and len(json.loads(out.read_text())) == 2
    assert failed == [
        "b.png: samlet failed (RuntimeError); the traceback is above. Please report it."
    ]
    assert "of a library" in caplog.text


@pytest.mark.parametrize("name", ["tasks.xml", "tasks.PNG", "folder"])
def test_what_would_be_lost_at_the_end_is_refused_at_once(
    name: str, tmp_path: Path, images: Path, models: tuple[Path, Path]
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"cannot become the tasks to import: give --out"):
        preannotate_folder(
            service_of(tmp_path, models[0]), images, tmp_path / name, ["cell"], PREFIX, 1
        )
