"""A model's OpenVINO graphs, converted once, kept on disk and checked whenever they are loaded.

Only this module uses OpenVINO's PyTorch frontend below its public API; if that moves,
`tests/core/engines/test_engines.py` fails.
"""

import copy
import json
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path

import openvino as ov
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from rich.console import Console
from torch import Tensor, nn

from samlet.engines.decoder import ImageBranch, PromptBranch, Upscaling
from samlet.engines.fusing import fuse
from samlet.errors import UserError
from samlet.modeling.fingerprint import model_fingerprint
from samlet.modeling.sam import EMBED_DIM, Sam
from samlet.modeling.tiny_vit import STRIDE
from samlet.utils.cache_folder import cache_dir
from samlet.utils.files import atomic_folder, sha256_of
from samlet.utils.locks import file_lock

PARTS = ("encoder", "image_branch", "prompt_branch", "upscaling")
"""The graphs of every model."""
INSTANCE_DECODER = "instance_decoder"
"""The graph of those that have one; the last."""
ONCE_PER_IMAGE = ("encoder", INSTANCE_DECODER)
"""Graphs that do most of the work, and so may run in half precision."""
FORMAT = 4
"""Raised whenever the graphs change, so that those of an older samlet are not used."""
MANIFEST = "manifest.json"


def converted(model: Sam) -> dict[str, Path | ov.Model]:
    """A model's graphs by part: files in the cache folder, converted now if missing or damaged.

    Where they cannot be written they are returned in memory, with a message.
    """
    size = model.config.image_size
    version = ov.__version__.partition("-")[0]
    key = f"{model_fingerprint(model)}-{size}-openvino-{version}-{FORMAT}"
    folder = cache_dir() / "engines" / key
    if not _is_whole(folder):
        # One that opens the graphs while another replaces them would find none.
        with file_lock(cache_dir() / "locks" / f"{folder.name}.lock"):
            # Another one may have written them meanwhile.
            if not _is_whole(folder) and (in_memory := _convert(model, folder)):
                return in_memory
    parts = PARTS if model.instance_decoder is None else (*PARTS, INSTANCE_DECODER)
    return {name: folder / f"{name}.xml" for name in parts}


def _convert(model: Sam, folder: Path) -> dict[str, Path | ov.Model]:
    """Write a model's graphs; what is returned are those that could not be written."""
    messages = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    messages.print(f"Preparing {model.name} for OpenVINO, once, in {folder} ...")
    # Tracing holds Python's lock for up to a quarter of a second at a time, in which a window or
    # a server, which load models in threads, could do nothing else.
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main and _write_in_own_process(model, folder):
        return {}
    converted_graphs = graphs(model)
    try:
        _write(converted_graphs, folder)
    except UserError as error:
        messages.print(
            f"{error} Until then {model.name} is prepared at every start; SAMLET_CACHE can "
            "name another folder."
        )
        return dict(converted_graphs)
    return {}


def _write_in_own_process(model: Sam, folder: Path) -> bool:
    """Write a model's graphs from a process of its own, and say whether they are there.

    That fails where nothing can be written, or where Python is part of another program.
    """
    command = f"from {__name__} import write_received; write_received()"
    try:
        given = pickle.dumps((model, folder))
        subprocess.run([sys.executable, "-P", "-c", command], input=given, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return _is_whole(folder)


def write_received() -> None:
    """Write the graphs of the model that a parent process has pickled to standard input."""
    model, folder = pickle.load(sys.stdin.buffer)
    _write(graphs(model), folder)


def graphs(model: Sam) -> dict[str, ov.Model]:
    """A model's parts as OpenVINO graphs for any number of prompts and tokens, as in `PARTS`."""
    size, grid = model.config.encoder_size, model.config.image_size // STRIDE
    features = torch.zeros(1, EMBED_DIM, grid, grid)
    dense = torch.zeros(1, EMBED_DIM, 1, 1)
    sparse = torch.zeros(2, 3, EMBED_DIM)
    image, prompt, upscaling = ImageBranch(model), PromptBranch(model), Upscaling(model)
    with torch.no_grad():
        shared = image(features, dense)
        tokens, kernels, _ = prompt(sparse, *shared)
    pixels = torch.zeros(1, 3, size, size)
    encoder = fuse(copy.deepcopy(model.image_encoder))
    any_dense = [-1, EMBED_DIM, -1, -1]
    parts = {
        "encoder": _traced(encoder, (pixels,), [list(pixels.shape)]),
        "image_branch": _traced(image, (features, dense), [_batched(features), any_dense]),
        "prompt_branch": _traced(
            prompt, (sparse, *shared), [[-1, -1, EMBED_DIM], *map(_batched, shared)]
        ),
        "upscaling": _traced(
            upscaling, (tokens, kernels), [_batched(tokens), [-1, -1, kernels.shape[2]]]
        ),
    }
    if model.instance_decoder is not None:
        # For one image at a time, as the encoder.
        parts[INSTANCE_DECODER] = _traced(
            model.instance_decoder, (features,), [list(features.shape)]
        )
    return parts


def _batched(tensor: Tensor) -> list[int]:
    return [-1, *tensor.shape[1:]]


def _traced(module: nn.Module, inputs: tuple[Tensor, ...], shapes: list[list[int]]) -> ov.Model:
    """Convert a module by tracing; -1 in a shape stands for any number.

    OpenVINO's frontend is called directly, since `ov.convert_model` reports each use to Intel.
    """
    with torch.no_grad(), warnings.catch_warnings():
        # Windows are padded by Python numbers, which are the same for every input; and OpenVINO
        # traces with an API that PyTorch has deprecated.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
        # The check would trace once more and run both; these modules do not depend on chance.
        decoder = TorchScriptPythonDecoder(
            module.eval(), example_input=inputs, trace_kwargs={"check_trace": False}
        )
        frontend = FrontEndManager().load_by_framework("pytorch")
        graph = frontend.convert(frontend.load(decoder))
    graph.reshape({port: ov.PartialShape(s) for port, s in zip(graph.inputs, shapes, strict=True)})
    return graph


def _write(converted_graphs: Mapping[str, ov.Model], folder: Path) -> None:
    """Write graphs and manifest.

    Raises:
        UserError: the folder cannot be written.
    """
    with atomic_folder(folder) as temporary:
        for name, graph in converted_graphs.items():
            ov.save_model(graph, temporary / f"{name}.xml", compress_to_fp16=False)
        sums = {path.name: sha256_of(path) for path in temporary.iterdir()}
        (temporary / MANIFEST).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all(sha256_of(folder / name) == total for name, total in sums.items())
    except (OSError, ValueError, AttributeError):
        return False
