"""Loading and saving models: bundled, downloaded, in official layouts and in samlet's format."""

import json
import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from samlet.checkpoints.downloads import Progress, fetch
from samlet.checkpoints.official import infer_config, to_official
from samlet.checkpoints.registry import MODELS, UNVERIFIABLE, mention_licence
from samlet.checkpoints.weight_files import read_checkpoint, read_instance_decoder
from samlet.errors import UserError
from samlet.modeling import proposal_head
from samlet.modeling.initialisation import WithoutRandomWeights
from samlet.modeling.instance_decoder import InstanceDecoder, infer_instance_decoder
from samlet.modeling.official_names import to_official_names, to_samlet_names
from samlet.modeling.sam import EMBED_DIM, Sam, SamConfig
from samlet.modeling.sam_vit import SAM_VITS
from samlet.utils.files import atomic_path
from samlet.utils.messages import join_first, nearest

log = logging.getLogger(__name__)

FORMAT = 3
"""Version of samlet's format; files of a higher one are refused. Those of a model without an
instance decoder have version 2, and without a proposal head 1, as then older versions of samlet can
read them."""
METADATA_KEY = "samlet"
"""Where the safetensors metadata has the config and the model card, as JSON."""
BUNDLED = {"microscopy": Path(__file__).parents[1] / "weights" / "microscopy.safetensors"}
RENAMED = {"nuclei": "microscopy"}
"""Names of former bundled models, and the model that took the place of each."""
OFFICIAL_SUFFIXES = (".pt", ".pth")
DECODER_PREFIX = "instance_decoder."


def load(name: str | Path, device: str | torch.device = "cpu") -> Sam:
    """Load a model, ready to predict.

    Args:
        name: a name from `samlet models` (downloaded on first use unless it is bundled), or the
            path of a checkpoint: samlet's own (.safetensors), or one with the official parameter
            names of MobileSAM, SAM, RepViT-SAM, EdgeSAM or EfficientViT-SAM, as any trainer saves
            it; see `samlet.checkpoints.weight_files`. micro-sam's instance decoder is loaded with
            the model if it is in the same file, or beside NAME.pt as NAME_decoder.pt.
        device: where to put it.

    Returns:
        the model in eval mode, float32.

    Raises:
        UserError: no such name or file, a damaged file, or another architecture.
    """
    path, decoder = _locate(name)
    mention_licence(str(name))
    is_ours = path.suffix == ".safetensors" and METADATA_KEY in _metadata(path)
    model = _load_ours(path) if is_ours else _load_official(path, decoder)
    model.name = RENAMED.get(str(name), str(name))
    if model.name in MODELS:
        model.card = deepcopy(dict(MODELS[model.name].card))
    return model.to(device).eval()


def resolve_path(name: str | Path, on_progress: Progress | None = None) -> Path:
    """The path of a model's file, downloaded if necessary, as is its decoder's; see `load`.

    Args:
        name: see `load`.
        on_progress: see `samlet.checkpoints.downloads.fetch`.

    Raises:
        UserError: no such name or file, or a failed download.
    """
    return _locate(name, on_progress)[0]


def check_name(name: str | Path) -> None:
    """Make sure that a model has such a name, or that there is such a file, without reading it.

    Args:
        name: see `load`.

    Raises:
        UserError: no such name or file.
    """
    key, path = str(name), Path(name)
    if key in RENAMED or key in BUNDLED or key in MODELS or path.is_file():
        return
    if path.suffix or path.parent != Path():
        raise UserError(f"There is no checkpoint {path}; check the path.")
    if key in UNVERIFIABLE:
        raise UserError(
            f"{key} is not downloaded, as its publisher states no checksum: download "
            f"{UNVERIFIABLE[key]} yourself, and give the file's path in place of the name."
        )
    near = nearest(key, (*BUNDLED, *MODELS))
    raise UserError(f"There is no model {key}: choose {near}, or give a file's path.")


def _locate(name: str | Path, on_progress: Progress | None = None) -> tuple[Path, Path | None]:
    """The model's file and, if it has one of its own, the instance decoder's."""
    check_name(name)
    key = str(name)
    if key in RENAMED:
        _say_renamed(key)
        key = RENAMED[key]
    if key in BUNDLED:
        return BUNDLED[key], None
    if key in MODELS:
        files = [fetch(file, on_progress=on_progress) for file in MODELS[key].files]
        return files[0], files[1] if len(files) > 1 else None
    path = Path(name)
    decoder = path.with_name(f"{path.stem}_decoder{path.suffix}")
    return path, decoder if decoder.is_file() else None


@cache
def _say_renamed(name: str) -> None:
    log.info("The model %s is now part of %s, which is used instead.", name, RENAMED[name])


