"""Static 8-bit quantisation of an exported encoder."""

import tempfile
from collections.abc import Iterable
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from samlet.errors import UserError

MIN_TERMS = 32
"""A convolution that sums fewer products for each output stays in float32.

Rounding errors do not average out in so short a sum, and quantising it saves little: these are the
first convolution and the depthwise ones.
"""


def quantise(path: Path, images: Iterable[np.ndarray]) -> None:
    """Quantise an ONNX encoder's convolutions and matrix products to 8 bits (QDQ), in place.

    Args:
        path: its file, in float32.
        images: inputs of the encoder, from which the ranges of activations are measured.

    Raises:
        UserError: the encoder is so large that its weights are in a file of their own.
        OSError: a file cannot be written.
    """
    if path.with_name(f"{path.name}.data").exists():
        raise UserError(
            "An encoder beyond 2 GB is too large to be brought to 8 bits: export it without int8, "
            "or take a smaller model."
        )
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as scratch:
        prepared = Path(scratch) / path.name
        quant_pre_process(path, prepared, skip_optimization=True, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        quantize_static(
            prepared,
            path,
            _Reader(graph.input[0].name, images),
            op_types_to_quantize=["Conv", "MatMul"],
            nodes_to_exclude=_short_sums(graph),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Weights of 7 bits, since sums of 8 by 8 bits overflow on processors without VNNI.
            reduce_range=True,
            # Attention multiplies activations with each other, and their errors with them.
            extra_options={"MatMulConstBOnly": True},
        )


class _Reader(CalibrationDataReader):
    """Feeds images to onnxruntime's calibration one by one."""

    def __init__(self, name: str, images: Iterable[np.ndarray]) -> None:
        self._feeds = ({name: image} for image in images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def _short_sums(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions that sum fewer than `MIN_TERMS` products."""
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "Conv" and prod(shapes[node.input[1]][1:]) < MIN_TERMS
    ]
