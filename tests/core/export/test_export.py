"""What is exported, run by ONNX Runtime and OpenVINO, against samlet and SAM's official export."""

import ast
import inspect
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import openvino as ov
import pytest
import torch
from PIL import Image
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.utils.onnx import SamOnnxModel
from torch import Tensor, nn
from typer.testing import CliRunner

import samlet
from samlet import images, samples
from samlet.cli.main import app
from samlet.engines import open_engine
from samlet.errors import UserError
from samlet.export import exporting, onnx_graphs, quantisation
from samlet.export.exporting import DESCRIPTION, export
from samlet.masks import deepest_point, from_label_map, iou
from samlet.modeling.fingerprint import encoder_fingerprint
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.sam_vit import SamViTConfig
from samlet.outputs import read_label_map
from tests.core.conftest import SMALL
from tests.core.modeling.test_instance_decoder import model_with_decoder
from tests.references.distances import random_embedding

EXAMPLE = Path(__file__).parents[3] / "examples" / "onnx_segment.py"

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def open_part(folder: Path, part: str) -> Run:
    """A graph as a function, in the runtime that its file is for."""
    description = json.loads((folder / DESCRIPTION).read_text())[part]
    path = folder / description["file"]
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda feeds: dict(zip(names, session.run(None, feeds), strict=True))
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(path, "CPU", settings)
    return lambda feeds: {name: compiled(feeds)[name] for name in description["outputs"]}


