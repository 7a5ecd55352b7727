"""What a training run saves so that it can be resumed: `state.pt`, and the one before it."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from samlet.errors import UserError
from samlet.training.disk_space import check_room
from samlet.training.stream import Position
from samlet.utils.files import atomic_path
from samlet.utils.progress import print_status

STATE = "state.pt"
PREVIOUS_STATE = "state-before.pt"


class RunState:
    """The state of a run, in memory and on disk.

    Args:
        out: folder of the run.
        learner: the module in training, before it is wrapped.
        averaged: its averaged weights.
        optimizer: likewise before it is wrapped.
        accelerator: knows the processes, and scales gradients in float16.

    Attributes:
        step: optimizer steps done.
        saved: those of the state on disk; None if there is none.
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
        self.path, self.before = out / STATE, out / PREVIOUS_STATE
        self.parts: dict[str, nn.Module | torch.optim.Optimizer] = {
            "learner": learner,
            "averaged": averaged,
            "optimizer": optimizer,
        }
        self.accelerator = accelerator
        self.step = 0
        self.saved: int | None = None
        self.seconds = 0.0
        self.position: Position = {}
        # One that is damaged must not take the place of the good one before it.
        self._newest_is_good = False

    def save(self, seconds: float) -> None:
        """Write everything; every process takes part, the first one writes.

        On a full disk the state before gives way.

        Raises:
            UserError: it cannot be written; the newest state on disk is as it was.
        """
        positions = gather_object([self.position])
        self.seconds = seconds
        failure: str | None = None
        if self.accelerator.is_main_process:
            state: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
            scaler = self.accelerator.scaler
            state |= {
                "step": self.step,
                "seconds": seconds,
                "positions": positions,
                "scaler": {} if scaler is None else scaler.state_dict(),
            }
            try:
                self._write(state)
            except UserError as error:
                failure = str(error)
        failure = gather_object([failure])[0]
        if failure is not None:
            raise UserError(failure)
        self.saved, self._newest_is_good = self.step, True

    def _write(self, state: dict[str, Any]) -> None:
        try:
            self._write_once(state)
        except UserError:
            if not (self._newest_is_good and self.before.exists()):
                raise
            self.before.unlink()
            self._write_once(state)

    def _write_once(self, state: dict[str, Any]) -> None:
        with atomic_path(self.path) as path:
            # Through a file of Python's, which tells what torch's zip writer would cover up.
            with path.open("wb") as file:
                torch.save(state, file)
            if self._newest_is_good:
                self.path.replace(self.before)

    def check_room(self) -> None:
        """Compare the room that the states are going to need with what is free.

        Raises:
            UserError: there is less.
        """
        weights = [t for m in self._modules() for t in m.state_dict().values()]
        learning = [p for p in self._modules()[0].parameters() if p.requires_grad]
        one = _size(weights) + 2 * _size(learning)
        # The newest, the one before, and for a moment the next.
        there = [path.stat().st_size for path in (self.path, self.before) if path.exists()]
        need = max(0, 3 * one - sum(there))
        check_room(self.path.parent, need, "The states of the run need", "or choose another --out")

    def _modules(self) -> list[nn.Module]:
        return [part for part in self.parts.values() if isinstance(part, nn.Module)]

    def load(self) -> None:
        """Resume from the newest state that is whole, if there is one.

        Raises:
            UserError: it is another model's, or another number of processes'; or there is none that
                is whole.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        damaged = []
        for path in (self.path, self.before):
            if not path.exists():
                continue
            state = _read(path)
            if state is None:
                damaged.append(path)
                continue
            self._restore(state, path)
            self._newest_is_good = path == self.path
            for other in damaged:
                print_status(
                    f"{other} is damaged, as a power cut or a full disk leaves it: resuming from "
                    f"the state before, at step {self.step}."
                )
            return
        if damaged:
            raise UserError(
                f"{' and '.join(map(str, damaged))} cannot be read, empty or cut short as by a "
                "power cut or a full disk: remove it to start again, or choose another --out."
            )

    def _restore(self, state: dict[str, Any], path: Path) -> None:
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            if state["scaler"] and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            positions: list[Position] = state["positions"]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is the state of another model; choose another --out or remove it."
            ) from error
        if len(positions) != self.accelerator.num_processes:
            raise UserError(
                f"{path} was written by {len(positions)} processes: resume with as many, or "
                "choose another --out."
            )
        self.position = positions[self.accelerator.process_index]
        self.step, self.seconds = state["step"], state["seconds"]
        self.saved = self.step


def _read(path: Path) -> dict[str, Any] | None:
    """The contents of a state file; None if it is damaged."""
    try:
        # torch itself reads past blocks that the disk has lost.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: check its permissions.") from error
    # What a damaged file raises is nearly anything, from EOFError to UnpicklingError.
    except Exception:
        return None
    return state


def _size(tensors: list[Tensor] | list[nn.Parameter]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
