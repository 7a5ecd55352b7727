"""Settings of everything mode: what there is to choose, and what suits a model."""

from typing import Any, TypedDict

from samlet.modeling.sam import Sam

PROMPTS = ("grid", "hierarchical", "regions")
"""Where everything mode places its points; see `samlet.everything.point_prompts`."""

THRESHOLDS = {"pred_iou_thresh": 0.88, "stability_score_thresh": 0.95, "max_covered": 1.0}
"""Those of segment_anything, for models whose cards do not ask for others."""


class EverythingSettings(TypedDict, total=False):
    """Arguments of `SamAutomaticMaskGenerator` that people choose; see there."""

    prompts: str
    points_per_side: int
    points_per_batch: int
    pred_iou_thresh: float
    stability_score_thresh: float
    max_covered: float
    min_mask_region_area: int
    zoom: bool


def default_settings(model: Sam) -> dict[str, Any]:
    """Settings that suit a model: those of its card, or else segment_anything's thresholds.

    Prompts are by region: on BBBC038 that finds what a grid of 32 x 32 finds in a third of the
    time, with fewer masks that are no object (`benchmarks/everything.py`).
    """
    standard = {
        "zoom": bool(model.card.get("zoom")),
        "prompts": "regions",
        "points_per_side": 32,
    }
    return standard | THRESHOLDS | model.card.get("everything", {})


def complete_settings(model: Sam, chosen: EverythingSettings) -> dict[str, Any]:
    """The model's default settings, and those that were chosen in their place.

    Choosing points per side chooses a grid, where no other prompts are chosen.
    """
    implied = {"prompts": "grid"} if "points_per_side" in chosen else {}
    return default_settings(model) | implied | chosen
