"""Training crops, losses against closed forms, simulated prompts, and a few training steps."""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import samlet
from samlet import samples
from samlet.datasets.examples import Example, load_examples, microscopy_kind
from samlet.modeling.sam import Sam
from samlet.modeling.tiny_vit import TinyViT
from samlet.training.distillation.batches import DistillBatch, normalize_images
from samlet.training.distillation.decoupled import (
    EmbeddingDistiller,
    attach_decoder,
    recalibrate_batch_norm,
    teacher_embed_fn,
)
from samlet.training.finetuning.crops import CropBatch, Crops
from samlet.training.finetuning.decoder_crops import DecoderCrops, place_decoder_crops
from samlet.training.finetuning.prompt_trainer import PromptPlan, PromptTrainer
from samlet.training.finetuning.proposal_losses import proposal_targets
from samlet.training.finetuning.simulated_prompts import (
    corrective_points,
    jittered_boxes,
    random_points,
    sample_objects,
)
from samlet.training.loop import train
from samlet.training.losses import embedding_loss, mask_iou, mask_loss
from samlet.training.settings import LoopSettings
from samlet.training.stream import Batches, Position
from tests.core.conftest import SMALL


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return load_examples(samples.IMAGES.parent, only=samples.NUCLEI)


@pytest.fixture(scope="module")
def batch(examples: list[Example]) -> CropBatch:
    return Crops(examples, image_size=128, crop_size=64, batch_size=3, seed=5).batch(7)


def test_kinds_of_the_samples(examples: list[Example]) -> None:
    for example in examples:
        assert example.name.startswith(microscopy_kind(example.image))


def test_a_batch_depends_only_on_the_step(examples: list[Example]) -> None:
    crops = Crops(examples, image_size=128, crop_size=64, batch_size=3, seed=5)
    (a, after), (other, _) = islice(crops({"step": 4}), 2)
    b, _ = next(islice(crops({}), 4, None))
    assert after == {"step": 5}
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.labels, b.labels)
    assert not torch.equal(a.images, other.images)


def test_crops_that_zoom_in_show_an_object_large() -> None:
    """One small object, anywhere in a large image, is as wide as was asked for, and complete."""
    for seed, side in enumerate((8, 20, 45)):
        labels = np.zeros((1, 500, 700), np.int32)
        y, x = np.random.default_rng(seed).integers(0, (500 - side, 700 - side))
        labels[0, y : y + side, x : x + side] = 7
        example = Example("one", np.zeros((500, 700, 3), np.uint8), labels)
        crops = Crops([example], 128, 64, 16, seed, zoom_share=1, zoom=(3, 6))
        for crop in crops.batch(0).labels[:, 0]:
            shown = int((crop == 7).any(0).sum())
            assert min(64 / 6, 64 * side / 32) - 2 <= shown <= 64 / 3 + 2
            assert (crop == 7).sum() == pytest.approx(shown**2, rel=0.2)


def test_crops_keep_image_and_labels_together(examples: list[Example]) -> None:
    """Paint the labels into the image: after cutting, turning and scaling they still agree."""
    painted = [
        Example(e.name, np.repeat((e.labels[0] > 0)[:, :, None] * np.uint8(255), 3, 2), e.labels)
        for e in examples
    ]
    crops = Crops(painted, image_size=512, crop_size=128, batch_size=8, seed=1)
    agreements = []
    for step in range(4):
        drawn = crops.batch(step)
        grey = drawn.images.mean(1)
        for picture, labels in zip(grey, drawn.labels[:, 0], strict=True):
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


def test_mask_loss_has_the_gradient_of_its_formula() -> None:
    """Also where masks are learnt from a few at a time."""
    torch.manual_seed(0)
    targets = F.avg_pool2d((torch.rand(9, 1, 256, 256) < 0.3).float(), 2)
    weight = torch.rand(9, 4)
    gradients: list[torch.Tensor] = []
    for own in (True, False):
        logits = 3 * torch.randn(9, 4, 128, 128, generator=torch.Generator().manual_seed(0))
        logits.requires_grad_(True)
        if own:
            losses = mask_loss(logits, targets)
        else:
            p = logits.sigmoid()
            area = (p + targets).sum((2, 3)) + 1
            cross_entropy = F.binary_cross_entropy_with_logits(
                logits, targets.expand_as(logits), weight=(p - targets).abs().detach(),
                reduction="none",
            )  # fmt: skip
            losses = 1 - (2 * (p * targets).sum((2, 3)) + 1) / area
            losses = losses + cross_entropy.sum((2, 3)) / area.detach()
        (losses * weight).sum().backward()
        assert logits.grad is not None
        gradients.append(logits.grad)
    assert gradients[1].abs().max() > 1e-6
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-9, rtol=1e-4)


