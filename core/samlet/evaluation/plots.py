"""Plots of an evaluation, as matplotlib figures that need no display."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samlet.errors import UserError
from samlet.evaluation.number_of_clicks import TARGETS, ClickScore, mean_ious
from samlet.evaluation.single_prompts import ObjectScore
from samlet.utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = np.linspace(0, 1, 21)


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches, without a window.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            'Plots need matplotlib, which is missing: run pip install "samlet[train]".'
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def save_plot(path: str | Path, figure: "Figure") -> None:
    """Write a figure in the format of the suffix (.png, .svg, .pdf).

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def iou_histograms(scores: Sequence[ObjectScore]) -> "Figure":
    """Plot a histogram of the IoU for each prompt.

    Args:
        scores: at least one.

    Raises:
        UserError: matplotlib is missing.
    """
    prompts = list(dict.fromkeys(s.prompt for s in scores))
    figure = new_figure(4 * len(prompts), 3)
    panels = figure.subplots(1, len(prompts), sharey=True, squeeze=False)[0]
    for panel, prompt in zip(panels, prompts, strict=True):
        ious = [s.iou for s in scores if s.prompt == prompt]
        panel.hist(ious, BINS)
        panel.axvline(float(np.mean(ious)), color="black", linestyle="--")
        panel.set(title=f"{prompt}: mean {np.mean(ious):.3f}", xlabel="IoU", xlim=(0, 1))
    panels[0].set_ylabel("objects")
    return figure


def click_curve(scores: Sequence[ClickScore], targets: Sequence[float] = TARGETS) -> "Figure":
    """Plot the mean IoU, and the share of objects that reached each target, over the clicks.

    Args:
        scores: at least one.
        targets: IoUs to reach.

    Raises:
        UserError: matplotlib is missing.
    """
    figure = new_figure(6, 4)
    panel = figure.subplots()
    curve = mean_ious(scores)
    clicks = np.arange(1, len(curve) + 1)
    panel.plot(clicks, curve, marker="o", label="mean IoU")
    for target in targets:
        needed = np.array([s.clicks_to(target) if s.reaches(target) else np.inf for s in scores])
        shares = [float(np.mean(needed <= n)) for n in clicks]
        panel.step(clicks, shares, where="post", label=f"objects with IoU {target:.2f}")
    panel.set(xlabel="clicks", ylabel="IoU, or share of objects", ylim=(0, 1))
    panel.set_xticks(clicks)
    figure.legend(loc="outside lower center", ncols=1 + len(targets))
    return figure


def predicted_against_true(scores: Sequence[ObjectScore]) -> "Figure":
    """Plot the predicted over the true IoU: one panel per prompt, one dot per object.

    Args:
        scores: at least one.

    Raises:
        UserError: matplotlib is missing.
    """
    prompts = list(dict.fromkeys(s.prompt for s in scores))
    figure = new_figure(4 * len(prompts), 4.5)
    panels = figure.subplots(1, len(prompts), sharey=True, squeeze=False)[0]
    for panel, prompt in zip(panels, prompts, strict=True):
        chosen = [s for s in scores if s.prompt == prompt]
        panel.plot([0, 1], [0, 1], color="black", linewidth=0.5)
        panel.plot([s.iou for s in chosen], [s.predicted_iou for s in chosen], ".", alpha=0.3)
        error = np.mean([abs(s.iou - s.predicted_iou) for s in chosen])
        # A predicted IoU is the output of a regression, and may be a little above 1.
        limits = (0, 1.05)
        panel.set(title=f"{prompt}: error {error:.3f}", xlabel="IoU", xlim=limits, ylim=limits)
        panel.set_aspect("equal")
    panels[0].set_ylabel("predicted IoU")
    return figure
