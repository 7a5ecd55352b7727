"""Simulated prompts in training: clicks, scribbles, corrective clicks."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samlet import samples
from samlet.datasets.examples import load_examples
from samlet.modeling.sam import Sam
from samlet.training.finetuning.crops import CropBatch, Crops
from samlet.training.finetuning.prompt_trainer import MAX_SCRIBBLE_POINTS, PromptPlan, PromptTrainer
from tests.core.conftest import SMALL

Prompts = list[tuple[tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]]


@contextmanager
def recorded_prompts(model: Sam) -> Iterator[Prompts]:
    """What the prompt encoder is given: points with their labels, boxes, and masks."""
    prompts: Prompts = []
    handle = model.prompt_encoder.register_forward_pre_hook(
        lambda _, given: prompts.append((given[0], given[1], given[2]))
    )
    try:
        yield prompts
    finally:
        handle.remove()


@pytest.fixture(scope="module")
def batch() -> CropBatch:
    """Crops as large as the model's input, so that their pixels are the input's."""
    examples = load_examples(samples.IMAGES.parent, only=samples.NUCLEI)
    return Crops(examples, SMALL.image_size, SMALL.image_size, 2, seed=0).batch(0)


def test_scribbles_are_several_points_of_one_object(batch: CropBatch) -> None:
    learner = PromptTrainer(
        Sam(SMALL), PromptPlan(box_share=0.0, scribble_share=1.0, correction_share=0.0)
    )
    counts = set()
    for seed in range(20):
        torch.manual_seed(seed)
        with recorded_prompts(learner.model) as prompts, torch.no_grad():
            learner(batch)
        ((clicks, boxes, masks),) = prompts
        assert clicks is not None and boxes is None and masks is None
        points, labels = clicks
        counts.add(points.shape[1])
        assert (labels == 1).all()
        crop = batch.labels[:, 0].repeat_interleave(len(points) // 2, dim=0)
        around = F.unfold(F.pad(crop[:, None].float(), (2, 2, 2, 2)), 5).view(
            len(crop), 25, *crop.shape[1:]
        )
        for row, image in zip(points.long(), around, strict=True):
            near = [set(image[:, y, x].tolist()) - {0.0} for x, y in row.tolist()]
            assert set.intersection(*near)
    assert counts == set(range(2, MAX_SCRIBBLE_POINTS + 1))


def test_corrections_come_with_the_mask_and_without(batch: CropBatch) -> None:
    plan = PromptPlan(box_share=0.0, scribble_share=0.0, correction_share=1.0, corrections=3)
    learner = PromptTrainer(Sam(SMALL), plan)
    with_mask: list[bool] = []
    for seed in range(24):
        torch.manual_seed(seed)
        with recorded_prompts(learner.model) as prompts, torch.no_grad():
            learner(batch)
        first, *later = prompts
        assert first[2] is None and 1 <= len(later) <= 3
        assert [c[0].shape[1] for c, _, _ in prompts if c] == list(range(1, len(prompts) + 1))
        given = {mask is not None for _, _, mask in later}
        assert len(given) == 1
        with_mask += given
    assert 0.5 < sum(with_mask) / len(with_mask) < 1