def test_embedding_loss_leaves_padding_out() -> None:
    student, teacher = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)
    teacher[..., 1] = 1000.0
    valid = torch.zeros(1, 32, 32, dtype=torch.bool)
    valid[:, :, :16] = True
    assert embedding_loss(student, teacher, valid).item() == pytest.approx(1.0)


def test_proposal_targets_point_at_centroids_and_sides() -> None:
    labels = torch.zeros(2, 1, 16, 16, dtype=torch.long)
    labels[0, 0, 4:12, 0:8] = 3
    labels[1, 0, :4, :4] = 1
    targets = proposal_targets(labels)
    assert targets.foreground[0, 0].tolist() == [
        [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]
    ]  # fmt: skip
    # Cells (0..1, 1..2) have their centroid at (0.5, 1.5) and its box ends at 0, 1, 2 and 3; units
    # are 4 cells, and distances begin in a cell's middle.
    assert targets.geometry[0, :, 1, 0].tolist() == [0.125, 0.125, 0.125, 0.125, 0.375, 0.375]
    assert targets.geometry[0, :, 2, 1].tolist() == [-0.125, -0.125, 0.375, 0.375, 0.125, 0.125]
    assert targets.geometry[0, :, 0, 0].tolist() == [0] * 6
    assert targets.geometry[1, :2, 0, 0].tolist() == [0, 0]
    assert targets.weight[0, 0, 1, 0] == 0.5 and targets.weight[0, 0, 0, 0] == 0


def test_simulated_prompts_lie_where_they_should(batch: CropBatch) -> None:
    rng = torch.Generator().manual_seed(0)
    ids = sample_objects(batch.labels, 4, min_area=10, rng=rng).flatten()
    labels = batch.labels[:, 0].repeat_interleave(4, dim=0)
    masks = (labels == ids.view(-1, 1, 1))[ids != -2]
    assert len(masks) >= 4
    assert (masks.sum((1, 2)) >= 10).all()
    rows = torch.arange(len(masks))
    for central in (0.0, 1.0):
        x, y = random_points(masks, rng, central).long().unbind(1)
        assert masks[rows, y, x].all()
    for box, mask in zip(jittered_boxes(masks, rng, jitter=0.0), masks, strict=True):
        y, x = mask.nonzero(as_tuple=True)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    predicted = masks.roll(3, dims=2)
    points, point_labels = corrective_points(predicted, masks, rng)
    x, y = points.long().unbind(1)
    assert (predicted ^ masks)[rows, y, x].all()
    assert torch.equal(masks[rows, y, x].float(), point_labels)


def test_no_objects_no_harm(small_model: Sam) -> None:
    learner = PromptTrainer(Sam(SMALL), PromptPlan(objects=2, correction_share=1.0))
    empty = CropBatch(torch.rand(2, 3, 64, 64) * 255, torch.zeros(2, 1, 64, 64, dtype=torch.long))
    losses = learner(empty)
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


class Recorded(nn.Module):
    """A learner on one fixed batch, whose losses are kept."""

    def __init__(self, learner: nn.Module) -> None:
        super().__init__()
        self.learner = learner
        self.history: list[float] = []

    def forward(self, batch: object) -> dict[str, torch.Tensor]:
        losses: dict[str, torch.Tensor] = self.learner(batch)
        self.history.append(sum(v.item() for v in losses.values()))
        return losses


def always(batch: object) -> Batches:
    def batches(position: Position) -> Iterator[tuple[object, Position]]:
        for step in count(position.get("step", 0)):
            yield batch, {"step": step + 1}

    return batches


