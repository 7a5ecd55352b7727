"""The precision of the image encoder: float32, or bfloat16 where the hardware computes in it.

Only the encoder, which takes most of the time per image. The decoder always computes in float32:
in bfloat16 a prompt would take two thirds of the time, but its predicted IoU, by which masks are
chosen and dropped, would change by up to 0.005.
"""

import importlib.util
import logging
import os
from functools import cache
from typing import Literal, cast

import torch

from samlet.errors import UserError

Precision = Literal["float32", "bfloat16"]

PRECISIONS = ("auto", "float32", "bfloat16")
ENVIRONMENT = "SAMLET_PRECISION"
"""This variable, if set, decides what "auto" means."""

log = logging.getLogger(__name__)


def choose_precision(name: str, device: torch.device) -> Precision:
    """The precision that a name stands for on a device.

    Args:
        name: "float32", "bfloat16", or "auto" for bfloat16 where the device computes in it. The
            environment variable SAMLET_PRECISION decides what "auto" means.
        device: where the encoder is to run.

    Raises:
        UserError: there is no such precision, or the device does not compute in it.
    """
    if name == "auto":
        name = os.environ.get(ENVIRONMENT) or "auto"
    if name not in PRECISIONS:
        raise UserError(f"There is no precision {name}: choose one of {', '.join(PRECISIONS)}.")
    if name == "auto":
        if not computes_in_bfloat16(device.type):
            return "float32"
        _log_choice(device.type)
        return "bfloat16"
    # Emulated it would be slower than float32, and OpenVINO would use float32 without a word.
    if name == "bfloat16" and not computes_in_bfloat16(device.type):
        what = "This processor" if device.type == "cpu" else f"The device {device.type}"
        raise UserError(
            f"{what} does not compute in bfloat16: choose the precision float32, or auto."
        )
    return cast(Precision, name)


@cache
def computes_in_bfloat16(device_type: str) -> bool:
    """Whether a device ("cpu", "cuda", ...) has arithmetic in bfloat16, and does not emulate it.

    Of processors these are such as have AVX512-BF16, with or without AMX.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    # Older versions of PyTorch have no public way to ask. OpenVINO also names processors that only
    # convert (AVX-NE-CONVERT).
    if importlib.util.find_spec("openvino") is None:
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def _log_choice(device_type: str) -> None:
    what = "processor" if device_type == "cpu" else "GPU"
    log.info(
        f"Images are encoded in bfloat16, which this {what} computes in; {ENVIRONMENT}=float32 "
        "changes that."
    )