class Exported:
    """An exported model as a program of a user's would run it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.encoder, self.decoder = open_part(folder, "encoder"), open_part(folder, "decoder")
        self.size = json.loads((folder / DESCRIPTION).read_text())["image_size"]

    def encode(self, model: Sam, image: np.ndarray) -> np.ndarray:
        resized = torch.from_numpy(images.resize_longest(image, self.size)).permute(2, 0, 1)
        return self.encoder({"image": model.preprocess(resized)[None].numpy()})["image_embeddings"]

    def decode(
        self,
        embeddings: np.ndarray,
        size: tuple[int, int],
        coords: Any,
        labels: Any,
        mask_input: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Coordinates, N x 2 or B x N x 2, are in pixels of the image; a box is its two corners."""
        if not np.isin(2, labels):
            coords, labels = [*coords, [0, 0]], [*labels, -1]
        coords = np.reshape(coords, (-1, *np.shape(coords)[-2:]))
        labels = np.reshape(labels, coords.shape[:2])
        inner = images.resized_shape(*size, self.size)
        scale = np.array([inner[1] / size[1], inner[0] / size[0]])
        low = np.full((self.size // 4,) * 2, np.nan) if mask_input is None else mask_input
        return self.decoder(
            {
                "image_embeddings": embeddings,
                "point_coords": np.asarray(coords * scale, np.float32),
                "point_labels": np.asarray(labels, np.float32),
                "mask_input": np.asarray(low[None, None], np.float32),
                "has_mask_input": np.asarray([mask_input is not None], np.float32),
                "orig_im_size": np.asarray(size, np.float32),
            }
        )


@pytest.fixture(scope="module")
def in_onnx(nuclei: Sam, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("onnx")
    export(nuclei, "onnx", folder)
    return Exported(folder)


@pytest.fixture(scope="module")
def in_openvino(
    nuclei: Sam, in_onnx: Exported, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """From the ONNX files that are there, since PyTorch takes its time to make them."""
    folder = tmp_path_factory.mktemp("openvino")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            onnx_graphs, "write_onnx", lambda _, path: shutil.copy(in_onnx.folder / path.name, path)
        )
        export(nuclei, "openvino", folder)
    return Exported(folder)


@pytest.fixture(scope="module", params=["in_onnx", "in_openvino"])
def exported(request: pytest.FixtureRequest) -> Exported:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def encoded(exported: Exported, nuclei: Sam, picture: np.ndarray) -> np.ndarray:
    """The picture's embedding by an exported encoder."""
    return exported.encode(nuclei, picture)


@pytest.fixture(scope="module")
def embedding(predictor: samlet.Predictor, picture: np.ndarray) -> samlet.ImageEmbedding:
    """The same by samlet."""
    return predictor.encode(picture)


@pytest.fixture(scope="module")
def predictor(nuclei: Sam) -> samlet.Predictor:
    return samlet.Predictor(nuclei, "torch", zoom=False)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Not square, and of odd sizes."""
    return images.read(samples.IMAGES / "stained_2.png")[:201, :233]


PROMPTS = {
    # Points, their labels, a box, and whether the answer to a point is the mask prompt.
    "point": ([[120, 80]], [1], None, False),
    "three points": ([[120, 80], [30, 40], [200, 190]], [1, 1, 0], None, False),
    "eight points": ([[20 * i, 15 * i] for i in range(1, 9)], [1, 0] * 4, None, False),
    "box": ([], [], [60, 50, 150, 140], False),
    "box and points": ([[120, 80], [70, 60]], [1, 0], [60, 50, 150, 140], False),
    "mask and point": ([[120, 80]], [1], None, True),
    "mask, box and points": ([[120, 80], [70, 60]], [1, 0], [60, 50, 150, 140], True),
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_masks_are_samlets(
    exported: Exported,
    encoded: np.ndarray,
    predictor: samlet.Predictor,
    embedding: samlet.ImageEmbedding,
    picture: np.ndarray,
    prompt: str,
) -> None:
    coords, labels, box, has_mask = PROMPTS[prompt]
    mask_input = (
        predictor.segment(embedding, [[120, 80]], [1]).low_res_masks[0] if has_mask else None
    )
    corners = [box[:2], box[2:]] if box else []
    found = exported.decode(
        encoded,
        picture.shape[:2],
        coords + corners,
        labels + ([2, 3] if box else []),
        mask_input,
    )
    for multimask_output, wanted in ((False, slice(0, 1)), (True, slice(1, 4))):
        expected = predictor.segment(
            embedding, coords or None, labels or None, box, mask_input, multimask_output
        )
        assert ((found["masks"][0, wanted] > 0) == expected.masks).mean() >= 0.9999
        assert np.allclose(found["low_res_masks"][0, wanted], expected.low_res_masks, atol=1e-2)
        assert np.allclose(found["iou_predictions"][0, wanted], expected.iou_predictions, atol=1e-3)


def test_many_prompts_at_once(
    exported: Exported,
    encoded: np.ndarray,
    predictor: samlet.Predictor,
    embedding: samlet.ImageEmbedding,
    picture: np.ndarray,
) -> None:
    """Five boxes on one image: each as if it were asked for alone."""
    corners = np.array([[[x, x], [x + 60.0, x + 80]] for x in range(10, 110, 20)])
    found = exported.decode(encoded, picture.shape[:2], corners, [[2, 3]] * 5)
    expected = predictor.segment_batch(
        embedding, boxes=corners.reshape(5, 4), multimask_output=False
    )
    assert found["masks"].shape == (5, 4, *picture.shape[:2])
    for index, answer in enumerate(expected):
        assert ((found["masks"][index, :1] > 0) == answer.masks).mean() >= 0.9999
        assert np.allclose(found["iou_predictions"][index, 0], answer.iou_predictions, atol=1e-3)


@pytest.fixture(scope="module")
def official(nuclei: Sam) -> SamOnnxModel:
    """What Segment Anything exports, with the weights of `nuclei`."""
    size, grid = nuclei.config.image_size, nuclei.config.image_size // 16
    parts: Any = nn.Module()
    parts.prompt_encoder = PromptEncoder(256, (grid, grid), (size, size), 16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
    parts.mask_decoder = MaskDecoder(transformer_dim=256, transformer=transformer)
    parts.prompt_encoder.load_state_dict(nuclei.prompt_encoder.state_dict())
    parts.mask_decoder.load_state_dict(nuclei.mask_decoder.state_dict())
    parts.image_encoder, parts.mask_threshold = SimpleNamespace(img_size=size), 0.0
    return SamOnnxModel(parts.eval(), return_single_mask=False)


SIZES = [(300, 400), (401, 233), (17, 1000), (1500, 1333), (1, 600)]


@pytest.mark.parametrize("points", [1, 2, 7])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_the_official_decoder(
    exported: Exported, official: SamOnnxModel, size: tuple[int, int], points: int
) -> None:
    names = list(inspect.signature(official.forward).parameters)
    description = json.loads((exported.folder / DESCRIPTION).read_text())["decoder"]
    assert list(description["inputs"]) == names
    random = torch.Generator().manual_seed(points)
    grid = exported.size // 16
    tensors = [
        torch.randn(1, 256, grid, grid, generator=random),
        torch.rand(1, points, 2, generator=random) * exported.size,
        torch.randint(-1, 4, (1, points), generator=random).float(),
        torch.randn(1, 1, 4 * grid, 4 * grid, generator=random) * 5,
        torch.tensor([float(points % 2)]),
        torch.tensor(size).float(),
    ]
    expected = official(*tensors)
    found = exported.decoder(dict(zip(names, (t.numpy() for t in tensors), strict=True)))
    assert list(found) == ["masks", "iou_predictions", "low_res_masks"]
    for ours, theirs in zip(found.values(), expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs.numpy()).max() < 1e-3


def test_the_official_notebooks_steps_work(
    in_onnx: Exported, nuclei: Sam, predictor: samlet.Predictor, picture: np.ndarray
) -> None:
    session = onnxruntime.InferenceSession(in_onnx.folder / "decoder.onnx")
    theirs = samlet.SamPredictor(nuclei, zoom=False)
    theirs.set_image(picture)
    point, box = np.array([[120, 80]]), np.array([60, 50, 150, 140])
    coords = np.concatenate([point, box.reshape(2, 2)])[None]
    feeds = {
        "image_embeddings": theirs.get_image_embedding().numpy(),
        "point_coords": theirs.transform.apply_coords(coords, picture.shape[:2]).astype(np.float32),
        "point_labels": np.array([[1, 2, 3]], np.float32),
        "mask_input": np.zeros((1, 1, 128, 128), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(picture.shape[:2], np.float32),
    }
    masks, _, _ = session.run(None, feeds)
    expected = predictor.segment(predictor.encode(picture), point, [1], box, None, False)
    assert ((masks[0, :1] > nuclei.mask_threshold) == expected.masks).all()


def test_the_description_is_true(exported: Exported, nuclei: Sam) -> None:
    description = json.loads((exported.folder / DESCRIPTION).read_text())
    assert description["model"] == "microscopy"
    assert description["samlet"] == samlet.__version__
    assert description["encoder_fingerprint"] == encoder_fingerprint(nuclei)
    assert description["image_size"] == nuclei.config.image_size
    for name in ("pixel_mean", "pixel_std"):
        assert np.allclose(description[name], getattr(nuclei, name).flatten())
    for part in ("encoder", "decoder", "proposal_head"):
        graph = ov.Core().read_model(exported.folder / description[part]["file"])
        for ports, told in ((graph.inputs, "inputs"), (graph.outputs, "outputs")):
            shapes = description[part][told]
            assert [port.any_name for port in ports] == list(shapes)
            for port, shape in zip(ports, shapes.values(), strict=True):
                assert port.partial_shape.compatible(
                    ov.PartialShape([-1 if isinstance(side, str) else side for side in shape])
                )


def test_proposals_are_samlets(
    exported: Exported, encoded: np.ndarray, predictor: samlet.Predictor
) -> None:
    found = open_part(exported.folder, "proposal_head")({"image_embeddings": encoded})
    expected = predictor.runner.engine.propose(torch.from_numpy(encoded)).numpy()
    assert found["proposals"].shape == expected.shape == (1, 7, 128, 128)
    assert np.abs(found["proposals"] - expected).max() < 1e-3


def test_distance_maps_are_samlets(tmp_path: Path) -> None:
    model, path = model_with_decoder("bilinear"), tmp_path / "instance_decoder.onnx"
    graph = onnx_graphs.object_head_graph(model, "instance_decoder")
    onnx_graphs.write_onnx(graph, path)
    embedding = random_embedding()
    expected = open_engine(model, "torch", "float32").predict_distances(torch.from_numpy(embedding))
    assert expected.std() > 0.1

    def check(file: Path) -> None:
        description = {"instance_decoder": {"file": file.name, "outputs": graph.outputs}}
        (tmp_path / DESCRIPTION).write_text(json.dumps(description))
        found = open_part(tmp_path, "instance_decoder")({"image_embeddings": embedding})
        assert found["distance_maps"].shape == expected.shape
        assert np.abs(found["distance_maps"] - expected.numpy()).max() < 1e-4

    check(path)
    exporting._to_openvino(path)
    check(path.with_suffix(".xml"))


def test_nothing_of_this_machine_is_in_the_files(exported: Exported) -> None:
    home = str(Path(samlet.__file__).parents[2]).encode()
    for path in exported.folder.iterdir():
        assert home not in path.read_bytes()


@pytest.mark.parametrize("prompt", ["246,159", "237,142,256,177"])
def test_the_example_gives_samlets_mask(
    in_onnx: Exported, predictor: samlet.Predictor, tmp_path: Path, prompt: str
) -> None:
    source, target = samples.IMAGES / "stained_1.png", tmp_path / "mask.png"
    arguments = [in_onnx.folder, source, target, prompt]
    subprocess.run([sys.executable, EXAMPLE, *map(str, arguments)], check=True, timeout=120)
    numbers = [float(n) for n in prompt.split(",")]
    is_box = len(numbers) == 4
    embedding = predictor.encode(images.read(source))
    expected = predictor.segment(
        embedding,
        None if is_box else [numbers],
        None if is_box else [1],
        numbers if is_box else None,
        multimask_output=not is_box,
    )
    assert expected.best.any()
    assert ((np.asarray(Image.open(target)) > 0) == expected.best).mean() >= 0.9999


def test_the_example_is_short_and_needs_little() -> None:
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 60
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)]
    froms = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names} | {n.module for n in froms}
    assert names <= {"json", "sys", "pathlib", "numpy", "onnxruntime", "PIL"}


@pytest.mark.parametrize(
    "encoder", ["sam_vit", pytest.param("efficientnet_lite0", marks=pytest.mark.slow)]
)
def test_other_encoders_can_be_exported(encoder: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sam_vit = SamViTConfig(32, 2, 2, (1,)) if encoder == "sam_vit" else None
    model = Sam(SamConfig(encoder, 256, tiny_vit=None, sam_vit=sam_vit)).eval()
    graph = onnx_graphs.encoder_graph(model)
    onnx_graphs.write_onnx(graph, tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    pixels = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        expected = model.image_encoder(pixels).numpy()
    (found,) = session.run(None, {"image": pixels.numpy()})
    assert np.abs(found - expected).max() < 1e-3


def test_an_encoder_of_two_files_is_not_brought_to_eight_bits(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx.data").touch()
    with pytest.raises(UserError, match="export it without int8"):
        quantisation.quantise(tmp_path / "encoder.onnx", [])


@pytest.fixture
def _onnx_is_there(in_onnx: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ONNX files of `nuclei` need not be made again, which takes half a minute."""
    monkeypatch.setattr(
        onnx_graphs, "write_onnx", lambda _, path: shutil.copy(in_onnx.folder / path.name, path)
    )


def call(*arguments: str | Path) -> str:
    """`samlet export ARGUMENTS`; a mistake is raised."""
    done = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.usefixtures("_onnx_is_there")
def test_the_command_and_eight_bits(
    nuclei: Sam, predictor: samlet.Predictor, in_openvino: Exported, tmp_path: Path
) -> None:
    file, out = tmp_path / "nuclei.safetensors", tmp_path / "new" / "folder"
    samlet.save(nuclei, file)
    flags = ("--int8", "--calibration", samples.IMAGES)
    said = call(file, "--format", "openvino", *flags, "--out", out)
    parts = ("decoder", "encoder", "proposal_head")
    names = [f"{part}{suffix}" for part in parts for suffix in (".bin", ".xml")]
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "model.json"])
    assert all(f"Wrote {out / name} (" in said for name in names)
    description = json.loads((out / "model.json").read_text())
    assert description["model"] == "nuclei.safetensors"
    assert description["encoder"]["precision"] == "int8"
    assert description["decoder"]["precision"] == "float32"
    sizes = [(folder / "encoder.bin").stat().st_size for folder in (out, in_openvino.folder)]
    assert sizes[0] < 0.4 * sizes[1]

    eight_bits, agreed = Exported(out), []
    for name in ("fluorescence_1", "stained_1", "brightfield_1"):
        image = images.read(samples.IMAGES / f"{name}.png")
        labels = read_label_map(samples.LABELS / f"{name}.png")
        points = [[deepest_point(mask)] for _, mask in from_label_map(labels)][:10]
        embedding = predictor.encode(image)
        rough = torch.from_numpy(eight_bits.encode(nuclei, image)[0])
        answers = [
            predictor.segment_batch(e, points, np.ones((len(points), 1)), multimask_output=False)
            for e in (embedding, replace(embedding, features=rough))
        ]
        agreed += [iou(a.best, b.best) for a, b in zip(*answers, strict=True)]
    assert np.mean(agreed) > 0.85


class Branching(nn.Module):
    """An encoder that looks at its input to decide what to do."""

    def forward(self, images: Tensor) -> Tensor:
        if images.mean() > 0:
            return images.new_zeros(1, 256, 8, 8)
        return images.new_ones(1, 256, 8, 8)


def test_mistakes_are_explained(
    small_model: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, file = tmp_path / "out", tmp_path / "file.png"
    with pytest.raises(UserError, match="no format coreml: choose one of onnx, openvino"):
        export(small_model, "coreml", out)
    with pytest.raises(UserError, match="Calibration is for 8 bits alone"):
        export(small_model, "onnx", out, calibration=tmp_path)
    with pytest.raises(UserError, match="holds no image"):
        export(small_model, "onnx", out, True, tmp_path)
    file.write_text("not an image")
    with pytest.raises(UserError, match=r"file\.png"):
        export(small_model, "onnx", out, True, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "encoder.xml").touch()
    with pytest.raises(UserError, match="holds a model as openvino already: give onnx a folder"):
        export(small_model, "onnx", other)
    with pytest.raises(UserError, match=f"Cannot write {file}: File exists"):
        export(small_model, "onnx", file)
    with pytest.raises(UserError, match="Cannot write /proc/no: "):
        export(small_model, "onnx", "/proc/no")
    torch.manual_seed(0)
    odd = Sam(SMALL).eval()
    odd.image_encoder = Branching()
    with pytest.raises(UserError, match="Branching cannot be exported"):
        export(odd, "onnx", out)
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    monkeypatch.delitem(sys.modules, "samlet.export.onnx_graphs")
    monkeypatch.delattr("samlet.export.onnx_graphs")
    with pytest.raises(UserError, match=r'onnx_ir is missing.*pip install "samlet\[export\]"'):
        export(small_model, "onnx", out)
    assert not out.exists()


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Files end at `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_folder_as_it_was(small_model: Sam, tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_text("of before")
    with full_disk(1_000_000), pytest.raises(UserError, match=r"File too large.*free space"):
        export(small_model, "onnx", tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of before"]


@pytest.mark.usefixtures("_onnx_is_there")
def test_openvinos_word_for_a_full_disk_is_understood(
    nuclei: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = ov.save_model

    def save_on_full_disk(*arguments: Any, **settings: Any) -> None:
        with full_disk(1_000_000):
            save(*arguments, **settings)

    monkeypatch.setattr("openvino.save_model", save_on_full_disk)
    with pytest.raises(UserError, match=r"encoder does not fit.*free space"):
        export(nuclei, "openvino", tmp_path / "out")
    assert not (tmp_path / "out").exists()
