"""How far a training is, and what came of the last one, in sentences that annotators read."""

import dataclasses
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from samlet.errors import UserError
from samlet.utils.files import atomic_path
from samlet.utils.messages import format_duration


@dataclass(frozen=True)
class TrainingProgress:
    """How far the running training is.

    Attributes:
        project: that is trained on.
        phase: what is done now, such as "training".
        step: steps that are known to be done.
        steps: in all.
        seconds_per_step: as measured so far; None before the first measurement.
    """

    project: str
    phase: str
    step: int
    steps: int
    seconds_per_step: float | None

    def __str__(self) -> str:
        if self.seconds_per_step is None:
            return self.phase
        left = (self.steps - self.step) * self.seconds_per_step
        digits = 0 if self.seconds_per_step >= 10 else 2
        return (
            f"{self.phase}, step {self.step} of {self.steps}, {self.seconds_per_step:.{digits}f} s "
            f"per step, about {format_duration(left)} left"
        )


@dataclass(frozen=True)
class TrainingOutcome:
    """What came of a training.

    Attributes:
        date: when it ended, ISO 8601.
        message: one sentence.
        is_error: whether it failed.
        version: name of the model that was trained, if there is one.
    """

    date: str
    message: str
    is_error: bool
    version: str | None = None

    def write(self, path: Path) -> None:
        """Write it as JSON; without a place to write to, it is only lost at the next start."""
        with suppress(OSError, UserError), atomic_path(path) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read what `write` has written; None if there is nothing."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def format_figures(facts: Mapping[str, Any]) -> str:
    """The scores on held-out images before and after a training."""
    return "; ".join(
        f"IoU {when}: click {facts[when]['click']:.3f}, box {facts[when]['box']:.3f}"
        for when in ("before", "after")
    )