def save(
    model: Sam,
    path: str | Path,
    card: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model: samlet's format for .safetensors, the official layout for .pt and .pth.

    Args:
        model: what to write.
        path: the file; its suffix decides the format.
        card: the model card (data, licence, recipe, figures, limits); the model's own if None. Only
            samlet's format keeps it.
        dtype: of the weights in samlet's format; float16 halves the size of the file.

    Raises:
        UserError: another suffix, an encoder without an official layout, or a path that cannot be
            written.
    """
    path = Path(path)
    if path.suffix in OFFICIAL_SUFFIXES:
        state = to_official(model)
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
    elif path.suffix == ".safetensors":
        facts = {
            "format": _format_of(model),
            "config": model.config.to_dict(),
            "card": dict(model.card if card is None else card),
        }
        state = {
            key: (value.to(dtype) if value.is_floating_point() else value).cpu().contiguous()
            for key, value in to_samlet_names(model.state_dict()).items()
        }
        with atomic_path(path) as temporary:
            save_file(state, temporary, metadata={METADATA_KEY: json.dumps(facts)})
    else:
        raise UserError(
            f"{path} must end in .safetensors (samlet's format) or .pt (the official layout)."
        )


def _format_of(model: Sam) -> int:
    if model.instance_decoder is not None:
        return 3
    return 1 if model.proposal_head is None else 2


def read_card(path: Path) -> dict[str, Any]:
    """The model card in a checkpoint of samlet's format.

    Raises:
        UserError: the file is damaged or has another format.
    """
    return _read_facts(path)["card"]


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is damaged or not a safetensors file; download it again."
        ) from error


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(_metadata(path)[METADATA_KEY])
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is not a safetensors file that samlet wrote.") from error
    if facts["format"] > FORMAT:
        raise UserError(f"{path} was written by a newer version of samlet; upgrade with pip.")
    return facts


def _load_ours(path: Path) -> Sam:
    facts = _read_facts(path)
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} is damaged; download it again.") from error
    head = facts["config"].get("proposal_head") or {}
    if head.get("version", 0) > proposal_head.VERSION:
        raise UserError(f"{path} was written by a newer version of samlet; upgrade with pip.")
    with WithoutRandomWeights():
        model = Sam(SamConfig.from_dict(facts["config"]))
    model.card = facts["card"]
    _load_strict(model, state, path)
    return model


def _load_official(path: Path, decoder_path: Path | None) -> Sam:
    checkpoint = read_checkpoint(path)
    # A state dict that an early version of samlet saved has the names of samlet's modules.
    state = to_official_names(checkpoint.weights)
    config = infer_config(state)
    if config is None:
        raise UserError(
            f"{path} has the architecture of none of MobileSAM, SAM, RepViT-SAM, EdgeSAM and "
            f"EfficientViT-SAM: its parameters are {join_first(sorted(state), 3)}, without "
            "image_encoder.layers.*.attn.attention_biases, image_encoder.blocks.*.attn.rel_pos_h, "
            "image_encoder.features.*.token_mixer or image_encoder.backbone.stages."
        )
    decoder = checkpoint.instance_decoder
    if decoder_path is not None:
        decoder = read_instance_decoder(decoder_path)
    if decoder:
        _check_instance_decoder(decoder, decoder_path or path)
        config = replace(config, instance_decoder=infer_instance_decoder(decoder))
    with WithoutRandomWeights():
        model = Sam(config)
    _load_strict(model, state | {f"{DECODER_PREFIX}{k}": v for k, v in decoder.items()}, path)
    return model


def _check_instance_decoder(state: Mapping[str, Tensor], path: Path) -> None:
    with torch.device("meta"):
        wanted = InstanceDecoder(infer_instance_decoder(state), EMBED_DIM).state_dict()
    if faults := _misfits(wanted, state):
        raise UserError(
            f"{path} has an instance decoder of another layout than micro-sam's: {faults}."
        )


def _load_strict(model: Sam, state: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into a model, or say in one sentence which do not fit."""
    wanted, state = to_samlet_names(model.state_dict()), to_samlet_names(state)
    if faults := _misfits(wanted, state):
        raise UserError(f"{path} does not fit its architecture: {faults}.")
    model.load_state_dict(state)


def _misfits(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Which weights do not fit and why; empty if all do."""
    missing = wanted.keys() - state.keys()
    unexpected = state.keys() - wanted.keys()
    misshapen = [k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape]
    return "; ".join(
        f"{join_first(sorted(keys), 3)} {fault}"
        for keys, fault in (
            (missing, "missing"),
            (unexpected, "unexpected"),
            (misshapen, "of another shape"),
        )
        if keys
    )


def _build(config: SamConfig, checkpoint: str | Path | None = None) -> Sam:
    return Sam(config).eval() if checkpoint is None else load(checkpoint)


sam_model_registry = {
    "default": partial(_build, SamConfig()),
    "vit_t": partial(_build, SamConfig()),
    **{
        name.removeprefix("sam_"): partial(
            _build, SamConfig("sam_vit", tiny_vit=None, sam_vit=sam_vit)
        )
        for name, sam_vit in SAM_VITS.items()
    },
}
"""As in `segment_anything`: `sam_model_registry["vit_t"](checkpoint="mobile_sam.pt")`.

The architecture is inferred from the checkpoint's weights, whatever the key.
"""
