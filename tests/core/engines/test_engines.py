"""The engines against the plain model, and what their cache survives."""

import concurrent.futures
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

import samlet
from samlet import samples
from samlet.engines import Engine, conversion, open_engine
from samlet.engines.openvino_engine import OpenVINOEngine
from samlet.errors import UserError
from samlet.modeling.efficientvit import EfficientViTConfig
from samlet.modeling.instance_decoder import InstanceDecoderConfig
from samlet.modeling.repvit import REPVITS
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.sam_vit import SamViTConfig
from tests.core.conftest import SMALL
from tests.disks import small_disk
from tests.models import nuclei_at

ENGINES = ("torch", "openvino")
SMALL_EFFICIENTVIT = EfficientViTConfig((16, 16, 32, 32, 32), (1, 1, 1, 1, 1), 1)


@pytest.fixture(scope="module")
def model(nuclei: Sam) -> Sam:
    return nuclei


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, model: Sam) -> Engine:
    return open_engine(model, request.param)


@pytest.fixture(params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    return request.param


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
    grid = np.stack(np.meshgrid(np.arange(20, 230, 60), np.arange(20, 230, 60)), -1)
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


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SamConfig("repvit", 64, None, repvit=REPVITS["edge_sam"]), "openvino"),
        (SamConfig("efficientvit", 64, None, efficientvit=SMALL_EFFICIENTVIT), "openvino"),
        (SamConfig("sam_vit", 64, None, sam_vit=SamViTConfig(32, 1, 2, ())), "torch"),
    ],
)
def test_auto_converts_light_encoders(
    monkeypatch: pytest.MonkeyPatch, config: SamConfig, expected: str
) -> None:
    class Opened:
        def __init__(self, model: Sam, name: str, precision: str) -> None:
            self.name = name

    monkeypatch.delenv("SAMLET_ENGINE", raising=False)
    monkeypatch.setattr("samlet.engines._create", Opened)
    assert open_engine(Sam(config).eval()).name == expected


def test_what_cannot_run_is_explained(model: Sam) -> None:
    with pytest.raises(UserError, match="no engine tensorrt: choose one of auto, torch, openvino"):
        open_engine(model, "tensorrt")
    with pytest.raises(UserError, match="runs on the CPU and the model is on meta"):
        open_engine(Sam(SMALL).to("meta"), "openvino")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, which is not there yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SAMLET_CACHE", str(folder))
    return folder


@pytest.fixture
def small() -> Sam:
    torch.manual_seed(0)
    return Sam(SMALL).eval()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache folder after `small` was converted."""
    folder = tmp_path_factory.mktemp("prepared")
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMLET_CACHE", str(folder))
        conversion.converted(Sam(SMALL).eval())
    return folder


def folder_of(model: Sam) -> Path:
    (folder,) = {Path(path).parent for path in conversion.converted(model).values()}
    return folder


@pytest.mark.usefixtures("cache")
def test_it_is_converted_once(small: Sam, capfd: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(small)
    assert "Preparing untrained for OpenVINO" in capfd.readouterr().err
    written = (folder / "encoder.xml").stat().st_mtime_ns
    assert folder_of(small) == folder
    assert (folder / "encoder.xml").stat().st_mtime_ns == written
    assert not capfd.readouterr().err
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    # Others on this machine or cluster may read it, as far as the umask goes.
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777


def test_processes_that_start_together_convert_once(small: Sam, cache: Path) -> None:
    """One that opened the graphs while the other replaced them found none."""
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        # Each opens the lock file for itself, as two processes do.
        folders = list(threads.map(lambda _: folder_of(small), range(2)))
    first = {path.name: path.stat().st_ino for path in folders[0].iterdir()}
    assert folders[0] == folders[1] == folder_of(small)
    lock = FileLock(cache / "locks" / f"{folders[0].name}.lock")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        with lock:
            (folders[0] / conversion.MANIFEST).rename(cache / "kept")
            waiting = threads.submit(folder_of, small)
            assert concurrent.futures.wait([waiting], timeout=0.5).not_done
            (cache / "kept").rename(folders[0] / conversion.MANIFEST)
        assert waiting.result() == folders[0]
    assert {path.name: path.stat().st_ino for path in folders[0].iterdir()} == first


@pytest.mark.usefixtures("cache")
def test_a_thread_leaves_converting_to_a_process(
    small: Sam, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracing would hold up the window or the server whose thread it is."""
    (expected,) = (prepared / "engines").iterdir()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        with monkeypatch.context() as patch:
            patch.setattr(conversion, "graphs", lambda model: pytest.fail("traced in the thread"))
            folder = threads.submit(folder_of, small).result()
        for weights in expected.glob("*.bin"):
            assert (folder / weights.name).read_bytes() == weights.read_bytes()
        # Where Python is part of another program.
        shutil.rmtree(folder)
        monkeypatch.setattr(sys, "executable", str(folder / "none"))
        assert threads.submit(folder_of, small).result() == folder and folder.is_dir()


