"""The model in OpenVINO: the fastest on a CPU."""

import threading
from pathlib import Path
from typing import Any

import openvino as ov
import torch
from torch import Tensor

from samlet.engines import conversion
from samlet.engines.engine import Answer, Engine
from samlet.modeling.sam import Sam


class OpenVINOEngine(Engine):
    """The model's four parts, converted once and kept in the user's cache folder.

    Args:
        model: on the CPU.

    Raises:
        UserError: the cache folder cannot be written.
    """

    name = "openvino"

    def __init__(self, model: Sam) -> None:
        super().__init__(model)
        folder = conversion.converted(model)
        core = ov.Core()
        self._encoder, self._image, self._prompt, self._upscaling = (
            _Part(core, folder / f"{name}.xml") for name in conversion.PARTS
        )

    def encode(self, images: Tensor) -> Tensor:
        """See `Engine`."""
        (features,) = self._encoder(images)
        return features.clone()

    def upscale(self, tokens: Tensor, kernels: Tensor) -> Tensor:
        """See `Engine`."""
        (logits,) = self._upscaling(tokens, kernels)
        return logits.clone()

    def _image_side(self, features: Tensor, dense: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.clone() for tensor in self._image(features, dense))

    def _prompt_side(self, sparse: Tensor, shared: tuple[Tensor, ...]) -> Answer:
        tokens, kernels, iou_predictions = self._prompt(sparse, *shared)
        return Answer(tokens, kernels.clone(), iou_predictions.clone())


class _Part:
    """A compiled graph; every thread has its own memory to run it in."""

    def __init__(self, core: ov.Core, path: Path) -> None:
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Each process would take the first cores, and those that share a machine the same ones.
            "ENABLE_CPU_PINNING": False,
            # Otherwise processors that know bfloat16 would use it, and masks would differ.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._compiled = core.compile_model(path, "CPU", settings)
        # Not `threading.local`: a thread that Python did not start, as Qt's are, would free its
        # request while its Python state is taken down, which OpenVINO does not survive.
        self._requests: dict[int, ov.InferRequest] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run; what comes out is overwritten when the same thread runs it again."""
        thread = threading.get_ident()
        request = self._requests.get(thread)
        if request is None:
            request = self._requests[thread] = self._compiled.create_infer_request()
        arrays = [tensor.detach().contiguous().numpy() for tensor in inputs]
        results = request.infer(arrays, share_inputs=True, share_outputs=True)
        return tuple(torch.from_numpy(results[i]) for i in range(len(results)))
