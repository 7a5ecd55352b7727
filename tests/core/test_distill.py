"""Training: data that depends on the step alone, losses against closed forms, exact resume."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import samlet
from samlet import samples
from samlet.distill.data import Batch, Crops, Example, kind_of, load_examples
from samlet.distill.embedding_training import embedding_losses, plug_in
from samlet.distill.loop import LoopSettings, train
from samlet.distill.losses import dense_targets, embedding_loss, mask_iou, mask_loss
from samlet.distill.mask_training import MaskLearner, PromptPlan, mask_losses
from samlet.distill.prompts import (
    corrective_points,
    jittered_boxes,
    random_points,
    sample_objects,
)
from samlet.modeling.sam import Sam

from .conftest import SMALL


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return load_examples(samples.IMAGES.parent)


@pytest.fixture(scope="module")
def batch(examples: list[Example]) -> Batch:
    return Crops(examples, image_size=128, crop_size=64, batch_size=3, seed=5).sampler()(7)


def test_kinds_of_the_samples(examples: list[Example]) -> None:
    for example in examples:
        assert example.name.startswith(kind_of(example.image))


def test_a_batch_depends_on_the_step_alone(examples: list[Example]) -> None:
    crops = Crops(examples, image_size=128, crop_size=64, batch_size=3, seed=5)
    first, again = crops.sampler(), crops.sampler()
    first(0)
    a, b, other = first(4), again(4), first(5)
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.labels, b.labels)
    assert not torch.equal(a.images, other.images)


def test_crops_keep_image_and_labels_together(examples: list[Example]) -> None:
    """Paint the labels into the image: after cutting, turning and scaling they still agree."""
    painted = [
        Example(e.name, np.repeat((e.labels > 0)[:, :, None] * np.uint8(255), 3, 2), e.labels)
        for e in examples
    ]
    sampler = Crops(painted, image_size=512, crop_size=128, batch_size=8, seed=1).sampler()
    agreements = []
    for step in range(4):
        drawn = sampler(step)
        grey = drawn.images.mean(1)
        for picture, labels in zip(grey, drawn.labels, strict=True):
            valid = labels >= 0
            inside, outside = picture[valid & (labels > 0)], picture[valid & (labels == 0)]
            if len(inside) > 50 and len(outside) > 50:
                # The augmentation may invert, so only the separation counts.
                agreements.append(abs(inside.mean() - outside.mean()) / 255)
    assert len(agreements) > 10
    assert np.median(agreements) > 0.4


def test_mask_loss_against_its_formula() -> None:
    logits = torch.tensor([[[[2.0, -1.0], [0.5, -3.0]]]])
    target = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    p = 1 / (1 + np.exp(-logits.numpy().ravel().astype(np.float64)))
    y = target.numpy().ravel()
    dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    focal = (-np.abs(p - y) * (y * np.log(p) + (1 - y) * np.log(1 - p))).sum()
    expected = dice + focal / (p.sum() + y.sum() + 1)
    assert mask_loss(logits, target).item() == pytest.approx(expected, rel=1e-5)
    perfect = mask_loss((target - 0.5) * 100, target).item()
    assert perfect == pytest.approx(0, abs=1e-3)
    assert mask_iou(logits, target).item() == pytest.approx(1 / 2)


def test_embedding_loss_leaves_padding_out() -> None:
    student, teacher = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)
    teacher[..., 1] = 1000.0
    valid = torch.zeros(1, 32, 32, dtype=torch.bool)
    valid[:, :, :16] = True
    assert embedding_loss(student, teacher, valid).item() == pytest.approx(1.0)


def test_dense_targets_point_at_centroids() -> None:
    labels = torch.zeros(2, 16, 16, dtype=torch.long)
    labels[0, 4:12, 0:8] = 3
    labels[1, :4, :4] = 1
    foreground, offsets = dense_targets(labels, 4)
    assert foreground[0, 0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    # Cells (0..1, 1..2) have their centroid at (0.5, 1.5); units are 4 cells.
    assert offsets[0, :, 1, 0].tolist() == [0.125, 0.125]
    assert offsets[0, :, 2, 1].tolist() == [-0.125, -0.125]
    assert offsets[0, :, 0, 0].tolist() == [0, 0]
    assert offsets[1, :, 0, 0].tolist() == [0, 0]


def test_simulated_prompts_lie_where_they_should(batch: Batch) -> None:
    rng = torch.Generator().manual_seed(0)
    ids = sample_objects(batch.labels, 4, min_area=10, rng=rng).flatten()
    labels = batch.labels.repeat_interleave(4, dim=0)
    masks = (labels == ids.view(-1, 1, 1))[ids != -2]
    assert len(masks) >= 4
    assert (masks.sum((1, 2)) >= 10).all()
    rows = torch.arange(len(masks))
    for central in (0.0, 1.0):
        x, y = random_points(masks, rng, central).long().unbind(1)
        assert masks[rows, y, x].all()
    for box, mask in zip(jittered_boxes(masks, rng, jitter=0.0), masks, strict=True):
        y, x = mask.nonzero(as_tuple=True)
        assert box.tolist() == [x.min(), y.min(), x.max(), y.max()]
    predicted = masks.roll(3, dims=2)
    points, point_labels = corrective_points(predicted, masks, rng)
    x, y = points.long().unbind(1)
    assert (predicted ^ masks)[rows, y, x].all()
    assert torch.equal(masks[rows, y, x].float(), point_labels)


def test_no_objects_no_harm(small_model: Sam) -> None:
    learner = MaskLearner(Sam(SMALL))
    empty = Batch(torch.rand(2, 3, 64, 64) * 255, torch.zeros(2, 64, 64, dtype=torch.long))
    losses = mask_losses(learner, empty, PromptPlan(objects=2, correct_share=1.0))
    assert all(torch.isfinite(v) for v in losses.values())
    assert losses["mask"].item() == 0


def test_random_points_of_a_mask_are_even() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 2:4, 2:4] = True
    rng = torch.Generator().manual_seed(0)
    points = random_points(mask.expand(4000, -1, -1), rng)
    _, counts = points.unique(dim=0, return_counts=True)
    assert len(counts) == 4
    assert (counts - 1000).abs().max() < 120


@pytest.mark.parametrize("frozen", [True, False])
def test_mask_training_learns(examples: list[Example], frozen: bool, tmp_path: Path) -> None:
    """A few steps on one batch lower the loss; a frozen encoder stays bit for bit as it was."""
    torch.manual_seed(0)
    learner = MaskLearner(Sam(SMALL), train="decoder" if frozen else "all")
    before = {k: v.clone() for k, v in learner.model.image_encoder.state_dict().items()}
    fixed = Crops(examples, image_size=128, crop_size=64, batch_size=4, seed=0).sampler()(0)
    plan = PromptPlan(objects=2, min_area=10, box_share=1.0, correct_share=0.0)
    history: list[float] = []

    def losses(_: int) -> dict[str, torch.Tensor]:
        values = mask_losses(learner, fixed, plan)
        history.append(sum(v.item() for v in values.values()))
        return values

    settings = LoopSettings(steps=60, learning_rate=2e-3, warmup=5, ema=0.5)
    averaged = train(learner, losses, settings, tmp_path)
    assert np.mean(history[-5:]) < 0.85 * np.mean(history[:5])
    assert isinstance(averaged, MaskLearner)
    after = averaged.model.image_encoder.state_dict()
    unchanged = all(torch.equal(before[k], after[k]) for k in before)
    assert unchanged is frozen


def test_distillation_learns_and_plugs_in(batch: Batch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher, student = Sam(SMALL).eval(), Sam(SMALL)
    history: list[float] = []

    def losses(_: int) -> dict[str, torch.Tensor]:
        values = embedding_losses(student.image_encoder, student, teacher, batch)
        history.append(values["embedding"].item())
        return values

    settings = LoopSettings(steps=40, learning_rate=2e-3, warmup=5, ema=0.5)
    train(student.image_encoder, losses, settings, tmp_path)
    assert np.mean(history[-5:]) < 0.5 * np.mean(history[:5])
    plug_in(teacher, student)
    for name, weight in teacher.mask_decoder.state_dict().items():
        assert torch.equal(student.mask_decoder.state_dict()[name], weight)


RUN = """
import sys, torch
from torch import nn
from pathlib import Path
from samlet.distill.loop import LoopSettings, train
import samlet.distill.loop as loop, time
torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.Dropout(0.3), nn.Linear(32, 1))
def losses(step):
    time.sleep(float(sys.argv[2]))
    x = torch.randn(16, 8)
    return {"error": (model(x) - x[:, :1]).square().mean()}
