"""Evaluation: prompts, everything mode, and the report of all that was measured."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import samlet
from samlet import images
from samlet.datasets.examples import Example, microscopy_kind
from samlet.errors import UserError
from samlet.evaluation import everything_mode as everything
from samlet.evaluation import plots
from samlet.evaluation.agreement import AgreementScore
from samlet.evaluation.everything_mode import EverythingScore, evaluate_everything
from samlet.evaluation.instance_metrics import average_precision
from samlet.evaluation.number_of_clicks import ClickScore
from samlet.evaluation.report import Report
from samlet.evaluation.single_prompts import ObjectScore, evaluate_prompts, summarize_prompts
from samlet.evaluation.tables import format_table
from samlet.everything.settings import EverythingSettings
from samlet.masks import deepest_point, from_label_map, from_rle, iou
from samlet.modeling.sam import Sam
from tests.core.conftest import sample


@pytest.fixture(scope="module")
def predictor(nuclei: Sam) -> samlet.Predictor:
    return samlet.Predictor(nuclei)


def test_prompts_agree_with_counting_by_hand(predictor: samlet.Predictor) -> None:
    example = sample("stained_2", 12)
    evaluated = evaluate_prompts(predictor, [example], ("click",), group_of=microscopy_kind)
    scores = [score for image in evaluated for score in image]
    embedding = predictor.encode(example.image)
    by_hand = {
        label: iou(predictor.segment(embedding, [deepest_point(mask)], [1]).best, mask)
        for label, mask in from_label_map(example.labels[0])
        if mask.sum() >= 20
    }
    assert [score.label for score in scores] == list(by_hand)
    np.testing.assert_allclose([s.iou for s in scores], list(by_hand.values()), atol=2e-3)
    assert {s.group for s in scores} == {"stained"}


def test_objects_of_all_layers_count(small_model: Sam) -> None:
    labels = np.zeros((2, 40, 50), np.int32)
    labels[0, 5:30, 5:30] = 1
    labels[0, 35:37, 0:9] = 2
    labels[1, 10:20, 10:45] = 3
    example = Example("a", np.zeros((40, 50, 3), np.uint8), labels)
    (scores,) = evaluate_prompts(samlet.Predictor(small_model), [example])
    assert [(s.label, s.prompt) for s in scores] == [
        (label, prompt) for prompt in ("click", "random click", "box") for label in (1, 3)
    ]
    assert {s.group for s in scores} == {""}
    assert list(summarize_prompts(scores)) == ["all"]


def test_an_unknown_prompt_is_refused(small_model: Sam) -> None:
    with pytest.raises(UserError, match="choose from click"):
        next(evaluate_prompts(samlet.Predictor(small_model), [], ("clik",)))


def test_summary_means() -> None:
    rows = [
        ObjectScore("a", "stained", 1, "click", 0.5, 0.7),
        ObjectScore("a", "stained", 1, "box", 1.0, 1.0),
        ObjectScore("b", "fluorescence", 1, "click", 1.0, 0.9),
        ObjectScore("b", "fluorescence", 1, "box", 0.6, 1.0),
    ]
    table = summarize_prompts(rows)
    assert table["all"]["click"] == pytest.approx(0.75)
    assert table["stained"]["box"] == pytest.approx(1.0)
    assert table["all"]["objects"] == 2
    assert table["all"]["IoU error"] == pytest.approx((0.2 + 0 + 0.1 + 0.4) / 4)
    assert "| fluorescence | 1.000 | 1 | 0.600 |" in format_table(table)
    assert summarize_prompts([]) == {}


def test_everything_mode_agrees_with_binary_masks(nuclei: Sam) -> None:
    example = sample("fluorescence_2")
    few: EverythingSettings = {"points_per_batch": 32}
    predictor = samlet.Predictor(nuclei)
    (score,) = evaluate_everything(predictor, [example], few, microscopy_kind)
    records = samlet.segment_everything(predictor, example.image, **few)
    objects = [mask for _, mask in from_label_map(example.labels[0])]
    ious = np.array([[iou(from_rle(r["segmentation"]), one) for one in objects] for r in records])
    np.testing.assert_allclose(score.ious, ious)
    predicted = np.array([r["predicted_iou"] for r in records])
    figures = everything.summarize_everything([score])["fluorescence"]
    assert figures["AP"] == pytest.approx(average_precision([ious], [predicted]).mean())
    assert figures["AP50"] > 0.3
    assert figures["AP50"] >= figures["AP75"] > 0
    assert figures["DSB"] == score.bowl_score > 0.1
    right = sum(any(one > 0.5 for one in row) for row in ious.T)
    precision, recall = right / len(ious), right / len(ious.T)
    assert figures["F1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert (figures["masks"], figures["objects"]) == ious.shape


@pytest.fixture
def report() -> Report:
    return Report(
        prompts=[
            ObjectScore("a", "", 4, "click", 0.5, 0.7),
            ObjectScore("a", "", 4, "box", 0.8, 0.7),
            ObjectScore("b", "", 5, "click", 0.7, 0.7),
            ObjectScore("b", "", 5, "box", 0.8, 0.7),
        ],
        clicks=[ClickScore("a", "", 4, (0.5, 0.9), 4), ClickScore("b", "", 5, (0.2,) * 4, 4)],
        agreement=[AgreementScore("a", "100 px", 3.5, 4, 0.25)],
        made_with={"model": "a.safetensors", "precision": "float32"},
    )


def test_a_report_writes_what_was_measured(report: Report, tmp_path: Path) -> None:
    written = report.write(tmp_path / "new")
    names = "report.md figures.json prompts.csv clicks.csv agreement.csv"
    plots = "iou.png predicted-iou.png clicks.png"
    assert [path.name for path in written] == [*names.split(), *plots.split()]
    assert "| all | 0.600 | 2 | 0.800 |" in written[0].read_text()
    assert "| 100 px | 0.250 | 1 |" in written[0].read_text()
    figures = json.loads(written[1].read_text())
    assert figures.pop("made with") == {"model": "a.safetensors", "precision": "float32"}
    assert "Made with model a.safetensors, precision float32." in written[0].read_text()
    assert figures == json.loads(json.dumps(report.tables()))
    assert figures["prompts"]["all"]["box"] == pytest.approx(0.8)
    rows = list(csv.DictReader((tmp_path / "new" / "clicks.csv").open()))
    assert rows[0]["clicks to 0.85"] == "2"
    assert rows[0]["IoU@4"] == "0.9"
    assert rows[1]["clicks to 0.85"] == "4"
    for path in written[5:]:
        assert images.read(path).std() > 0


def test_figures_that_are_not_defined_are_null(tmp_path: Path) -> None:
    """JSON has no NaN, and AP is one where no image has an object."""
    score = EverythingScore("a", "", np.empty((0, 0)), np.empty(0), 1.0)
    Report(everything=[score]).write(tmp_path)
    text = (tmp_path / "figures.json").read_text()
    figures = json.loads(text, parse_constant=pytest.fail)["everything"]["all"]
    assert (figures["AP"], figures["DSB"], figures["objects"]) == (None, 1, 0)


def test_the_click_curve_shows_the_figures(report: Report) -> None:
    mean, at_85, _ = plots.click_curve(report.clicks).axes[0].lines
    assert np.array(mean.get_ydata()).tolist() == pytest.approx([0.35, 0.55, 0.55, 0.55])
    assert np.array(at_85.get_ydata()).tolist() == [0, 0.5, 0.5, 0.5]


def test_plots_without_matplotlib_name_the_remedy(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r'pip install "samlet\[train\]"'):
        report.write(tmp_path)
    assert (tmp_path / "clicks.csv").exists()
