"""Models that are downloaded when they are chosen, from a server on this machine."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from qtpy.QtCore import Qt
from rich.filesize import decimal

import samlet
from samlet.checkpoints.downloads import CHUNK_BYTES
from samlet.checkpoints.registry import MODELS
from samlet.checkpoints.remote_file import RemoteFile
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.tiny_vit import TINY_VITS
from samlet.utils.files import checksum_of
from tests.file_server import PAGE, FileServer, Reply
from tests.napari.desk import Desk, downloads


def is_open(desk: Desk, name: str) -> bool:
    """Whether the image is seen by the model of this name."""
    embeddings = desk.workspace.embeddings
    return embeddings is not None and embeddings.predictor.model.name == name


def publish(weights: RemoteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a model consist of this file alone."""
    model = replace(MODELS[weights.name], weights=weights, instance_decoder=None)
    monkeypatch.setitem(MODELS, weights.name, model)


def test_a_model_is_downloaded_in_the_background(
    desk: Desk,
    picture: np.ndarray,
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk.open(desk.viewer.add_image(picture, name="cells"))
    torch.manual_seed(0)
    path = tmp_path / "published.pt"
    samlet.save(Sam(SamConfig(image_size=1024, tiny_vit=TINY_VITS["tiny_vit_2m"])), path)
    content = path.read_bytes()
    server.always = Reply(content=content, hold_after=len(content) // 2)
    weights = RemoteFile(
        "vit_t_lm", server.url, "vit_t_lm.pt", checksum_of(path, "xxh128"), size=None
    )
    publish(weights, monkeypatch)
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    with desk.watched("downloading a model"):
        desk.widget.form.model.value = "vit_t_lm"
        desk.until(lambda: 40 < desk.widget.progress.value < 60)
        # The server holds back the rest.
        part, half = tmp_path / "cache" / "vit_t_lm.pt.part", len(content) // 2
        desk.until(lambda: part.stat().st_size >= half - CHUNK_BYTES)
    assert desk.status.startswith("Downloading vit_t_lm: ")
    assert desk.status.endswith(f" of {decimal(len(content))} ...")
    # Stopped, the model from before stays; chosen again, the download goes on where it was.
    with desk.watched("stopping a download"):
        desk.press("Stop")
    assert "was stopped: choose it again to resume. microscopy stays in use." in desk.status
    assert desk.widget.form.model.value == desk.controller.model == "microscopy"
    assert desk.widget.progress.value == 0 and is_open(desk, "microscopy")
    server.gate.set()
    desk.until(lambda: not downloads())
    kept = part.stat().st_size
    assert half - CHUNK_BYTES <= kept < len(content)
    desk.widget.form.model.value = "vit_t_lm"
    desk.until(lambda: is_open(desk, "vit_t_lm"))
    assert server.requests[-1].range == f"bytes={kept}-"
    desk.settle()
    assert desk.widget.progress.value == 0
    # A model that is there by the time that its image was left.
    weights = replace(weights, name="vit_l_lm", filename="vit_l_lm.pt")
    publish(weights, monkeypatch)
    server.gate.clear()
    image = desk.widget.form.image.value
    desk.widget.form.model.value = "vit_l_lm"
    desk.until(lambda: 40 < desk.widget.progress.value < 60)
    desk.widget.form.image.value = None
    server.gate.set()
    desk.until(lambda: desk.widget.progress.value == 0)
    desk.open(image)
    # Another model whose server sends a web page: one sentence, and no bar.
    server.always = Reply(content=PAGE, content_type="text/html")
    weights = replace(weights, name="vit_b_lm", filename="vit_b_lm.pt")
    publish(weights, monkeypatch)
    desk.widget.form.model.value = "vit_b_lm"
    desk.until(lambda: "the server sent a web page" in desk.status)
    assert "\n" not in desk.status and desk.widget.progress.value == 0
    assert desk.status.endswith("vit_l_lm stays in use.")


def test_models_in_the_list_say_what_they_are_good_for(desk: Desk) -> None:
    choice = desk.widget.form.model
    index = choice.choices.index("vit_t_lm")
    tooltip = choice.native.itemData(index, Qt.ItemDataRole.ToolTipRole)
    assert choice.native.itemText(index) == "vit_t_lm"
    assert "cells and nuclei in light microscopy" in tooltip and "CC-BY-4.0" in tooltip
