"""int8 against float32 encoders in ONNX Runtime and OpenVINO: size, latency, IoU.

    python benchmarks/int8.py data/bbbc038 --images 10

The decoder is always samlet's own. IoU is measured on validation images of the `nuclei` recipe,
without those that are bundled as samples, since these calibrate the ranges of activations. Run
nothing beside it; docs/export.md has the result.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
import openvino as ov
import torch
import typer
from common import Data, ModelName, median_seconds
from torch import Tensor
from validation import names as validation_names

import samlet
from samlet import images, samples
from samlet.datasets.examples import Example, load_examples
from samlet.engines.torch_engine import TorchEngine
from samlet.evaluation.measure import measure_prompts
from samlet.evaluation.single_prompts import summarize_prompts
from samlet.evaluation.tables import Table, format_table
from samlet.export.exporting import export
from samlet.modeling.sam import Sam

Encode = Callable[[np.ndarray], np.ndarray]


class ExportedEncoder(TorchEngine):
    """An exported encoder with samlet's own decoder.

    Args:
        model: the model that was exported.
        run: the exported encoder.
    """

    def __init__(self, model: Sam, run: Encode) -> None:
        super().__init__(model)
        self._run = run

    def encode(self, images: Tensor) -> Tensor:
        """See `Engine`."""
        return torch.from_numpy(np.array(self._run(images.numpy())))


def in_onnxruntime(path: Path) -> Encode:
    """An .onnx file in ONNX Runtime, with as many threads as PyTorch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def in_openvino(path: Path) -> Encode:
    """An .xml file in OpenVINO, with as many threads as PyTorch."""
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = ov.Core().compile_model(path, "CPU", settings)
    return lambda image: compiled([image])[0]


def main(
    data: Data,
    count: Annotated[int, typer.Option("--images", help="Images to measure IoU on.")] = 10,
    name: ModelName = "microscopy",
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of images; default: the bundled samples.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Timed encodings per encoder.")] = 20,
) -> None:
    """Measure, and print the table."""
    model, examples = samlet.load(name), _unseen(data, count)
    size = model.config.image_size
    pixels = np.random.default_rng(0).standard_normal((1, 3, size, size), np.float32)
    table: Table = {}
    for format, load in (("onnx", in_onnxruntime), ("openvino", in_openvino)):
        for int8 in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                export(model, format, folder, int8, calibration if int8 else None)
                files = sorted(Path(folder).glob("encoder.*"))
                encode = load(files[-1])
                predictor = samlet.Predictor(model, ExportedEncoder(model, encode), zoom=False)
                scores = summarize_prompts(measure_prompts(predictor, examples))["all"]
                table[f"{format}, {'int8' if int8 else 'float32'}"] = {
                    "MB": sum(file.stat().st_size for file in files) / 1e6,
                    "ms": 1000 * median_seconds(partial(encode, pixels), repeats, warm_up=2),
                    "click": scores["click"],
                    "box": scores["box"],
                    "objects": scores["objects"],
                }
    print(f"{name}, {len(examples)} images, {torch.get_num_threads()} threads\n")
    print(format_table(table, "encoder"))


def _unseen(data: Path, count: int) -> Sequence[Example]:
    """Validation images, evenly spread, without the bundled samples."""
    names = set(validation_names())
    known = {images.read(path).tobytes() for path in images.find(samples.IMAGES)}
    examples = [e for e in load_examples(data, only=names) if e.image.tobytes() not in known]
    return [examples[i] for i in np.linspace(0, len(examples) - 1, count).round().astype(int)]


if __name__ == "__main__":
    typer.run(main)
