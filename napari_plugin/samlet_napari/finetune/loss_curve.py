"""The loss of a training, drawn as it falls."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.utils.theme import get_theme
from napari.viewer import Viewer

from samlet.training.job import Progress

SIZE = (3.0, 1.9)
"""Of the curve, in hundreds of pixels: a dock widget is no wider."""
FONT_SIZE = 8


class LossCurve:
    """The loss by steps, in the colours of a viewer; hidden until there is a step."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._figure = Figure(figsize=SIZE)
        # matplotlib's own layouts warn when a dock is narrow, and napari shows every warning.
        self._figure.subplots_adjust(left=0.17, right=0.97, bottom=0.24, top=0.95)
        self._axes = self._figure.add_subplot()
        (self._line,) = self._axes.plot(
            [], [], marker="o", markersize=3, linewidth=1.5, clip_on=False
        )
        self.canvas = FigureCanvasQTAgg(self._figure)
        self.canvas.setMinimumHeight(self.canvas.sizeHint().height())
        self.canvas.hide()
        self.colour()

    @property
    def points(self) -> list[tuple[int, float]]:
        """Steps and losses that are drawn."""
        steps, losses = (np.asarray(data).tolist() for data in self._line.get_data())
        return list(zip(steps, losses, strict=True))

    def show(self, rows: Sequence[Progress], steps: int) -> None:
        """Draw a log."""
        losses = [row.loss for row in rows]
        self.canvas.setVisible(bool(rows))
        self._line.set_data([row.step for row in rows], losses)
        self._axes.set_xlim(0, steps)
        self._axes.set_ylim(0, 1.1 * max(losses, default=1.0))
        self.canvas.draw_idle()

    def colour(self, event: Any = None) -> None:
        """Take the colours of the viewer's theme."""
        theme = get_theme(self._viewer.theme)
        ground, text = theme.background.as_hex(), theme.text.as_hex()
        self._figure.set_facecolor(ground)
        self._axes.set_facecolor(ground)
        self._axes.set_xlabel("step", color=text, fontsize=FONT_SIZE)
        self._axes.set_ylabel("loss", color=text, fontsize=FONT_SIZE)
        self._axes.tick_params(colors=text, labelsize=FONT_SIZE)
        for spine in self._axes.spines.values():
            spine.set_color(theme.secondary.as_hex())
        self._line.set_color(theme.current.as_hex())
        self.canvas.draw_idle()
