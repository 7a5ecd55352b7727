"""Everything mode's second look, with the bundled model on real images."""

from typing import Any

import numpy as np
import pytest

import samlet
from samlet.datasets.examples import Example
from samlet.evaluation.everything_mode import evaluate_everything, summarize_everything
from samlet.everything.generator import SamAutomaticMaskGenerator
from samlet.everything.settings import EverythingSettings, default_settings
from samlet.masks import iou
from samlet.modeling.sam import Sam
from samlet.predict.zoom import smaller_input_model
from tests.core.conftest import sample
from tests.models import nuclei_at

GRID: EverythingSettings = {"prompts": "grid", "points_per_side": 16}
ASKED = {**GRID, "pred_iou_thresh": 0.6, "stability_score_thresh": 0.55, "max_covered": 0.5}


@pytest.fixture(scope="module")
def example() -> Example:
    """Part of a bundled image of the kind that whole looks do worst on."""
    whole = sample("brightfield_1")
    part = (slice(0, 512), slice(512, 1024))
    return Example(whole.name, np.ascontiguousarray(whole.image[part]), whole.labels[:, *part])


@pytest.fixture(scope="module")
def found(nuclei: Sam) -> list[dict[str, Any]]:
    settings = default_settings(nuclei, "regions") | ASKED
    return SamAutomaticMaskGenerator(nuclei, **settings).generate(sample("stained_2").image)


def test_small_objects_come_out_better(nuclei: Sam, example: Example) -> None:
    with_zoom, without = (
        summarize_everything(
            list(evaluate_everything(samlet.Predictor(nuclei, zoom=zoom), [example], GRID))
        )["all"]
        for zoom in (True, False)
    )
    assert with_zoom["AP50"] > max(0.2, 1.5 * without["AP50"])
    assert with_zoom["DSB"] > max(0.05, 1.5 * without["DSB"])


def test_what_is_found_is_what_a_click_on_the_cut_out_part_gives(
    nuclei: Sam, found: list[dict[str, Any]]
) -> None:
    image = sample("stained_2").image
    near, far = (
        samlet.Predictor(smaller_input_model(nuclei, nuclei.config.image_size // 2), zoom=False),
        samlet.Predictor(nuclei, zoom=False),
    )
    parts = 0
    for record in found[:12]:
        x0, y0, width, height = record["crop_box"]
        (x, y), part = record["point_coords"][0], image[y0 : y0 + height, x0 : x0 + width]
        # An object that fills the image is looked at as a whole.
        predictor = far if max(record["bbox"][2:]) > max(image.shape) / 1.8 else near
        parts += predictor is near
        seen = predictor.segment(predictor.encode(part), [[x - x0, y - y0]], [1])
        mask = record["segmentation"]
        assert iou(seen.best, mask[y0 : y0 + height, x0 : x0 + width]) > 0.999
        assert seen.iou_predictions.max() == pytest.approx(record["predicted_iou"], abs=1e-3)
        assert np.count_nonzero(mask) == record["area"] == np.count_nonzero(seen.best)
    assert parts > 6


def test_all_pass_where_they_are_seen_large(found: list[dict[str, Any]]) -> None:
    assert len(found) > 10
    covered = np.zeros(found[0]["segmentation"].shape, dtype=bool)
    for record in found:
        mask = record["segmentation"]
        assert record["predicted_iou"] > ASKED["pred_iou_thresh"]
        assert record["stability_score"] >= ASKED["stability_score_thresh"]
        assert covered[mask].mean() <= ASKED["max_covered"]
        covered |= mask
    trust = [record["predicted_iou"] for record in found]
    assert trust == sorted(trust, reverse=True)


def test_the_model_says_whether_to_look_again(model: Sam, nuclei: Sam) -> None:
    assert not default_settings(model, "regions")["zoom"]
    assert default_settings(nuclei, "regions")["zoom"]
    assert SamAutomaticMaskGenerator(nuclei).predictor.zoom is not None
    assert SamAutomaticMaskGenerator(nuclei, zoom=False).predictor.zoom is None


def test_what_is_decoded_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    nuclei = nuclei_at(256)
    image = sample("fluorescence_2").image[:48, :48]
    generator = SamAutomaticMaskGenerator(
        nuclei, **default_settings(nuclei, "regions") | {"points_per_batch": 1000}
    )
    zoom, counts = generator.predictor.zoom, []
    assert zoom is not None
    real = zoom.predict_in

    def predict_in(roi: Any, embedding: Any, prompts: Any) -> Any:
        counts.append(len(prompts))
        return real(roi, embedding, prompts)

    monkeypatch.setattr(zoom, "predict_in", predict_in)
    at_once = generator.generate(image)
    assert max(counts) > 3
    counts.clear()
    generator.points_per_batch = 3
    in_batches = generator.generate(image)
    assert max(counts) == 3
    assert [record["bbox"] for record in in_batches] == [record["bbox"] for record in at_once]


@pytest.mark.parametrize("empty", [True, False])
def test_progress_rises_to_one_and_can_cancel(empty: bool) -> None:
    nuclei = nuclei_at(256)
    generator = SamAutomaticMaskGenerator(nuclei, **default_settings(nuclei, "regions"))
    image = np.zeros((64, 64, 3), np.uint8) if empty else sample("fluorescence_2").image
    fractions: list[float] = []
    records = generator.generate(image, progress=fractions.append)
    assert bool(records) != empty
    assert fractions == sorted(fractions)
    assert fractions[0] > 0
    assert fractions[-1] == pytest.approx(1)
    if not empty:
        assert len([fraction for fraction in fractions if fraction > 0.7]) > 2

    def cancel(fraction: float) -> None:
        if fraction > 0.75:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        generator.generate(image, progress=cancel)
