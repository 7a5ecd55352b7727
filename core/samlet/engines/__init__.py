"""How a model runs: in PyTorch, or faster on a CPU in OpenVINO; in float32 or bfloat16."""

import importlib.util
import os
import threading
from weakref import WeakValueDictionary

import torch

from samlet.engines.engine import DecoderTokens, Engine, ImageState
from samlet.engines.precision import Precision, choose_precision
from samlet.engines.torch_engine import TorchEngine
from samlet.errors import UserError
from samlet.modeling.fingerprint import model_fingerprint
from samlet.modeling.sam import Sam

__all__ = [
    "ENGINES",
    "DecoderTokens",
    "Engine",
    "ImageState",
    "choose_precision",
    "open_engine",
]

ENGINES = ("auto", "torch", "openvino")
LIGHT_ENCODERS = ("tiny_vit", "repvit", "efficientvit")
"""For these OpenVINO is worth the conversion of a model (`benchmarks/published_models.py`)."""
ENVIRONMENT = "SAMLET_ENGINE"
"""This variable, if set, decides what "auto" means."""

_open: WeakValueDictionary[tuple[str, ...], Engine] = WeakValueDictionary()
_locks: dict[tuple[str, ...], threading.Lock] = {}
_lock = threading.Lock()

if hasattr(os, "register_at_fork"):
    # OpenMP's threads do not exist in a forked process, and waiting for them never ends.
    # PyTorch's own DataLoader does the same for its workers.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def open_engine(model: Sam, name: str | Engine = "auto", precision: str = "auto") -> Engine:
    """Open an engine for a model; models with the same weights share one.

    Args:
        model: on the device where it is to run.
        name: "torch", "openvino", or "auto" for the fastest that is installed and suits the device:
            OpenVINO for a light encoder on a CPU, and PyTorch for everything else. The environment
            variable SAMLET_ENGINE decides what "auto" means. An engine is returned as it is.
        precision: of the image encoder and the instance decoder: "float32", "bfloat16", or "auto"
            for bfloat16 where the device computes in it. The environment variable SAMLET_PRECISION
            decides what "auto" means.

    Raises:
        UserError: there is no such engine or precision, it is not installed, it cannot run on the
            model's device, or an engine is given that runs in another precision.
    """
    if isinstance(name, Engine):
        if precision not in ("auto", name.precision):
            raise UserError(
                f"The engine that was given encodes in {name.precision}: leave the precision out, "
                f"or open an engine in {precision}."
            )
        return name
    if name == "auto":
        name = os.environ.get(ENVIRONMENT, "auto")
    if name not in ENGINES:
        raise UserError(f"There is no engine {name}: choose one of {', '.join(ENGINES)}.")
    installed = importlib.util.find_spec("openvino") is not None
    if name == "auto":
        light = model.config.image_encoder in LIGHT_ENCODERS and model.device.type == "cpu"
        name = "openvino" if installed and light else "torch"
    if name == "openvino" and not installed:
        raise UserError(
            "The engine openvino is not installed: run `pip install openvino`, or choose torch."
        )
    if name == "openvino" and model.device.type != "cpu":
        raise UserError(
            f"The engine openvino runs on the CPU and the model is on {model.device}: choose the "
            "engine torch, or load the model on the CPU."
        )
    chosen = choose_precision(precision, model.device)
    key = (model_fingerprint(model), name, chosen, str(model.device))
    with _lock:
        key_lock = _locks.setdefault(key, threading.Lock())
    # A lock per model, so that no other model waits while this one is converted.
    with key_lock:
        engine = _open.get(key)
        if engine is None:
            engine = _open[key] = _create(model, name, chosen)
        return engine


def _create(model: Sam, name: str, precision: Precision) -> Engine:
    if name == "torch":
        return TorchEngine(model, precision)
    from samlet.engines.openvino_engine import OpenVINOEngine

    return OpenVINOEngine(model, precision)