result = train(model, losses, LoopSettings(60, 1e-2, warmup=5, save_minutes=0), Path(sys.argv[1]))
torch.save(result.state_dict(), Path(sys.argv[1]) / "result.pt")
"""


def start(out: Path, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(out), str(pause)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A background shell ignores Ctrl-C, and would hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env=os.environ | {"COLUMNS": "200"},
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_and_resumed_equals_never_stopped(how: signal.Signals, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(whole, 0).wait(timeout=120) == 0
    process = start(broken, 0.05)
    deadline = time.monotonic() + 60
    while not (broken / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(how)
    told, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    step = torch.load(broken / "state.pt", weights_only=True)["step"]
    assert 0 < step < 60
    if how == signal.SIGINT:
        assert f"Stopped at step {step}; the same command goes on" in told
    assert start(broken, 0).wait(timeout=120) == 0
    a = torch.load(whole / "result.pt", weights_only=True)
    b = torch.load(broken / "result.pt", weights_only=True)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    settings = LoopSettings(steps=2, learning_rate=1e-3)
    for width in (3, 4):
        model = nn.Linear(width, 1)

        def losses(_: int, model: nn.Linear = model) -> dict[str, torch.Tensor]:
            return {"x": model.weight.sum()}

        if width == 3:
            train(model, losses, settings, tmp_path)
        else:
            with pytest.raises(samlet.UserError, match="another model"):
                train(model, losses, settings, tmp_path)


def test_mismatched_labels_are_named(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "images" / "a.png")
    Image.new("L", (10, 20)).save(tmp_path / "labels" / "a.png")
    with pytest.raises(
        samlet.UserError, match=r"a\.png is 10 x 20 pixels but its image is 20 x 10"
    ):
        load_examples(tmp_path)
    with pytest.raises(samlet.UserError, match="None of the named images"):
        load_examples(tmp_path, only={"b"})
