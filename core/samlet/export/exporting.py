"""Exporting a model: ONNX or OpenVINO graphs, and a JSON file that describes how to use them.

Neither samlet nor PyTorch is needed to run them: `examples/onnx_segment.py` does it in 60 lines.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from samlet import images, samples
from samlet._version import __version__
from samlet.errors import UserError
from samlet.modeling.fingerprint import encoder_fingerprint
from samlet.modeling.sam import Sam
from samlet.utils.files import TEMPORARY_PREFIX, explain_write_errors, replace_durably

if TYPE_CHECKING:
    from samlet.export.onnx_graphs import Graph

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
DESCRIPTION = "model.json"
FORMAT = 1
"""Version of the description; it rises with changes that break programs that read it."""
CALIBRATION_IMAGES = 64


def export(
    model: Sam,
    format: str,
    out: str | Path,
    int8: bool = False,
    calibration: str | Path | None = None,
) -> list[Path]:
    """Write an image encoder, a decoder, and a description for programs that use them.

    And the proposal head or the instance decoder, if the model has one.

    Args:
        model: the model, which is not changed.
        format: "onnx" (`encoder.onnx` and so on), or "openvino" (`.xml` and `.bin` of each).
        out: folder; created if necessary. Files of the same names are replaced.
        int8: compute most of the encoder in 8 bits; the rest stays in float32.
        calibration: folder of images like those to be segmented, from which the ranges of the
            encoder's activations are taken; `CALIBRATION_IMAGES` of them where there are more. The
            bundled samples if None.

    Returns:
        the files that were written, including the description.

    Raises:
        UserError: no such format, `out` holds the other one, a part that cannot be exported, no or
            damaged images for calibration, a package that is not installed, or a folder that cannot
            be written.
    """
    if format not in SUFFIXES:
        raise UserError(f"There is no format {format}: choose one of {', '.join(SUFFIXES)}.")
    if calibration is not None and not int8:
        raise UserError("Calibration is for 8 bits alone: ask for int8, or leave the images out.")
    try:
        from samlet.export import onnx_graphs

        if int8:
            from samlet.export import quantisation
        if format == "openvino":
            import openvino  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is missing: install what exporting needs with "
            'pip install "samlet[export]"'
        ) from error
    _check_format(Path(out), format)
    calibration_images = images.find(samples.IMAGES if calibration is None else calibration)
    graphs = {
        "encoder": onnx_graphs.encoder_graph(model),
        "decoder": onnx_graphs.decoder_graph(model),
    } | {name: onnx_graphs.object_head_graph(model, name) for name in model.object_heads}
    out = Path(out)
    with _staging_folder(out) as folder:
        for name, graph in graphs.items():
            path = folder / f"{name}.onnx"
            onnx_graphs.write_onnx(graph, path)
            if int8 and name == "encoder":
                quantisation.quantise(path, _inputs(model, calibration_images))
            if format == "openvino":
                _to_openvino(path)
        description = _description(model, graphs, SUFFIXES[format], int8)
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=1), encoding="utf-8")
        return sorted(out / path.name for path in folder.iterdir())


def _check_format(folder: Path, format: str) -> None:
    """Refuse a folder with an export in another format, which `DESCRIPTION` would describe no more.

    Raises:
        UserError: it has one.
    """
    for other in SUFFIXES.keys() - {format}:
        if (folder / f"encoder{SUFFIXES[other]}").exists():
            raise UserError(
                f"{folder} holds a model as {other} already: give {format} a folder of its own."
            )


def _inputs(model: Sam, paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """The images as inputs of the encoder; of many, an evenly spread selection."""
    for path in paths[:: ceil(len(paths) / CALIBRATION_IMAGES)]:
        resized = images.resize_longest(images.read(path), model.config.encoder_size)
        pixels = torch.from_numpy(resized).permute(2, 0, 1).to(model.device)
        yield model.preprocess(pixels).unsqueeze(0).cpu().numpy()


def _to_openvino(path: Path) -> None:
    """Replace an ONNX file by OpenVINO's .xml and .bin."""
    import openvino as ov

    graph = ov.Core().read_model(path)
    try:
        ov.save_model(graph, path.with_suffix(".xml"), compress_to_fp16=False)
    except RuntimeError as error:
        # OpenVINO's message on a full disk is only "iostream error".
        raise OSError(f"{path.stem} does not fit, or the disk fails ({error})") from error
    del graph
    for used in path.parent.glob(f"{path.name}*"):
        used.unlink()


def _description(
    model: Sam, graphs: Mapping[str, "Graph"], suffix: str, int8: bool
) -> dict[str, Any]:
    """The content of `DESCRIPTION`; docs/export.md explains it."""
    config = model.config
    return {
        "format": FORMAT,
        "samlet": __version__,
        # The path of a file is of no use elsewhere.
        "model": Path(model.name).name,
        "encoder_fingerprint": encoder_fingerprint(model),
        "image_size": config.image_size,
        "encoder_size": config.encoder_size,
        "resize": "RGB, 0 to 255; the longest side to encoder_size; bilinear, antialiased",
        "pixel_mean": config.pixel_mean,
        "pixel_std": config.pixel_std,
        "padding": "zeros, after normalisation, at the right and at the bottom",
        "mask_threshold": model.mask_threshold,
    } | {
        name: {
            "file": name + suffix,
            "precision": "int8" if int8 and name == "encoder" else "float32",
            "inputs": graph.inputs,
            "outputs": graph.outputs,
        }
        for name, graph in graphs.items()
    }


@contextmanager
def _staging_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files are moved to `folder` when the block ends without an error.

    Raises:
        UserError: `folder` cannot be written; its content is then unchanged.
    """
    is_new = not folder.exists()
    try:
        with explain_write_errors(folder, folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder) as temporary:
                yield Path(temporary)
                for path in Path(temporary).iterdir():
                    replace_durably(path, folder / path.name)
    finally:
        if is_new:
            # Not if it holds anything.
            with suppress(OSError):
                folder.rmdir()
