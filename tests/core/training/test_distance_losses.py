"""Training micro-sam's instance decoder: targets and losses are those of its own code."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import samlet
from samlet.modeling.instance_decoder import FOREGROUND, InstanceDecoderConfig
from samlet.modeling.sam import Sam
from samlet.training.batch_norm import synchronize_batch_norm
from samlet.training.finetuning.crops import CropBatch
from samlet.training.finetuning.distance_losses import distance_losses, distance_targets
from samlet.training.finetuning.finetune import finetune
from samlet.training.finetuning.prompt_trainer import PromptPlan, PromptTrainer
from samlet.training.settings import FinetuneSettings
from tests.core.conftest import SMALL
from tests.references.distances import FILE, distance_scene, label_scene


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return label_scene(0)


def model_with_decoder() -> Sam:
    torch.manual_seed(0)
    return Sam(replace(SMALL, instance_decoder=InstanceDecoderConfig()))


def batch_of(labels: np.ndarray, count: int = 1) -> CropBatch:
    """Crops whose pictures show where the objects are."""
    shown = torch.from_numpy(labels > 0).float() * 255
    stacked = torch.from_numpy(labels)[None, None].expand(count, -1, -1, -1)
    return CropBatch(shown.expand(count, 3, -1, -1).contiguous(), stacked)


def test_targets_are_those_of_torch_em(labels: np.ndarray) -> None:
    with np.load(FILE) as reference:
        expected = reference["targets"]
    assert np.abs(distance_targets(labels) - expected).max() < 1e-6


def test_targets_do_not_depend_on_numbers(labels: np.ndarray) -> None:
    assert np.array_equal(distance_targets(labels * 700_000_000), distance_targets(labels))


def test_an_image_that_is_all_object_has_no_boundary() -> None:
    targets = distance_targets(np.ones((32, 32), int))
    assert (targets[FOREGROUND] == 1).all() and (targets[2] == 0).all()


def test_losses_are_those_of_torch_em(labels: np.ndarray) -> None:
    predicted = torch.from_numpy(distance_scene(0, 0.4, labels.shape)[None])
    with np.load(FILE) as reference:
        expected = float(reference["loss"])
    losses = distance_losses(predicted, batch_of(labels))
    assert float(sum(losses.values())) == pytest.approx(expected, abs=1e-6)


def test_padding_does_not_count(labels: np.ndarray) -> None:
    """Whatever is predicted there."""
    predicted = torch.from_numpy(distance_scene(0, 0.4, labels.shape)[None])
    padded = np.full((labels.shape[0] + 16, labels.shape[1]), -1)
    padded[: len(labels)] = labels
    beyond = torch.cat([predicted, torch.rand(1, 3, 16, labels.shape[1])], dim=2)
    losses = distance_losses(predicted, batch_of(labels))
    same = distance_losses(beyond, batch_of(padded))
    assert all(float(same[name]) == pytest.approx(float(loss)) for name, loss in losses.items())


@pytest.mark.parametrize("trained", ["all", "decoder", "head"])
def test_the_decoder_is_trained_in_place_of_a_proposal_head(
    labels: np.ndarray, trained: str
) -> None:
    learner = PromptTrainer(model_with_decoder(), PromptPlan(objects=2), trained).train()  # type: ignore[arg-type]
    assert learner.model.proposal_head is None
    losses = learner(batch_of(labels[:32, :32], count=2))
    assert {"instance foreground", "centre distance", "boundary distance"} <= losses.keys()
    torch.stack(list(losses.values())).sum().backward()
    moved = {
        name.split(".")[1]
        for name, parameter in learner.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    others = {"all": {"image_encoder", "prompt_encoder", "mask_decoder"}, "head": set()}
    assert moved == {"instance_decoder"} | others.get(trained, {"prompt_encoder", "mask_decoder"})


def test_a_few_steps_make_it_better(labels: np.ndarray) -> None:
    learner = PromptTrainer(model_with_decoder(), PromptPlan(), "head").train()
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], 1e-3)
    history = []
    for _ in range(8):
        loss = torch.stack(list(learner(batch_of(labels[32:64, 32:64])).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert np.mean(history[-3:]) < 0.7 * history[0]


def test_several_processes_do_not_change_its_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of each image, not of the batches of all processes."""

    class Several:
        num_processes, device = 2, torch.device("cuda")

    model = model_with_decoder()
    synchronized = synchronize_batch_norm(model, Several())
    assert isinstance(synchronized, Sam) and synchronized.instance_decoder is not None
    kinds = {type(module).__name__ for module in synchronized.instance_decoder.modules()}
    assert "ImageNorm" in kinds and "SyncBatchNorm" not in kinds


def test_finetuning_keeps_the_decoder(data: Path, tmp_path: Path) -> None:
    model, file = model_with_decoder(), tmp_path / "model.safetensors"
    samlet.save(model, file, card={"watershed": {"min_size": 9}})
    settings = FinetuneSettings(
        images=str(data / "images"), labels=str(data / "labels"), model=str(file), steps=1,
        batch_size=1, objects=2, precision="no", threads=1,
    )  # fmt: skip
    made = finetune(settings, data / "run")
    trained = samlet.load(made.path)
    assert trained.proposal_head is None
    assert trained.card["prompts"] == "distances" and trained.card["watershed"] == {"min_size": 9}
    assert trained.instance_decoder is not None and model.instance_decoder is not None
    before = model.instance_decoder.state_dict()
    changed = [
        k for k, v in trained.instance_decoder.state_dict().items() if (v != before[k]).any()
    ]
    assert len(changed) > 20 and not any("running" in name for name in changed)
