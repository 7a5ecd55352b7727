"""From a model to OpenVINO's graphs on disk: converted once, checked whenever they are loaded."""

import json
import shutil
import tempfile
import warnings
from pathlib import Path

import openvino as ov
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from rich.console import Console
from torch import Tensor, nn

from samlet.downloads import cache_dir, sha256_of
from samlet.engines.decoder import ImageSide, PromptSide, Upscaling
from samlet.errors import UserError
from samlet.fingerprint import model_fingerprint
from samlet.modeling.image_encoder import STRIDE
from samlet.modeling.sam import EMBED_DIM, Sam

PARTS = ("encoder", "image_side", "prompt_side", "upscaling")
FORMAT = 2
"""Rises whenever the graphs change, so that those of an older samlet are not used."""
MANIFEST = "manifest.json"


def converted(model: Sam) -> Path:
    """The folder of a model's graphs; converts it if there is none, or it is damaged.

    Raises:
        UserError: the folder cannot be written.
    """
    size = model.config.image_size
    version = ov.__version__.partition("-")[0]
    key = f"{model_fingerprint(model)}-{size}-openvino-{version}-{FORMAT}"
    folder = cache_dir() / "engines" / key
    if not _is_whole(folder):
        told = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        told.print(f"Preparing {model.name} for OpenVINO, once, in {folder} ...")
        try:
            _write(model, folder)
        except OSError as error:
            raise UserError(
                f"The model cannot be prepared for OpenVINO in {folder} ({error}): make room or "
                "set SAMLET_CACHE to another folder, or choose the engine torch."
            ) from error
    return folder


def graphs(model: Sam) -> dict[str, ov.Model]:
    """A model's parts, see `PARTS`, as OpenVINO graphs for any number of prompts and tokens."""
    size, grid = model.config.image_size, model.config.image_size // STRIDE
    features = torch.zeros(1, EMBED_DIM, grid, grid)
    dense = torch.zeros(1, EMBED_DIM, 1, 1)
    sparse = torch.zeros(2, 3, EMBED_DIM)
    image, prompt, upscaling = ImageSide(model), PromptSide(model), Upscaling(model)
    with torch.no_grad():
        shared = image(features, dense)
        tokens, kernels, _ = prompt(sparse, *shared)
    pixels = torch.zeros(1, 3, size, size)
    any_dense = [-1, EMBED_DIM, -1, -1]
    return {
        "encoder": _traced(model.image_encoder, (pixels,), [list(pixels.shape)]),
        "image_side": _traced(image, (features, dense), [_batched(features), any_dense]),
        "prompt_side": _traced(
            prompt, (sparse, *shared), [[-1, -1, EMBED_DIM], *map(_batched, shared)]
        ),
        "upscaling": _traced(
            upscaling, (tokens, kernels), [_batched(tokens), [-1, -1, kernels.shape[2]]]
        ),
    }


def _batched(tensor: Tensor) -> list[int]:
    return [-1, *tensor.shape[1:]]


def _traced(module: nn.Module, inputs: tuple[Tensor, ...], shapes: list[list[int]]) -> ov.Model:
    """Convert what happens to some inputs; -1 in a shape takes any number.

    OpenVINO's frontend is called directly, since `ov.convert_model` reports each use to Intel.
    """
    with torch.no_grad(), warnings.catch_warnings():
        # timm's windows are padded by Python numbers, which are the same for every input; and
        # OpenVINO traces by what PyTorch would like to be rid of.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
        decoder = TorchScriptPythonDecoder(module.eval(), example_input=inputs)
        frontend = FrontEndManager().load_by_framework("pytorch")
        graph = frontend.convert(frontend.load(decoder))
    graph.reshape({port: ov.PartialShape(s) for port, s in zip(graph.inputs, shapes, strict=True)})
    return graph


def _write(model: Sam, folder: Path) -> None:
    """Write graphs and manifest to a temporary folder, then rename it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        for name, graph in graphs(model).items():
            ov.save_model(graph, temporary / f"{name}.xml", compress_to_fp16=False)
        sums = {path.name: sha256_of(path) for path in temporary.iterdir()}
        (temporary / MANIFEST).write_text(json.dumps(sums, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all(sha256_of(folder / name) == total for name, total in sums.items())
    except (OSError, ValueError, AttributeError):
        return False
