"""Reading the weights from checkpoints of any training framework, without running code in them.

Objects beside the weights (NumPy numbers, configurations, optimizers, whole modules) are read as
stand-ins that only hold the attributes that were stored for them.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from samlet.errors import UserError
from samlet.utils.messages import join_first

KEYS = (
    "model_ema", "ema", "ema_model", "ema_state_dict", "state_dict_ema",
    "model", "state_dict", "model_state_dict", "model_state",
    "module", "net", "network", "weights", "params",
)  # fmt: skip
"""Keys under which trainers keep the weights; averaged weights come first, as they are for use."""

_PART = re.compile(r"^(|.*\.)((image_encoder|prompt_encoder|mask_decoder)\..+)$")
_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
_MAX_DEPTH = 4
REMEDY = "download or save it again"

DECODER_KEY = "decoder_state"
"""Key under which micro-sam keeps the instance decoder beside a model's weights."""
_DECODER_NAMES = re.compile(r"^(deconv\d|decoder_head|out_conv)\.")


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a file.

    Attributes:
        weights: a model's, by their official names.
        instance_decoder: those of micro-sam's decoder, by their names in it; empty without one.
    """

    weights: dict[str, Tensor]
    instance_decoder: dict[str, Tensor]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a model's parameters from a checkpoint of any trainer, by their names in the model.

    They may lie under a key (see `KEYS`), in a module that was saved as a whole, and have a prefix
    before each name ("module.", "model.", "sam.", "_orig_mod.", ...).

    Raises:
        UserError: the file cannot be read, has no such weights, or has those of several models.
    """
    content = _content(path)
    found = list(_state_dicts(content, ()))
    if not found and _decoder_state(content):
        raise UserError(
            f"{path} has only an instance decoder, without the model that it belongs to: load "
            "that model's file, with the decoder's beside it as MODEL.pt and MODEL_decoder.pt."
        )
    if not found:
        raise UserError(
            f"{path} has no weights of image_encoder, prompt_encoder and mask_decoder, "
            f"but {_describe(content)}: save the state dict of a SAM model."
        )
    ranked = sorted((_rank(where), where) for where, _ in found)
    best = [where for rank, where in ranked if rank == ranked[0][0]]
    if len(best) > 1:
        raise UserError(
            f"{path} has the weights of several models ({', '.join('.'.join(w) for w in best)}): "
            "save only one of them."
        )
    weights = extract_state_dict(dict(found)[best[0]], path)
    beside = content.get(DECODER_KEY) if isinstance(content, Mapping) else None
    return Checkpoint(weights, _decoder_state(beside))


def read_instance_decoder(path: Path) -> dict[str, Tensor]:
    """Read the parameters of an instance decoder from a file of its own, by their names in it.

    Raises:
        UserError: the file cannot be read, or has no such parameters.
    """
    content = _content(path)
    state = _decoder_state(content)
    if not state:
        raise UserError(
            f"{path} has no weights of an instance decoder, but {_describe(content)}: {REMEDY}, "
            "or remove it to load the model without one."
        )
    return state


def _decoder_state(content: Any) -> dict[str, Tensor]:
    """The decoder's parameters, of which files may also keep the encoder's; empty without any."""
    if not isinstance(content, Mapping):
        return {}
    content = content.get(DECODER_KEY, content)
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not any(_DECODER_NAMES.match(key) for key in tensors):
        return {}
    return {key: value for key, value in tensors.items() if not key.startswith("encoder.")}


def _rank(where: tuple[str, ...]) -> int:
    return KEYS.index(where[-1]) if where and where[-1] in KEYS else len(KEYS)


def _content(path: Path) -> Any:
    _check_file_type(path)
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path} is damaged or not a safetensors file: {REMEDY}.") from error
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:
        # From before PyTorch 1.6 and so no zip archive, or damaged, which loading will report.
        names = []
    stand_ins: list[Any] = [(_STAND_INS.get(name, _StandIn), name) for name in names]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file can make the unpickler fail in nearly any way.
    except Exception as error:
        if "TorchScript" in str(error):
            raise UserError(
                f"{path} is a TorchScript program, not a checkpoint: save model.state_dict()."
            ) from error
        if any(word in str(error) for word in ("GLOBAL", "allowlisted", "Can only")):
            raise UserError(
                f"{path} cannot be read without running code that it contains, which is not safe: "
                "save only the model's state dict."
            ) from error
        raise UserError(
            f"{path} cannot be read as a checkpoint: it is damaged or another kind of file: "
            f"{REMEDY}."
        ) from error


def _check_file_type(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(200)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check it.") from error
    if not start:
        raise UserError(f"{path} is empty: {REMEDY}.")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a Git LFS pointer, not the file: run `git lfs pull`.")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{path} is a web page, not a checkpoint: {REMEDY}.")


def _state_dicts(
    content: Any, where: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """All mappings from names to tensors, at any depth, that include parts of a SAM model."""
    if isinstance(content, _StandIn):
        stored = vars(content)
        content = dict(_module_tensors(content, "")) if "_modules" in stored else stored
    if not isinstance(content, Mapping) or len(where) > _MAX_DEPTH:
        return
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if any(_PART.match(_WRAPPERS.sub("", key).lstrip(".")) for key in tensors):
        yield where, tensors
        return
    for key, value in content.items():
        yield from _state_dicts(value, (*where, str(key)))


def _module_tensors(module: "_StandIn", prefix: str) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of a module that was saved as a whole."""
    stored = vars(module)
    passing = stored.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, value in (stored.get(kind) or {}).items():
            if isinstance(value, Tensor) and name not in passing:
                yield f"{prefix}{name}", value.detach()
    for name, child in (stored.get("_modules") or {}).items():
        if isinstance(child, _StandIn):
            yield from _module_tensors(child, f"{prefix}{name}.")


def extract_state_dict(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Strip prefixes and wrappers from the names, and leave out what belongs to no SAM model.

    Raises:
        UserError: several models are among the weights.
    """
    by_prefix: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        match = _PART.match(_WRAPPERS.sub("", key).lstrip("."))
        if match:
            by_prefix.setdefault(match[1], {})[match[2]] = value
    whole = [
        prefix
        for prefix, part in by_prefix.items()
        if any(name.startswith("image_encoder.") for name in part)
    ]
    if len(whole) > 1:
        raise UserError(
            f"{path} has the weights of several models, whose names begin with "
            f"{', '.join(repr(prefix) for prefix in whole)}: save one of them by itself."
        )
    return by_prefix[whole[0]] if whole else next(iter(by_prefix.values()))


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return join_first(sorted(map(str, content)), 3)
    return f"an object of type {type(content).__name__.strip('_')}"


class _StandIn:
    """Takes the place of an object of any class: holds its stored attributes, and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __new__(cls, *arguments: Any) -> "_StandIn":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            vars(self).update({key: value for key, value in state.items() if isinstance(key, str)})


def _mapping(*arguments: Any) -> OrderedDict[Any, Any]:
    return OrderedDict()


_STAND_INS = {"collections.defaultdict": _mapping}
"""Replacements for classes whose items are stored one by one, which `_StandIn` cannot take."""
