"""The precision of the image encoder: what it changes, what not, and who chooses it."""

import copy
import logging
import platform
from pathlib import Path

import numpy as np
import pytest
import torch

import samlet
from samlet import samples
from samlet.engines import Engine, open_engine, precision
from samlet.engines.precision import choose_precision, computes_in_bfloat16
from samlet.errors import UserError
from samlet.masks import box_xyxy, from_label_map, iou
from samlet.modeling.sam import Sam
from samlet.outputs import read_label_map
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.embedding_cache import EmbeddingCache

CPU = torch.device("cpu")


@pytest.fixture
def without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda device_type: False)


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable decides what "auto" means."""
    monkeypatch.delenv("SAMLET_PRECISION")


@pytest.fixture(params=["torch", "openvino"])
def engine_name(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino" and not computes_in_bfloat16("cpu"):
        pytest.skip("without bfloat16 in the processor, OpenVINO may use float32 instead")
    return request.param


@pytest.fixture
def both(engine_name: str, nuclei: Sam, with_bfloat16: None) -> tuple[Engine, Engine]:
    """In float32 and in bfloat16."""
    return open_engine(nuclei, engine_name, "float32"), open_engine(nuclei, engine_name, "bfloat16")


@pytest.fixture
def image() -> np.ndarray:
    return samlet.images.read(samples.IMAGES / "stained_2.png")


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="reads /proc/cpuinfo"
)
@pytest.mark.parametrize("can_ask", [True, False], ids=["PyTorch", "OpenVINO"])
def test_the_processor_is_asked(can_ask: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    if not can_ask:
        # As in older versions of PyTorch.
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        if "avx_ne_convert" in flags:
            pytest.skip("OpenVINO counts processors that only convert to bfloat16")
    computes_in_bfloat16.cache_clear()
    assert computes_in_bfloat16("cpu") == ("avx512_bf16" in flags)
    computes_in_bfloat16.cache_clear()


@pytest.mark.usefixtures("with_bfloat16", "unset")
def test_auto_takes_bfloat16_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    precision._log_choice.cache_clear()
    caplog.set_level(logging.INFO, "samlet")
    assert [choose_precision(name, CPU) for name in ("bfloat16", "float32")] == [
        "bfloat16",
        "float32",
    ]
    assert not caplog.messages
    assert choose_precision("auto", CPU) == choose_precision("auto", CPU) == "bfloat16"
    (message,) = caplog.messages
    assert "encoded in bfloat16" in message and "SAMLET_PRECISION=float32" in message
    monkeypatch.setenv("SAMLET_PRECISION", "float32")
    assert choose_precision("auto", CPU) == "float32"
    assert choose_precision("bfloat16", CPU) == "bfloat16"


@pytest.mark.usefixtures("without_bfloat16", "unset")
def test_without_bfloat16(monkeypatch: pytest.MonkeyPatch, small_model: Sam) -> None:
    assert choose_precision("auto", CPU) == "float32"
    with pytest.raises(UserError, match="processor does not compute in bfloat16"):
        samlet.Predictor(small_model, "torch", precision="bfloat16")
    monkeypatch.setenv("SAMLET_PRECISION", "bfloat16")
    with pytest.raises(UserError, match="choose the precision float32, or auto"):
        open_engine(small_model, "torch")


def test_unknown_names_are_explained(small_model: Sam) -> None:
    with pytest.raises(UserError, match="no precision half: choose one of auto, float32, bfloat16"):
        samlet.SamPredictor(small_model, precision="half")


def test_only_the_encoder_computes_in_it(both: tuple[Engine, Engine], nuclei: Sam) -> None:
    single, half = both
    assert (single.precision, half.precision) == ("float32", "bfloat16") and single is not half
    pixels = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    expected = single.encode(pixels)
    found = half.encode(pixels)
    assert found.dtype == torch.float32
    # bfloat16 has 8 significant bits, so a sum is off by up to 0.4 %.
    error = (found - expected).square().mean() / expected.square().mean()
    assert 1e-3 < error.sqrt() < 0.05
    points = (torch.tensor([[[100.0, 120.0]]]), torch.ones(1, 1))
    masks, scores = zip(
        *(engine.decode(engine.prepare(expected), points) for engine in both), strict=True
    )
    assert torch.equal(*masks) and torch.equal(*scores)


def test_masks_are_as_good(both: tuple[Engine, Engine], nuclei: Sam, image: np.ndarray) -> None:
    """Of boxes around labelled nuclei; by the labels, and by each other."""
    truth = [m for _, m in from_label_map(read_label_map(samples.LABELS / "stained_2.png"))][:10]
    boxes = np.array([box_xyxy(mask) for mask in truth])
    single, half = (
        [
            prediction.best
            for prediction in predictor.segment_batch(
                predictor.encode(image), boxes=boxes, multimask_output=False
            )
        ]
        for predictor in (samlet.Predictor(nuclei, engine) for engine in both)
    )
    assert np.mean([iou(a, b) for a, b in zip(single, half, strict=True)]) > 0.97
    means = [np.mean([iou(a, b) for a, b in zip(m, truth, strict=True)]) for m in (single, half)]
    assert means[0] - means[1] < 0.01


@pytest.mark.usefixtures("with_bfloat16")
def test_all_that_predicts_takes_it(small_model: Sam, image: np.ndarray) -> None:
    predictor = samlet.Predictor(small_model, "torch", True, "bfloat16")
    assert predictor.zoom is not None
    assert predictor.zoom._half.engine.precision == "bfloat16"
    assert copy.deepcopy(predictor).engine is predictor.engine
    drop_in = samlet.SamPredictor(small_model, "torch", precision="bfloat16")
    drop_in.set_image(image)
    embedding = predictor.encode(image)
    assert torch.equal(drop_in.get_image_embedding()[0], embedding.features)
    generator = samlet.SamAutomaticMaskGenerator(small_model, precision="bfloat16")
    assert generator.predictor.engine is predictor.engine
    with pytest.raises(UserError, match="Give the precision to the Predictor"):
        samlet.SamAutomaticMaskGenerator(predictor, precision="float32")
    with pytest.raises(UserError, match="engine that was given encodes in bfloat16"):
        samlet.Predictor(small_model, predictor.engine, precision="float32")
    assert samlet.Predictor(small_model, predictor.engine).engine is predictor.engine


@pytest.mark.usefixtures("with_bfloat16")
def test_embeddings_name_it_and_are_not_mixed_up(
    small_model: Sam, image: np.ndarray, tmp_path: Path
) -> None:
    found = {}
    for name in ("float32", "bfloat16", "float32"):
        predictor = samlet.Predictor(small_model, "torch", precision=name)
        # A new cache each time, so that the files are what is read.
        cache = EmbeddingCache(tmp_path, 1 << 30, 1 << 30)
        found[name] = cache.get(predictor, "a", lambda: image)
        assert found[name].precision == name
        assert torch.equal(found[name].features, predictor.encode(image).features)
    assert len(list(tmp_path.iterdir())) == 2
    assert not torch.equal(found["float32"].features, found["bfloat16"].features)
    found["bfloat16"].save(tmp_path / "saved.safetensors")
    assert ImageEmbedding.load(tmp_path / "saved.safetensors").precision == "bfloat16"
