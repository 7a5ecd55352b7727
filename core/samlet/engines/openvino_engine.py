"""The model in OpenVINO: the fastest on a CPU."""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

import openvino as ov
import torch
from torch import Tensor

from samlet.engines import conversion
from samlet.engines.engine import DecoderTokens, Engine
from samlet.engines.precision import Precision
from samlet.modeling.sam import Sam

_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}


class OpenVINOEngine(Engine):
    """The model's parts, converted once and kept in the user's cache folder.

    Args:
        model: on the CPU.
        precision: see `Engine`.
    """

    name = "openvino"

    def __init__(self, model: Sam, precision: Precision = "float32") -> None:
        super().__init__(model, precision)
        sources = conversion.converted(model)
        self._encoder, self._image, self._prompt, self._upscaling, *rest = (
            _Part(source, precision if name in conversion.ONCE_PER_IMAGE else "float32")
            for name, source in sources.items()
        )
        self._instance_decoder = rest[0] if rest else None

    def encode(self, images: Tensor) -> Tensor:
        """See `Engine`."""
        with self._encoder.run(images) as (features,):
            return features.clone()

    def upscale(self, tokens: Tensor, kernels: Tensor) -> Tensor:
        """See `Engine`."""
        with self._upscaling.run(tokens, kernels) as (logits,):
            return logits.clone()

    def predict_distances(self, features: Tensor) -> Tensor:
        """See `Engine`."""
        assert self._instance_decoder is not None
        with self._instance_decoder.run(features) as (predicted,):
            return predicted.clone()

    def _image_branch(self, features: Tensor, dense: Tensor) -> tuple[Tensor, ...]:
        with self._image.run(features, dense) as shared:
            return tuple(tensor.clone() for tensor in shared)

    @contextmanager
    def _prompt_branch(self, sparse: Tensor, shared: tuple[Tensor, ...]) -> Iterator[DecoderTokens]:
        with self._prompt.run(sparse, *shared) as (tokens, kernels, iou_predictions):
            yield DecoderTokens(tokens, kernels.clone(), iou_predictions.clone())


class _Part:
    """A compiled graph; each running inference has memory of its own.

    Args:
        source: the graph, or its file.
        precision: in which it computes.
    """

    def __init__(self, source: Path | ov.Model, precision: Precision) -> None:
        self._source, self._precision = source, precision
        self._compiled: ov.CompiledModel | None = None
        # As many as ever ran at the same time, from whatever threads.
        self._idle: deque[ov.InferRequest] = deque()
        self._lock = threading.Lock()
        _parts.add(self)
        self._open()

    @contextmanager
    def run(self, *inputs: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Run; the outputs are valid within the block."""
        compiled, idle = self._open(), self._idle
        try:
            request = idle.pop()
        except IndexError:
            request = compiled.create_infer_request()
        try:
            arrays = [tensor.detach().contiguous().numpy() for tensor in inputs]
            results = request.infer(arrays, share_inputs=True, share_outputs=True)
            yield tuple(torch.from_numpy(results[i]) for i in range(len(results)))
        finally:
            idle.append(request)

    def _open(self) -> ov.CompiledModel:
        with self._lock:
            if self._compiled is None:
                settings: dict[str, Any] = {
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                    # Every process would pin the first cores: processes that share a machine, the
                    # same ones.
                    "ENABLE_CPU_PINNING": False,
                    # By default all graphs would be in bfloat16 on processors that have it.
                    "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
                }
                self._compiled = ov.Core().compile_model(self._source, "CPU", settings)
            return self._compiled

    def leave_to_parent(self) -> None:
        """In a forked process: open the graph again on its next use.

        OpenVINO's threads do not exist in the child, and freeing the objects that own them would
        end the process, so they are never freed.
        """
        for kept in (self._compiled, *self._idle):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        self._compiled, self._idle, self._lock = None, deque(), threading.Lock()


_parts: WeakSet[_Part] = WeakSet()


def _after_fork() -> None:
    for part in list(_parts):
        part.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