def test_an_instance_decoder_is_kept_with_the_rest(small: Sam, cache: Path, prepared: Path) -> None:
    small.set_instance_decoder(InstanceDecoderConfig())
    graphs = conversion.converted(small)
    assert list(graphs) == [*conversion.PARTS, conversion.INSTANCE_DECODER]
    assert all(Path(str(graph)).is_file() for graph in graphs.values())
    # Another model than without it.
    shutil.copytree(prepared / "engines", cache / "engines", dirs_exist_ok=True)
    small.set_instance_decoder(None)
    assert folder_of(small) not in {Path(str(graph)).parent for graph in graphs.values()}


@pytest.mark.parametrize("fault", ["cut", "changed", "missing", "manifest", "no manifest"])
def test_a_damaged_cache_is_made_again(small: Sam, fault: str, cache: Path, prepared: Path) -> None:
    shutil.copytree(prepared, cache)
    folder = folder_of(small)
    weights, manifest = folder / "prompt_branch.bin", folder / conversion.MANIFEST
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
    assert folder_of(small) == folder
    assert weights.read_bytes() == whole
    assert set(json.loads(manifest.read_text())) == {
        f"{part}.{kind}" for part in conversion.PARTS for kind in ("xml", "bin")
    }


def test_other_weights_and_other_versions_are_kept_apart(
    small: Sam, cache: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(prepared, cache)
    folder = folder_of(small)
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "FORMAT", conversion.FORMAT + 1)
        assert folder_of(small) != folder
    with torch.no_grad():
        small.mask_decoder.iou_token.weight.add_(1)
    assert folder_of(small) != folder


