"""Published models: the facts about them, and loading them by name from a site's own source."""

import logging
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mobile_sam import sam_model_registry
from torch import Tensor

import samlet
from samlet.checkpoints import registry
from samlet.checkpoints.catalogue import catalogue
from samlet.checkpoints.downloads import fetch, find_local
from samlet.checkpoints.registry import MODELS
from samlet.checkpoints.remote_file import RemoteFile
from samlet.modeling.efficientvit import EFFICIENTVITS
from samlet.modeling.repvit import REPVITS
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.sam_vit import SAM_VITS
from samlet.utils.files import checksum_of
from tests.file_server import CONTENT, PAGE, SHA256, FileServer, Reply

XXH128 = "xxh128"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SAMLET_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()


def register(
    name: str, monkeypatch: pytest.MonkeyPatch, weights: Path, decoder: Path | None = None
) -> None:
    """Expect these files of a model, from now on."""
    known = MODELS[name]
    remote = None
    if decoder is not None and known.instance_decoder is not None:
        remote = replace(known.instance_decoder, checksum=checksum_of(decoder, XXH128))
    expected = replace(known.weights, checksum=checksum_of(weights, XXH128))
    monkeypatch.setitem(MODELS, name, replace(known, weights=expected, instance_decoder=remote))


@pytest.fixture(scope="module")
def official() -> OrderedDict[str, Tensor]:
    """Random weights in the layout in which MobileSAM's own code has them, as micro-sam does."""
    torch.manual_seed(0)
    state = sam_model_registry["vit_t"]().state_dict()
    assert isinstance(state, OrderedDict)
    return state


def test_facts_are_well_formed() -> None:
    files = [f for m in MODELS.values() for f in (m.weights, m.instance_decoder) if f is not None]
    assert len({file.filename for file in files}) == len(files)
    assert len({file.checksum for file in files}) == len(files)
    assert len({file.url for file in files}) == len(files)
    for file in files:
        algorithm, _, digest = file.checksum.partition(":")
        assert file.url.startswith("https://")
        assert len(bytes.fromhex(digest)) == {"sha256": 32, XXH128: 16}[algorithm]
    for name, model in MODELS.items():
        assert model.weights.name == name
        assert model.summary and model.publisher
        decoder = model.instance_decoder
        assert decoder is None or decoder.name == f"{name}_decoder"
        # Those of micro-sam have one, and nobody else's.
        assert (decoder is not None) == (model.weights.checksum.startswith(XXH128))


@pytest.mark.parametrize("letter", "tblh")
def test_parameters_are_those_of_the_architecture(letter: str) -> None:
    vit = None if letter == "t" else SAM_VITS[f"sam_vit_{letter}"]
    with torch.device("meta"):
        model = Sam(SamConfig("sam_vit", tiny_vit=None, sam_vit=vit) if vit else SamConfig())
    count = sum(parameter.numel() for parameter in model.parameters())
    prefixes = (f"vit_{letter}_", f"sam_vit_{letter}", *(["mobile_sam"] if letter == "t" else []))
    listed = [model.parameters for name, model in MODELS.items() if name.startswith(prefixes)]
    assert listed and set(listed) == {count}


@pytest.mark.parametrize("name", [*EFFICIENTVITS, "edge_sam", "edge_sam_3x"])
def test_parameters_of_other_encoders(name: str) -> None:
    if name in EFFICIENTVITS:
        config = SamConfig("efficientvit", tiny_vit=None, efficientvit=EFFICIENTVITS[name])
    else:
        config = SamConfig("repvit", tiny_vit=None, repvit=REPVITS["edge_sam"])
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Sam(config).parameters())
    assert MODELS[name].parameters == count


