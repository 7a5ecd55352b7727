"""The loop that every recipe shares: one optimizer, one schedule, exact resume, atomic saves."""

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console
from torch import Tensor, nn

from samlet.errors import UserError
from samlet.files import atomic_path

CHECKPOINT = "state.pt"
LOG = "log.csv"


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast to learn.

    Args:
        steps: optimizer steps in all; the cosine schedule ends there.
        learning_rate: its peak.
        warmup: steps of linear growth to the peak.
        weight_decay: on matrices and kernels; norms and biases have none.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights, which are the result.
        save_minutes: how often the state is written.
        seed: decides, with the step, everything random about it.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.998
    save_minutes: float = 3.0
    seed: int = 0


def train(
    module: nn.Module,
    losses_of: Callable[[int], dict[str, Tensor]],
    settings: LoopSettings,
    out: Path,
) -> nn.Module:
    """Minimise the sum of the losses; go on from `out` if a run was begun there.

    What happens at a step depends on the weights, the settings and the step's number alone, so a
    run that was killed and resumed ends as if it had never stopped.

    Args:
        module: everything that learns.
        losses_of: from the step's number to named losses, computed through `module`.
        settings: see there.
        out: folder of the run: `state.pt` and `log.csv`.

    Returns:
        the averaged weights, as a module like `module`, in eval mode.

    Raises:
        UserError: `out` holds a state of another architecture, or cannot be written.
        KeyboardInterrupt: Ctrl-C was pressed; the state is saved.
    """
    # Subnormal numbers in tiny gradients slow a CPU down many times and change no result.
    torch.set_flush_denormal(True)
    averaged = copy.deepcopy(module).requires_grad_(False)
    optimizer = torch.optim.AdamW(_parameter_groups(module, settings.weight_decay))
    step, seconds = _resume(out, module, averaged, optimizer)
    console = Console()
    started = saved = shown = time.monotonic()
    since = step
    module.train()
    with _ctrl_c() as pressed:
        while step < settings.steps and not pressed():
            torch.manual_seed(settings.seed * 1_000_003 + step)
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(step, settings)
            losses = losses_of(step)
            total = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
            optimizer.step()
            step += 1
            _average(averaged, module, min(settings.ema, (1 + step) / (10 + step)))

            now = time.monotonic()
            if now - shown > 20 or step == settings.steps:
                rate = (step - since) / (now - started)
                left = (settings.steps - step) / rate / 60
                values = {name: float(value.detach()) for name, value in losses.items()}
                _log(out, step, seconds + now - started, values)
                told = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
                console.print(
                    f"step {step}/{settings.steps}  {told}  {rate:.2f} steps/s  {left:.0f} min left"
                )
                shown = now
            if now - saved > settings.save_minutes * 60:
                _save(out, module, averaged, optimizer, step, seconds + now - started)
                saved = now
    _save(out, module, averaged, optimizer, step, seconds + time.monotonic() - started)
    if step < settings.steps:
        console.print(f"Stopped at step {step}; the same command goes on from there.")
        raise KeyboardInterrupt
    return averaged.eval()


@contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, to be asked between steps.

    An interrupt in the middle of a step would leave weights and optimizer one step apart. A second
    Ctrl-C does not wait.
    """
    pressed = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, previous)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def _parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _learning_rate(step: int, settings: LoopSettings) -> float:
    warm = min(1.0, (step + 1) / settings.warmup)
    progress = min(1.0, step / settings.steps)
    return settings.learning_rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


@torch.no_grad()
def _average(averaged: nn.Module, module: nn.Module, decay: float) -> None:
    for old, new in zip(averaged.state_dict().values(), module.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)


def _save(
    out: Path,
    module: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    with atomic_path(out / CHECKPOINT) as path:
        torch.save(
            {
                "step": step,
                "seconds": seconds,
                "module": module.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizer": optimizer.state_dict(),
            },
            path,
        )


def _resume(
    out: Path, module: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    path = out / CHECKPOINT
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        module.load_state_dict(state["module"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path} is the state of another model; choose another --out or remove it."
        ) from error
    return state["step"], state["seconds"]


def _log(out: Path, step: int, seconds: float, values: dict[str, float]) -> None:
    path = out / LOG
    fresh = not path.exists()
    with path.open("a") as file:
        if fresh:
            file.write(",".join(["step", "seconds", *values]) + "\n")
        file.write(",".join(f"{v:.6g}" for v in (step, seconds, *values.values())) + "\n")
