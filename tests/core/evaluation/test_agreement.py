"""Agreement of two models: with itself, with noise, between sizes, and with known masks."""

import copy
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pytest
import torch

import samlet
from samlet.evaluation.agreement import (
    AgreementScore,
    evaluate_agreement,
    point_pairs,
    summarize_agreement,
)
from samlet.evaluation.everything_mode import summarize_everything
from samlet.evaluation.measure import measure_same_objects
from samlet.modeling.sam import Sam
from samlet.predict.predictor import MaskPrediction
from tests.core.conftest import sample
from tests.models import nuclei_at


@pytest.fixture(scope="module")
def nuclei() -> Sam:
    """The bundled model at a quarter of its size: here it need only agree with itself."""
    return nuclei_at(256)


def blurred(model: Sam, noise: float) -> samlet.Predictor:
    """The same model with noise on its encoder's weights, relative to their spread."""
    changed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in changed.image_encoder.parameters():
            if weight.ndim > 1:
                drawn = torch.randn(weight.shape, generator=generator)
                weight.add_(noise * weight.std() * drawn)
    return samlet.Predictor(changed)


def agreed(scores: Iterable[list[AgreementScore]]) -> dict[str, float]:
    table = summarize_agreement([score for image in scores for score in image])
    return {prompt: figures["mIoU"] for prompt, figures in table.items()}


def test_agreement_is_1_with_itself_and_falls_with_noise(nuclei: Sam) -> None:
    teacher = samlet.Predictor(nuclei)
    shown = [("a", sample("fluorescence_2").image)]
    same, near, far = (
        agreed(evaluate_agreement(teacher, blurred(nuclei, noise), shown, 2, (60, 1000)))
        for noise in (0, 0.1, 0.6)
    )
    assert same == {"point": 1, "box": 1, "60 px": 1}
    for prompt in same:
        assert 1 > near[prompt] > far[prompt]


def test_objects_are_the_same_with_itself_and_fewer_with_noise(nuclei: Sam) -> None:
    teacher = samlet.Predictor(nuclei)
    shown = [("a", sample("fluorescence_2").image)]
    same, far = (
        summarize_everything(measure_same_objects(teacher, blurred(nuclei, noise), shown, 1))["all"]
        for noise in (0, 0.3)
    )
    assert same["objects"] == far["objects"] > 3
    assert same["F1"] == same["AP"] == 1
    assert far["F1"] < 1


def test_objects_are_compared_only_where_both_models_find_them(
    nuclei: Sam, small_model: Sam
) -> None:
    shown = [("a", sample("fluorescence_2").image)]
    pair = samlet.Predictor(nuclei), samlet.Predictor(small_model)
    assert small_model.proposal_head is None
    assert measure_same_objects(*pair, shown, 1) == []


def test_agreement_takes_models_of_other_input_sizes(nuclei: Sam, small_model: Sam) -> None:
    shown = [("a", sample("fluorescence_2").image)]
    pair = samlet.Predictor(nuclei), samlet.Predictor(small_model)
    (scores,) = evaluate_agreement(*pair, shown, 2, (60,))
    assert {s.prompt for s in scores} == {"point", "box", "60 px"}
    assert all(0 <= s.iou < 1 for s in scores)


class Painter:
    """A model that answers with given masks, whatever it is asked."""

    def __init__(self, masks: list[np.ndarray], predicted: list[float]) -> None:
        self.answer = MaskPrediction(np.stack(masks), np.array(predicted), np.zeros((3, 4, 4)))

    def encode(self, image: np.ndarray) -> Any:
        return type("Embedding", (), {"original_size": image.shape[:2]})

    def segment_batch(self, embedding: Any, **given: Any) -> list[MaskPrediction]:
        counts = {len(values) for name, values in given.items() if name != "multimask_output"}
        return [self.answer] * counts.pop()


def test_agreement_compares_the_candidate_that_the_teacher_trusts() -> None:
    left, half, none = (np.zeros((30, 40), bool) for _ in range(3))
    left[:, :20] = True
    half[:, :10] = True
    teacher = Painter([none, left, none], [0.1, 0.9, 0.2])
    student = Painter([left, half, left], [0.9, 0.1, 0.2])
    pair = cast(samlet.Predictor, teacher), cast(samlet.Predictor, student)
    (scores,) = evaluate_agreement(*pair, [("a", np.zeros((30, 40, 3), np.uint8))], 2, (10, 38))
    assert {s.iou for s in scores} == {0.5}
    # One box, though four points gave its mask; and 38 px fit nowhere.
    assert [s.prompt for s in scores] == ["point"] * 4 + ["box"] + ["10 px"] * 4


def test_point_pairs_have_their_distance_and_stay_inside() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform((0, 0), (300, 200), (200, 2))
    pairs = point_pairs(points, 150, (200, 300), rng)
    np.testing.assert_allclose(np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=1), 150)
    assert (pairs >= 0).all()
    assert (pairs[:, 1] <= (299, 199)).all()
    assert len(pairs) == 200
    assert len(point_pairs(points, 400, (200, 300), rng)) == 0
    directions = np.degrees(np.arctan2(*(pairs[:, 1] - pairs[:, 0]).T[::-1]))
    assert len(np.unique(directions.round())) > 50