@pytest.mark.parametrize("fault", ["full", "no folder"])
def test_a_cache_that_cannot_be_written_costs_one_line(
    small: Sam,
    fault: str,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with contextlib.ExitStack() as stack:
        if fault == "full":
            cache = stack.enter_context(small_disk(tmp_path / "disk"))
        else:
            cache.write_text("a file in its place")
        monkeypatch.setenv("SAMLET_CACHE", str(cache))
        predictor = samlet.Predictor(small, "openvino")
        told = capfd.readouterr().err.splitlines()
        assert len(told) == 2 and "prepared at every start" in told[1] and str(cache) in told[1]
        assert not cache.is_dir() or not list((cache / "engines").iterdir())
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    found, expected = (
        each.segment(each.encode(image), [[60, 45]], [1]).low_res_masks
        for each in (predictor, samlet.Predictor(small, "torch"))
    )
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_it_is_a_snapshot(engine_name: str) -> None:
    """The weights of one model change; another, with the weights of before, shares its engine."""
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(Sam(SMALL).eval())
    first = samlet.Predictor(models[0], engine_name)
    embedding = first.encode(image)
    before = first.segment(embedding, [[60, 45]], [1]).low_res_masks
    with torch.no_grad():
        for parameter in models[0].parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    for predictor in (first, samlet.Predictor(models[1], engine_name)):
        after = predictor.segment(predictor.encode(image), [[60, 45]], [1]).low_res_masks
        np.testing.assert_array_equal(before, after)
        mask = predictor.segment(embedding, [[60, 45]], [1], mask_input=before[:1]).low_res_masks
    np.testing.assert_array_equal(
        mask, first.segment(embedding, [[60, 45]], [1], mask_input=before[:1]).low_res_masks
    )
    changed = samlet.Predictor(models[0], engine_name)
    found = changed.segment(changed.encode(image), [[60, 45]], [1]).low_res_masks
    assert np.abs(found - before).max() > 0.1


def test_memory_by_what_runs_at_once_not_by_threads_that_ever_were() -> None:
    torch.manual_seed(0)
    engine = open_engine(Sam(SMALL).eval(), "openvino")
    assert isinstance(engine, OpenVINOEngine)
    pixels = torch.rand(1, 3, 128, 128)
    for _ in range(10):
        thread = threading.Thread(target=engine.encode, args=(pixels,))
        thread.start()
        thread.join()
    assert len(engine._encoder._idle) == 1


def test_one_images_state_keeps_nobody_waiting(model: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight annotators: a new image is prepared while clicks on another are answered."""
    predictor = samlet.Predictor(model, "torch", zoom=False)
    image = samlet.images.read(samples.IMAGES / "fluorescence_2.png")
    old, new = predictor.encode(image), predictor.encode(image)
    predictor.segment(old, [[50, 50]], [1])
    prepare, preparing, go_on = predictor.engine.prepare, threading.Event(), threading.Event()

    def slow(features: torch.Tensor) -> object:
        preparing.set()
        assert go_on.wait(30)
        return prepare(features)

    monkeypatch.setattr(predictor.engine, "prepare", slow)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(predictor.segment, new, [[50, 50]], [1])
        assert preparing.wait(30)
        pool.submit(predictor.segment, old, [[50, 50]], [1]).result(timeout=30)
        assert not waiting.done()
        go_on.set()
        waiting.result(timeout=30)


IN_ANOTHER_PROCESS = """
import copy, multiprocessing, sys
import numpy as np, torch
import samlet
from samlet.modeling.sam import Sam
from tests.core.conftest import SMALL

image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)

def answer(predictor, embedding=None):
    if isinstance(predictor, samlet.SamPredictor):
        return predictor.predict(np.array([[60, 45]]), np.array([1]))[2]
    if isinstance(predictor, samlet.SamAutomaticMaskGenerator):
        return np.array([record["predicted_iou"] for record in predictor.generate(image)])
    embedding = embedding or predictor.encode(image)
    return predictor.segment(embedding, [[60, 45]], [1]).low_res_masks

def jobs_of(model, engine):
    # A model of its own is converted for zooming, which takes seconds in each process.
    predictor = samlet.Predictor(model, engine, zoom=engine == "torch")
    drop_in = samlet.SamPredictor(model, engine)
    drop_in.set_image(image)
    generator = samlet.SamAutomaticMaskGenerator(
        model, points_per_side=2, pred_iou_thresh=0, stability_score_thresh=0, engine=engine
    )
    return [(predictor,), (predictor, predictor.encode(image)), (drop_in,), (generator,)]

if __name__ == "__main__":
    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = Sam(SMALL).eval()
    jobs = [job for engine in ("torch", "openvino") for job in jobs_of(model, engine)]
    here = [answer(*job) for job in jobs]
    # Starting a process anew takes seconds; elsewhere than on Linux, threads make forks unsafe.
    for method, processes in (("fork", 2), ("spawn", 1))[sys.platform != "linux" :]:
        with multiprocessing.get_context(method).Pool(processes) as pool:
            there = pool.starmap_async(answer, jobs).get(timeout=60)
        for job, a, b in zip(jobs, here, there, strict=True):
            assert np.allclose(a, b, atol=1e-3), (method, job, np.abs(a - b).max())
    for job, a in zip(jobs, here, strict=True):
        assert np.allclose(answer(*copy.deepcopy(job)), a, atol=1e-3)
    print("all the same", {"timm", "torchvision", "torch._dynamo"} & set(sys.modules))
"""


def test_in_another_process(tmp_path: Path) -> None:
    """A pool, forked and spawned, once the parent has used its threads; and a deep copy.

    And none of what takes two seconds to import, and is for training and for SAM's own encoders.
    """
    script = tmp_path / "script.py"
    script.write_text(IN_ANOTHER_PROCESS)
    environment = {k: v for k, v in os.environ.items() if "NUM_THREADS" not in k}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.stdout == "all the same set()\n", done.stderr
