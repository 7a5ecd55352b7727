"""What `samlet encode` put in the cache is what napari looks for."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.layers import Image
from typer.testing import CliRunner

import samlet
from samlet import Predictor
from samlet.cli.main import app
from samlet.predict.embedding_cache import EmbeddingCache
from samlet.utils.cache_folder import embeddings_dir
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.inference.roi import Roi
from samlet_napari.layers.layer_reader import LayerSnapshot
from samlet_napari.layers.plane import Plane
from tests.models import quick_nuclei


@pytest.mark.parametrize(
    ("dtype", "shape", "options"),
    [
        (np.uint8, (90, 120), []),
        (np.uint8, (90, 120, 3), []),
        (np.uint16, (90, 120), ["--full-range"]),
        (np.float32, (90, 120), ["--full-range"]),
    ],
)
def test_it_is_found(
    dtype: type[np.generic],
    shape: tuple[int, ...],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    pixels = np.random.default_rng(0).gamma(2, 30, shape).clip(0, 255).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    samlet.save(quick_nuclei(128), tmp_path / "model.safetensors")
    command = ["encode", str(tmp_path / "a.tif"), "--model", str(tmp_path / "model.safetensors")]
    done = CliRunner().invoke(app, [*command, *options])
    assert done.exit_code == 0, done.output

    predictor = Predictor(samlet.load(tmp_path / "model.safetensors"))
    encoded: list[np.ndarray] = []
    monkeypatch.setattr(predictor, "encode", encoded.append)
    layer = Image(pixels)
    snapshot = LayerSnapshot.of([layer])
    cache = EmbeddingCache(embeddings_dir(), 1 << 30, 1 << 30)
    provider = EmbeddingProvider(predictor, snapshot, cache)
    embedding = provider.get(Roi(Plane((0, 1), (0, 0)), (0, 0, 120, 90)))
    assert embedding.original_size == (90, 120) and not encoded