@pytest.mark.parametrize("frozen", [True, False])
def test_mask_training_learns(examples: list[Example], frozen: bool, tmp_path: Path) -> None:
    """A few steps on one batch lower the loss; a frozen encoder stays bit for bit as it was."""
    torch.manual_seed(0)
    plan = PromptPlan(objects=2, min_area=10, box_share=1.0, correction_share=0.0)
    learner = Recorded(PromptTrainer(Sam(SMALL), plan, train="decoder" if frozen else "all"))
    encoder = "learner.model.image_encoder"
    before = {k: v.clone() for k, v in learner.get_submodule(encoder).state_dict().items()}
    fixed = Crops(examples, image_size=128, crop_size=64, batch_size=2, seed=0).batch(0)
    settings = LoopSettings(steps=30, learning_rate=2e-3, warmup=5, ema=0.5)
    averaged = train(learner, always(fixed), settings, tmp_path)
    assert np.mean(learner.history[-5:]) < 0.85 * np.mean(learner.history[:5])
    after = averaged.get_submodule(encoder).state_dict()
    unchanged = all(torch.equal(before[k], after[k]) for k in before)
    assert unchanged is frozen


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        ("all", {"image_encoder", "prompt_encoder", "mask_decoder", "proposal_head"}),
        ("decoder", {"prompt_encoder", "mask_decoder", "proposal_head"}),
        ("head", {"proposal_head"}),
    ],
)
def test_each_part_that_is_trained_gets_a_gradient(
    batch: CropBatch, trained: Literal["all", "decoder", "head"], expected: set[str]
) -> None:
    torch.manual_seed(0)
    learner = PromptTrainer(Sam(SMALL), PromptPlan(objects=2), trained).train()
    torch.stack(list(learner(batch).values())).sum().backward()
    moved = {
        name.split(".")[1]
        for name, parameter in learner.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    assert moved == expected


def test_decoder_crops_are_cut_from_the_whole_crop(examples: list[Example]) -> None:
    """Objects lie whole in their decoder crops, whose masks are cut from the training crop's."""
    fixed = Crops(examples, image_size=128, crop_size=128, batch_size=3, seed=0).batch(0)
    rng = torch.Generator().manual_seed(0)
    ids = sample_objects(fixed.labels, 6, min_area=4, rng=rng).flatten()
    image_of = torch.arange(3).repeat_interleave(6)
    decoder_crops = place_decoder_crops(fixed.labels, image_of, ids, side=4, rng=rng)
    assert ((decoder_crops.corners >= 0) & (decoder_crops.corners <= 4)).all()
    whole = DecoderCrops(image_of, torch.zeros(18, 2, dtype=torch.long), side=8)
    masks = whole.halved_masks(fixed.labels, ids)
    tokens = F.avg_pool2d(masks, 8) > 0
    area, small = tokens.flatten(1).sum(1), tokens.any(2).sum(-1).flatten() <= 4
    small &= tokens.any(3).sum(-1).flatten() <= 4
    kept = (F.avg_pool2d(decoder_crops.halved_masks(fixed.labels, ids), 8) > 0).flatten(1).sum(1)
    assert small.sum() >= 6
    assert torch.equal(area[small], kept[small])
    grid = torch.arange(3 * 64.0).view(3, 1, 8, 8)
    for cut, image, (top, left) in zip(
        decoder_crops.cut(grid), image_of, decoder_crops.corners, strict=True
    ):
        assert torch.equal(cut, grid[image, :, top : top + 4, left : left + 4])


def test_recalibration_takes_the_statistics_of_all_batches(examples: list[Example]) -> None:
    torch.manual_seed(0)
    model = Sam(SMALL)
    crops = [Crops(examples, 128, 64, 2, seed=3).batch(step) for step in range(5)]
    batches = [DistillBatch(crop.images, crop.valid, None) for crop in crops]
    encoder = model.image_encoder
    assert isinstance(encoder, TinyViT)
    first = encoder.patch_embed.conv1
    inputs = [normalize_images(model, batch.images, batch.valid) for batch in batches]
    with torch.no_grad():
        outputs = torch.stack([first.conv(x).permute(1, 0, 2, 3).flatten(1) for x in inputs])
    recalibrate_batch_norm(model, batches)
    assert first.bn.running_mean is not None
    assert first.bn.running_var is not None
    assert torch.allclose(first.bn.running_mean, outputs.mean((0, 2)), atol=1e-5)
    assert torch.allclose(first.bn.running_var, outputs.var(2).mean(0), rtol=1e-4)
    assert not model.training


def test_finetuning_leaves_batch_statistics_alone(batch: CropBatch) -> None:
    learner = PromptTrainer(Sam(SMALL), PromptPlan(objects=2)).train()
    before = {k: v.clone() for k, v in learner.state_dict().items() if "running" in k}
    learner(batch)
    after = learner.state_dict()
    assert before
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_distillation_learns_and_keeps_the_decoder(batch: CropBatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher, student = Sam(SMALL).eval(), Sam(SMALL)
    learner = Recorded(EmbeddingDistiller(student, teacher_embed_fn(teacher)))
    distill_batch = DistillBatch(batch.images, batch.valid, None)
    settings = LoopSettings(steps=40, learning_rate=2e-3, warmup=5, ema=0.5)
    train(learner, always(distill_batch), settings, tmp_path)
    assert np.mean(learner.history[-5:]) < 0.5 * np.mean(learner.history[:5])
    attach_decoder(teacher, student)
    for name, weight in teacher.mask_decoder.state_dict().items():
        assert torch.equal(student.mask_decoder.state_dict()[name], weight)


def test_mismatched_labels_are_named(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "images" / "a.png")
    Image.new("L", (10, 20)).save(tmp_path / "labels" / "a.png")
    with pytest.raises(
        samlet.UserError, match=r"a\.png is for 10 x 20 pixels but .*a\.png is 20 x 10"
    ):
        load_examples(tmp_path)
    with pytest.raises(samlet.UserError, match="None of the chosen images"):
        load_examples(tmp_path, only={"b"})
