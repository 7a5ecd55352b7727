"""What a training run leaves on disk so that it can go on: `state.pt`."""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from samlet.distill.stream import Position
from samlet.errors import UserError
from samlet.files import atomic_path

CHECKPOINT = "state.pt"


class RunState:
    """The state of a run, in memory and on disk.

    Args:
        out: folder of the run.
        learner: what learns, before it is wrapped.
        averaged: its averaged weights.
        optimizer: likewise before it is wrapped.
        accelerator: knows the processes, and scales gradients in float16.

    Attributes:
        step: optimizer steps done.
        seconds: time spent on them, over all sessions.
        position: where this process is in its data.
    """

    def __init__(
        self,
        out: Path,
        learner: nn.Module,
        averaged: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
    ) -> None:
        self.path = out / CHECKPOINT
        self.parts: dict[str, nn.Module | torch.optim.Optimizer] = {
            "learner": learner,
            "averaged": averaged,
            "optimizer": optimizer,
        }
        self.accelerator = accelerator
        self.step = 0
        self.seconds = 0.0
        self.position: Position = {}

    def save(self, seconds: float) -> None:
        """Write everything; every process takes part, the first one writes."""
        positions = gather_object([self.position])
        self.seconds = seconds
        if self.accelerator.is_main_process:
            state: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
            scaler = self.accelerator.scaler
            state |= {
                "step": self.step,
                "seconds": seconds,
                "positions": positions,
                "scaler": {} if scaler is None else scaler.state_dict(),
            }
            with atomic_path(self.path) as path:
                torch.save(state, path)
        self.accelerator.wait_for_everyone()

    def load(self) -> None:
        """Go on from the file, if there is one.

        Raises:
            UserError: it is another model's, another number of processes', or damaged.
        """
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            if state["scaler"] and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            positions: list[Position] = state["positions"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{self.path} is the state of another model; choose another --out or remove it."
            ) from error
        if len(positions) != self.accelerator.num_processes:
            raise UserError(
                f"{self.path} was written by {len(positions)} processes: go on with as many, or "
                "choose another --out."
            )
        self.position = positions[self.accelerator.process_index]
        self.step, self.seconds = state["step"], state["seconds"]