@pytest.mark.parametrize("pack", [dict, lambda state: {"model_state": state, "decoder_state": {}}])
def test_micro_sams_model_is_loaded_by_its_name(
    official: OrderedDict[str, Tensor],
    pack: Callable[[Any], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "models" / "vit_t_lm.pt"
    torch.save(pack(official), path)
    register("vit_t_lm", monkeypatch, path)
    model = samlet.load("vit_t_lm")
    assert model.name == "vit_t_lm"
    loaded = model.state_dict()
    assert loaded.keys() == official.keys()
    different = {key for key in loaded if not torch.equal(loaded[key], official[key])}
    # MobileSAM's encoder has a classifier, which nobody uses.
    assert different <= {"image_encoder.head.weight", "image_encoder.head.bias"}


def test_another_layout_under_a_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "models" / "vit_t_lm.pt"
    torch.save({"encoder.weight": torch.zeros(3)}, path)
    with pytest.raises(samlet.UserError, match=r"not the expected vit_t_lm \(wrong checksum\)"):
        samlet.load("vit_t_lm")
    register("vit_t_lm", monkeypatch, path)
    with pytest.raises(samlet.UserError, match="has no weights of image_encoder"):
        samlet.load("vit_t_lm")
    image_encoder = {"image_encoder.conv1.weight": torch.zeros(3)}
    torch.save(image_encoder, path)
    register("vit_t_lm", monkeypatch, path)
    with pytest.raises(samlet.UserError, match="architecture of none of MobileSAM"):
        samlet.load("vit_t_lm")


def test_licence_for_non_commercial_use_is_said_once(
    official: OrderedDict[str, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With EdgeSAM, which is; and with another model, which is not."""
    edge_sam = Sam(SamConfig("repvit", tiny_vit=None, repvit=REPVITS["edge_sam"]))
    registry.mention_licence.cache_clear()
    with caplog.at_level(logging.WARNING, "samlet"):
        for name, state in (("vit_t_lm", official), ("edge_sam_3x", edge_sam.state_dict())):
            path = tmp_path / "models" / MODELS[name].weights.filename
            torch.save(state, path)
            register(name, monkeypatch, path)
            for _ in range(2):
                samlet.load(name)
    told = "The model edge_sam_3x is for non-commercial use only (NTU S-Lab License 1.0)."
    assert caplog.messages == [told]
    registry.mention_licence.cache_clear()
    licences = {entry.name: entry.licence for entry in catalogue()}
    assert licences["edge_sam_3x"] == "NTU S-Lab License 1.0, non-commercial"
    assert "non-commercial" not in licences["vit_t_lm"]


class TestMirror:
    remote = RemoteFile("demo", "https://publisher.invalid/x/demo.bin", "demo.pt", SHA256, None)

    def test_a_folders_file_is_used_where_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "models" / "demo.pt"
        path.write_bytes(CONTENT)
        assert fetch(self.remote) == path == find_local(self.remote)
        # Only the record that it was verified.
        assert [file.name for file in (tmp_path / "cache").iterdir()] == ["demo.pt.verified"]

    def test_a_folders_file_is_hashed_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "models" / "demo.pt").write_bytes(CONTENT)
        fetch(self.remote)
        monkeypatch.setattr(RemoteFile, "checksum_of", lambda *_: pytest.fail("hashed again"))
        fetch(self.remote)

    def test_a_damaged_file_is_neither_used_nor_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "models" / "demo.pt"
        for content in (PAGE, CONTENT[:-1], b""):
            path.write_bytes(content)
            with pytest.raises(samlet.UserError) as caught:
                fetch(self.remote)
            for fact in (str(path), "wrong checksum", self.remote.url, SHA256):
                assert fact in str(caught.value)
            assert path.read_bytes() == content

    def test_a_missing_file_is_not_fetched_from_the_publisher(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("requests.get", lambda *_, **__: pytest.fail("went to the network"))
        assert find_local(self.remote) is None
        with pytest.raises(samlet.UserError) as caught:
            fetch(self.remote)
        for fact in (str(tmp_path / "models"), "demo.pt", self.remote.url, SHA256):
            assert fact in str(caught.value)

    def test_the_cache_comes_first(self, tmp_path: Path) -> None:
        kept = tmp_path / "cache" / "demo.pt"
        kept.parent.mkdir()
        kept.write_bytes(CONTENT)
        shutil.copy(kept, tmp_path / "models")
        assert fetch(self.remote) == kept == find_local(self.remote)

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_an_address_takes_the_publishers_place(
        self, server: FileServer, slash: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prefix = server.url.replace("demo.pt", "sam/models")
        monkeypatch.setenv("SAMLET_MODELS", prefix + slash)
        assert fetch(self.remote).read_bytes() == CONTENT
        assert [request.path for request in server.requests] == ["/sam/models/demo.pt"]

    def test_an_addresses_checksums_are_verified(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SAMLET_MODELS", server.url.rpartition("/")[0])
        server.always = Reply(content=CONTENT[::-1])
        with pytest.raises(samlet.UserError, match=r"another file .* save http://127"):
            fetch(self.remote)
        assert find_local(self.remote) is None

    @pytest.mark.parametrize("value", ["s3://bucket", "/no/such/folder", "file:///tmp"])
    def test_what_is_neither(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SAMLET_MODELS", value)
        with pytest.raises(samlet.UserError, match="SAMLET_MODELS must name a folder, or an add"):
            fetch(self.remote)
