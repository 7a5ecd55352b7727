"""Corrective clicks: where they fall, and how many it takes."""

from typing import cast

import numpy as np
import pytest
from scipy import ndimage

import samlet
from samlet.datasets.examples import Example
from samlet.evaluation import number_of_clicks as clicks
from samlet.evaluation.next_click import next_click
from samlet.evaluation.number_of_clicks import evaluate_clicks
from samlet.masks import deepest_point, from_label_map, iou
from samlet.modeling.sam import Sam
from samlet.predict.predictor import MaskPrediction
from tests.core.conftest import sample


def test_the_next_click_is_deep_in_the_largest_error_region() -> None:
    """Shift real objects, add a stray piece, and compare with scipy's regions and distances."""
    rng = np.random.default_rng(0)
    for _, truth in list(from_label_map(sample("stained_1").labels[0]))[:20]:
        predicted = np.roll(truth, rng.integers(-6, 7, 2), axis=(0, 1))
        predicted[100:106, 200:206] ^= True
        answer = next_click(predicted, truth)
        assert answer is not None
        (x, y), label = answer
        areas = {}
        for kind, error in ((1, truth & ~predicted), (0, predicted & ~truth)):
            numbers, count = ndimage.label(error, np.ones((3, 3)))
            areas[kind] = max(((numbers == n).sum() for n in range(1, count + 1)), default=0)
            if kind == label:
                region = numbers == numbers[y, x]
                assert numbers[y, x] > 0
        assert region.sum() == max(areas.values())
        depth = ndimage.distance_transform_edt(np.pad(region, 1))
        assert depth[y + 1, x + 1] == depth.max()


def test_clicks_are_not_repeated_and_end() -> None:
    truth = np.zeros((9, 9), bool)
    truth[2:5, 2:5] = True
    clicked: list[tuple[int, int]] = []
    while (click := next_click(np.zeros_like(truth), truth, clicked)) is not None:
        assert truth[click[0][1], click[0][0]]
        assert click[1] == 1
        clicked.append(click[0])
    assert clicked[0] == (3, 3)
    assert len(set(clicked)) == len(clicked) == 9


class Obedient:
    """A model whose mask has one more row of the object after each click: IoU 1/20, 2/20, ...

    It checks what it is asked: corrections of its own last answer, on an object of 20 rows. The
    object at the right is not its thing; it answers with the same two pixels.
    """

    def __init__(self, truth: np.ndarray) -> None:
        self.truth = truth
        self.asked: list[int] = []

    def encode(self, image: np.ndarray) -> np.ndarray:
        return image

    def segment_batch(
        self,
        embedding: np.ndarray,
        points: list[list[tuple[int, int]]],
        labels: list[list[int]],
        mask_inputs: np.ndarray | None,
        multimask_output: bool,
    ) -> list[MaskPrediction]:
        self.asked.append(len(points))
        assert multimask_output == (len(points[0]) == 1) == (mask_inputs is None)
        answers = []
        for n, (clicked, label) in enumerate(zip(points, labels, strict=True)):
            rows = len(clicked)
            assert len(set(clicked)) == rows
            if mask_inputs is not None:
                assert (mask_inputs[n] == rows - 1).all()
            assert all(
                kind == self.truth[y, x] for (x, y), kind in zip(clicked, label, strict=True)
            )
            mask = np.zeros_like(self.truth)
            if clicked[0][0] < 50:
                mask[:rows, :20] = True
            else:
                mask[0, 60:62] = True
            others = [np.zeros_like(mask)] * 2 if multimask_output else []
            scores = np.array([0.9, 0.1, 0.2][: 1 + len(others)])
            logits = np.full((1 + len(others), 4, 4), rows, np.float32)
            answers.append(MaskPrediction(np.stack([mask, *others]), scores, logits))
        return answers


def test_clicks_of_a_known_course() -> None:
    labels = np.zeros((1, 20, 100), np.int32)
    labels[0, :20, :20] = 1
    labels[0, :20, 60:80] = 2
    example = Example("a", np.zeros((20, 100, 3), np.uint8), labels)
    model = Obedient(labels[0] > 0)
    (scores,) = evaluate_clicks(cast(samlet.Predictor, model), [example])
    good, bad = scores
    assert good.ious == pytest.approx([n / 20 for n in range(1, 19)])
    assert bad.ious == pytest.approx([2 / 400] * 20)
    assert (good.clicks_to(0.85), good.clicks_to(0.9), bad.clicks_to(0.85)) == (17, 18, 20)
    assert model.asked == [2] * 18 + [1] * 2
    figures = clicks.summarize_clicks(scores)["all"]
    assert figures["NoC@85"] == (17 + 20) / 2
    assert figures["NoC@90"] == (18 + 20) / 2
    assert figures["failed@90"] == 0.5
    assert figures["IoU@5"] == pytest.approx((5 / 20 + 2 / 400) / 2)
    assert figures["IoU@20"] == pytest.approx((18 / 20 + 2 / 400) / 2)


def test_clicks_on_real_nuclei_agree_with_clicking_by_hand(nuclei: Sam) -> None:
    predictor = samlet.Predictor(nuclei)
    example = sample("fluorescence_2", 8)
    (scores,) = evaluate_clicks(predictor, [example], targets=(0.95,), limit=2)
    embedding = predictor.encode(example.image)
    for score in scores:
        truth = example.labels[0] == score.label
        first = predictor.segment(embedding, [deepest_point(truth)], [1])
        click = next_click(first.best, truth)
        assert click is not None
        second = predictor.segment(
            embedding,
            [deepest_point(truth), click[0]],
            [1, click[1]],
            mask_input=first.low_res_masks[first.best_index],
            multimask_output=False,
        )
        by_hand = [iou(first.best, truth), iou(second.best, truth)]
        assert score.ious == pytest.approx(by_hand[: len(score.ious)], abs=2e-3)
        assert len(score.ious) == (1 if by_hand[0] >= 0.95 else 2)
    after_one, after_two = clicks.mean_ious(scores)
    assert after_two > after_one
