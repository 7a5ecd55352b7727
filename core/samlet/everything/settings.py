"""Settings of everything mode: what there is to choose, and what suits a model."""

from dataclasses import asdict
from typing import Any, TypedDict

from samlet.errors import UserError
from samlet.everything.distance_maps import DistanceThresholds
from samlet.modeling.sam import Sam

POINT_PROMPTS = ("grid", "hierarchical", "regions")
"""Where everything mode places points without a head; see `samlet.everything.point_prompts`."""

PROMPTS = ("proposals", "distances", "watershed", *POINT_PROMPTS)
"""How everything mode finds objects: by prompts from the model's proposal head, by prompts from the
distance maps of its instance decoder, by the watershed of these maps, or by prompts of points."""

MASK_THRESHOLDS = {"pred_iou_thresh": 0.88, "stability_score_thresh": 0.95}
"""Those of segment_anything, for models whose cards do not ask for others."""

THRESHOLDS = MASK_THRESHOLDS | {"max_covered": 1.0}

POINT_SETTINGS = ("points_per_side", "points_per_batch", "zoom")
"""Settings that only points have; proposals choose number and scale by themselves."""

MASK_SETTINGS = tuple(THRESHOLDS)
"""Settings of masks that are predicted from prompts."""

DISTANCE_SETTINGS = (
    "center_distance_threshold",
    "boundary_distance_threshold",
    "foreground_threshold",
    "min_size",
)
"""Settings of distance maps."""

WATERSHED_SETTINGS = ("distance_smoothing",)

HEAD_SETTINGS = ("prompts", "proposals", "distances", "watershed")
"""Entries of a model card that suit a proposal head or an instance decoder, wherever it goes."""

_TAKEN = {
    "proposals": MASK_SETTINGS,
    "distances": (*MASK_SETTINGS, *DISTANCE_SETTINGS),
    "watershed": (*DISTANCE_SETTINGS, *WATERSHED_SETTINGS),
} | dict.fromkeys(POINT_PROMPTS, (*MASK_SETTINGS, *POINT_SETTINGS))
"""What can be set, by prompts; there are others that all take."""

_NAMED = {*MASK_SETTINGS, *POINT_SETTINGS, *DISTANCE_SETTINGS, *WATERSHED_SETTINGS}


class EverythingSettings(TypedDict, total=False):
    """Arguments of `SamAutomaticMaskGenerator` that people choose, see there, and further ones.

    `prompts` can also be "proposals"; or, with micro-sam's instance decoder, "distances" or
    "watershed", whose settings are those of `samlet.everything.distance_maps`. Not all prompts take
    all settings.
    """

    prompts: str
    points_per_side: int
    points_per_batch: int
    pred_iou_thresh: float
    stability_score_thresh: float
    max_covered: float
    min_mask_region_area: int
    zoom: bool
    center_distance_threshold: float
    boundary_distance_threshold: float
    foreground_threshold: float
    distance_smoothing: float
    min_size: int


def default_settings(model: Sam, prompts: str | None = None) -> dict[str, Any]:
    """Settings that suit a model: those of its card, or else segment_anything's thresholds.

    Without prompts of the card, a model with an instance decoder is prompted from its distance
    maps: by its authors' measurements that finds cells better than the watershed, and the predicted
    IoU of its masks can be sorted and filtered. Masks then have no thresholds but the card's, as in
    micro-sam. A model with a proposal head is prompted from its proposals. Others are prompted by
    region: on BBBC038 that finds what a grid of 32 x 32 finds in a third of the time, with fewer
    masks that are no object (`benchmarks/everything.py`).

    Args:
        model: see `samlet.load`.
        prompts: one of `PROMPTS`; None for those that suit the model.
    """
    prompts = prompts or model.card.get("prompts", _suitable_prompts(model))
    chosen = {"prompts": prompts}
    if prompts == "proposals":
        return chosen | THRESHOLDS | model.card.get("proposals", {})
    if prompts == "distances":
        unfiltered = dict.fromkeys(MASK_THRESHOLDS, 0.0) | {"max_covered": 1.0, "min_size": 25}
        return chosen | asdict(DistanceThresholds()) | unfiltered | model.card.get("distances", {})
    if prompts == "watershed":
        standard = {"distance_smoothing": 1.6, "min_size": 0}
        return chosen | asdict(DistanceThresholds()) | standard | model.card.get("watershed", {})
    points = {"zoom": bool(model.card.get("zoom")), "points_per_side": 32}
    return chosen | points | THRESHOLDS | model.card.get("everything", {})


def _suitable_prompts(model: Sam) -> str:
    if model.instance_decoder is not None:
        return "distances"
    return "regions" if model.proposal_head is None else "proposals"


def complete_settings(model: Sam, chosen: EverythingSettings) -> dict[str, Any]:
    """The model's default settings, and those that were chosen in their place.

    Where no prompts are chosen, points per side choose a grid, other settings of points choose
    regions, and those of the watershed choose it.

    Raises:
        UserError: there are no such prompts, or they do not take one of the settings.
    """
    prompts = chosen.get("prompts")
    if prompts is None and "points_per_side" in chosen:
        prompts = "grid"
    elif prompts is None and not chosen.keys().isdisjoint(POINT_SETTINGS):
        prompts = "regions"
    elif prompts is None and not chosen.keys().isdisjoint(WATERSHED_SETTINGS):
        prompts = "watershed"
    if prompts is not None and prompts not in PROMPTS:
        raise UserError(f"prompts must be {', '.join(PROMPTS)}, not {prompts!r}.")
    settings: dict[str, Any] = {**default_settings(model, prompts), **chosen}
    way = settings["prompts"]
    for name in sorted(_NAMED & chosen.keys()):
        if name not in _TAKEN[way]:
            takers = [other for other in PROMPTS if name in _TAKEN[other]]
            raise UserError(
                f"{name} does not apply to prompts by {way}: leave it out, or choose prompts by "
                f"{', '.join(takers)}."
            )
    return settings
