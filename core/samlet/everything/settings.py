"""Settings of everything mode: what there is to choose, and what suits a model."""

from typing import Any, TypedDict

from samlet.errors import UserError
from samlet.modeling.sam import Sam

POINT_PROMPTS = ("grid", "hierarchical", "regions")
"""Where everything mode places points without a head; see `samlet.everything.point_prompts`."""

PROMPTS = ("proposals", *POINT_PROMPTS)
"""Where everything mode gets its prompts from: the model's own proposals, or points."""

THRESHOLDS = {"pred_iou_thresh": 0.88, "stability_score_thresh": 0.95, "max_covered": 1.0}
"""Those of segment_anything, for models whose cards do not ask for others."""


POINT_SETTINGS = ("points_per_side", "points_per_batch", "zoom")
"""Settings that only points have; proposals choose number and scale by themselves."""


class EverythingSettings(TypedDict, total=False):
    """Arguments of `SamAutomaticMaskGenerator` that people choose; see there.

    `prompts` can also be "proposals", which take none of `POINT_SETTINGS`.
    """

    prompts: str
    points_per_side: int
    points_per_batch: int
    pred_iou_thresh: float
    stability_score_thresh: float
    max_covered: float
    min_mask_region_area: int
    zoom: bool


def default_settings(model: Sam, prompts: str | None = None) -> dict[str, Any]:
    """Settings that suit a model: those of its card, or else segment_anything's thresholds.

    Prompts are the model's proposals, if it has a head for them and its card does not ask for
    others. Without one they are by region: on
    BBBC038 that finds what a grid of 32 x 32 finds in a third of the time, with fewer masks that
    are no object (`benchmarks/everything.py`).

    Args:
        model: see `samlet.load`.
        prompts: one of `PROMPTS`; None for those that suit the model.
    """
    suitable = "regions" if model.proposal_head is None else "proposals"
    prompts = prompts or model.card.get("prompts", suitable)
    if prompts == "proposals":
        return {"prompts": prompts} | THRESHOLDS | model.card.get("proposals", {})
    standard = {
        "zoom": bool(model.card.get("zoom")),
        "prompts": prompts,
        "points_per_side": 32,
    }
    return standard | THRESHOLDS | model.card.get("everything", {})


def complete_settings(model: Sam, chosen: EverythingSettings) -> dict[str, Any]:
    """The model's default settings, and those that were chosen in their place.

    Where no prompts are chosen, points per side choose a grid, and other settings of points choose
    regions.

    Raises:
        UserError: there are no such prompts, or they do not take one of the settings.
    """
    prompts = chosen.get("prompts")
    if prompts is None and "points_per_side" in chosen:
        prompts = "grid"
    elif prompts is None and not chosen.keys().isdisjoint(POINT_SETTINGS):
        prompts = "regions"
    if prompts is not None and prompts not in PROMPTS:
        raise UserError(f"prompts must be {', '.join(PROMPTS)}, not {prompts!r}.")
    settings = default_settings(model, prompts) | chosen
    of_points = [name for name in POINT_SETTINGS if name in settings]
    if settings["prompts"] == "proposals" and of_points:
        raise UserError(
            f"Proposals have no {of_points[0]}: leave it out, or choose prompts by "
            f"{', '.join(POINT_PROMPTS)}."
        )
    return settings
