"""The engines against the plain model, and what their cache survives."""

import concurrent.futures
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import samlet
from samlet import samples
from samlet.engines import Engine, conversion, open_engine
from samlet.errors import UserError
from samlet.modeling.sam import Sam, SamConfig
from tests.models import nuclei_at

from .conftest import SMALL

ENGINES = ("torch", "openvino")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of this file's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMLET_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def model(nuclei: Sam) -> Sam:
    return nuclei


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, model: Sam) -> Engine:
    return open_engine(model, request.param)


@pytest.fixture(scope="module")
def features(model: Sam) -> torch.Tensor:
    image = samlet.images.read(samples.IMAGES / "stained_2.png")
    return samlet.Predictor(model, "torch").encode(image).features[None]


def test_both_encode_as_the_model(engine: Engine, model: Sam) -> None:
    images = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(engine.encode(images), model.image_encoder(images), atol=1e-4)


PROMPTS = {
    # Prompts, points of each, and whether each has a box and a mask.
    "point": (1, 1, False, False),
    "batch of points, some of them padding": (5, 3, False, False),
    "box": (1, 0, True, False),
    "box and points": (1, 2, True, False),
    "mask": (1, 0, False, True),
    "mask and points": (3, 1, False, True),
    "more than one batch": (40, 1, False, False),
}


@pytest.mark.parametrize("multimask_output", [True, False])
@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
def test_both_decode_as_the_model(
    engine: Engine, model: Sam, features: torch.Tensor, prompt: str, multimask_output: bool
) -> None:
    batch, count, has_box, has_mask = PROMPTS[prompt]
    random = torch.Generator().manual_seed(1)
    points = boxes = masks = None
    if count:
        coords = torch.rand(batch, count, 2, generator=random) * 500
        points = (coords, torch.randint(-1, 2, (batch, count), generator=random))
    if has_box:
        corner = torch.rand(batch, 2, generator=random) * 250
        boxes = torch.cat([corner, corner + 150], dim=1)
    if has_mask:
        masks = torch.randn(batch, 1, 128, 128, generator=random) * 5
    given = (points, boxes, masks, multimask_output)
    with torch.no_grad():
        low_res_masks, iou_predictions = model.decode(features, *given)
    found = engine.decode(engine.prepare(features), *given)
    assert torch.allclose(found[0], low_res_masks, atol=1e-3)
    assert torch.allclose(found[1], iou_predictions, atol=1e-4)


def test_nothing_asked_for_is_a_prompt_too(
    engine: Engine, model: Sam, features: torch.Tensor
) -> None:
    with torch.no_grad():
        low_res_masks, _ = model.decode(features, None, None, None, True)
    found, _ = engine.decode(engine.prepare(features))
    assert torch.allclose(found, low_res_masks, atol=1e-3)


def test_masks_are_the_same_to_the_pixel(model: Sam) -> None:
    image = samlet.images.read(samples.IMAGES / "fluorescence_2.png")
    grid = np.stack(np.meshgrid(np.arange(20, 230, 40), np.arange(20, 230, 40)), -1)
    points = grid.reshape(-1, 1, 2)
    answers = []
    for name in ENGINES:
        predictor = samlet.Predictor(model, name)
        embedding = predictor.encode(image)
        batch = predictor.segment_batch(embedding, points, np.ones(points.shape[:2]))
        answers.append(np.array([answer.masks for answer in batch]))
    assert (answers[0] == answers[1]).mean() >= 0.9999


def test_many_threads_get_their_own_answers(engine: Engine, features: torch.Tensor) -> None:
    state = engine.prepare(features)

    def ask(i: int) -> torch.Tensor:
        points = (torch.full((1, 1, 2), 20.0 * i), torch.ones(1, 1))
        return engine.decode(state, points)[0]

    alone = [ask(i) for i in range(16)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, range(16)))
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_models_with_the_same_weights_share_an_engine(model: Sam) -> None:
    engine = open_engine(model, "torch")
    assert open_engine(nuclei_at(512), "torch") is engine
    torch.manual_seed(0)
    assert open_engine(Sam(SMALL), "torch") is not engine


def test_auto_takes_what_suits(monkeypatch: pytest.MonkeyPatch, model: Sam) -> None:
    monkeypatch.delenv("SAMLET_ENGINE", raising=False)
    assert open_engine(model).name == "openvino"
    teacher = Sam(SamConfig("efficientnet_lite0", 64, tiny_vit=None)).eval()
    assert open_engine(teacher).name == "torch"
    monkeypatch.setenv("SAMLET_ENGINE", "torch")
    assert open_engine(model).name == "torch"
    monkeypatch.delenv("SAMLET_ENGINE")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert open_engine(model).name == "torch"
    with pytest.raises(UserError, match="not installed: run `pip install openvino`"):
        open_engine(model, "openvino")


def test_what_cannot_run_is_explained(model: Sam) -> None:
    with pytest.raises(UserError, match="no engine tensorrt: choose one of auto, torch, openvino"):
        open_engine(model, "tensorrt")
    with pytest.raises(UserError, match="runs on the CPU and the model is on meta"):
        open_engine(Sam(SMALL).to("meta"), "openvino")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sam:
    """A small model whose cache is empty."""
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    return Sam(SMALL).eval()


def test_it_is_converted_once(small: Sam, capfd: pytest.CaptureFixture[str]) -> None:
    folder = conversion.converted(small)
    assert "Preparing untrained for OpenVINO" in capfd.readouterr().err
    written = (folder / "encoder.xml").stat().st_mtime_ns
    assert conversion.converted(small) == folder
    assert (folder / "encoder.xml").stat().st_mtime_ns == written
    assert not capfd.readouterr().err
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("fault", ["cut", "changed", "missing", "manifest", "no manifest"])
def test_a_damaged_cache_is_made_again(small: Sam, fault: str) -> None:
    folder = conversion.converted(small)
    weights, manifest = folder / "prompt_side.bin", folder / conversion.MANIFEST
    whole = weights.read_bytes()
    if fault == "cut":
        weights.write_bytes(whole[:1000])
    elif fault == "changed":
        weights.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    elif fault == "missing":
        weights.unlink()
    elif fault == "manifest":
        manifest.write_text("{")
    else:
        manifest.unlink()
    assert conversion.converted(small) == folder
    assert weights.read_bytes() == whole
    assert set(json.loads(manifest.read_text())) == {
        f"{part}.{kind}" for part in conversion.PARTS for kind in ("xml", "bin")
    }


def test_other_weights_and_other_versions_are_kept_apart(
    small: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = conversion.converted(small)
    monkeypatch.setattr(conversion, "FORMAT", conversion.FORMAT + 1)
    assert conversion.converted(small) != folder
    monkeypatch.undo()
    with torch.no_grad():
        small.mask_decoder.iou_token.weight.add_(1)
    assert conversion.converted(small) != folder


def test_a_full_disk_is_told(small: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openvino.save_model", full)
    with pytest.raises(UserError, match=r"No space left on device.*choose the engine torch"):
        conversion.converted(small)
    assert not list(Path(conversion.cache_dir(), "engines").iterdir())
