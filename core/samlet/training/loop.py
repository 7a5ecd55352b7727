"""The loop that every kind of training shares: exact resume, any number of processes.

`accelerate` decides where it runs: a CPU, a GPU, or many GPUs and nodes.
"""

import copy
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from samlet.errors import UserError
from samlet.training.batch_norm import synchronized
from samlet.training.graceful_stop import interrupts
from samlet.training.run_state import RunState
from samlet.training.settings import LoopSettings
from samlet.training.stream import Batches, Position, in_background
from samlet.training.train_logger import Journal


class UnsavedError(UserError):
    """The state of a run cannot be written, and the run stops.

    Args:
        told: why not, in a sentence.
        averaged: what `train` would have returned by now.
        state: of the run.
    """

    def __init__(self, told: str, averaged: nn.Module, state: RunState) -> None:
        super().__init__(told)
        self.averaged = averaged
        self._state = state

    def told(self, write: Callable[[nn.Module], Path]) -> UserError:
        """Keep what was learnt so far, and say where it is and what the same command does next.

        Args:
            write: puts `averaged` where there may be room still, as it needs less; raises
                UserError.
        """
        step, saved = self._state.step, self._state.saved
        kept = ""
        with suppress(UserError):
            kept = f"What was learnt up to step {step} is in {write(self.averaged)}. "
        again = "begins anew" if saved is None else f"goes on from step {saved}"
        return UserError(f"{self} {kept}With more room, the same command {again}.")


def train(
    learner: nn.Module,
    batches: Batches,
    settings: LoopSettings,
    out: Path,
    accelerator: Accelerator | None = None,
) -> nn.Module:
    """Minimise the sum of a learner's losses; go on from `out` if a run was begun there.

    What happens at a step depends on the weights, the settings, the step's number and the position
    in the data alone, so a run that was killed and resumed ends as if it had never stopped.

    Args:
        learner: everything that learns; called with a batch, it returns named losses (scalars).
        batches: from a position to batches, which have a `to(device)`.
        settings: see there.
        out: folder of the run: `state.pt`, `log.csv`, and TensorBoard's files.
        accelerator: where to run, in what precision, and over how many batches a step accumulates
            its gradient; None for one process in full precision.

    Returns:
        the averaged weights, as a module like `learner`, in eval mode; the same in every process.

    Raises:
        UserError: `out` holds a state of another architecture or number of processes, or has no
            room for the states of this run, or the loss is no longer a number.
        UnsavedError: the state cannot be written.
        KeyboardInterrupt: Ctrl-C was pressed, or the process was asked to end; the state is saved.
    """
    # Subnormal numbers in tiny gradients slow a CPU down many times and change no result.
    torch.set_flush_denormal(True)
    accelerator = accelerator or Accelerator(cpu=not torch.cuda.is_available())
    learner.to(accelerator.device)
    averaged = copy.deepcopy(learner).requires_grad_(False)
    optimizer = torch.optim.AdamW(_parameter_groups(learner, settings.weight_decay))
    state = RunState(out, learner, averaged, optimizer, accelerator)
    state.load()
    if state.step < settings.steps and accelerator.is_main_process:
        state.check_room()
    wrapped, stepper = accelerator.prepare(
        synchronized(learner, accelerator.num_processes), optimizer
    )
    wrapped.train()
    stream: Iterator[tuple[Any, Position]] = batches(state.position)
    if settings.prefetch:
        stream = in_background(stream, settings.prefetch)
    saved = time.monotonic()
    with (
        Journal(out, settings.steps, state.step, state.seconds, accelerator) as journal,
        interrupts(accelerator) as agreed,
    ):
        while state.step < settings.steps:
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(state.step, settings)
            for part in range(accelerator.gradient_accumulation_steps):
                with journal.waiting():
                    batch, state.position = next(stream)
                # The same in every process: what they learn from differs anyway, and one that drew
                # more work than the others would let them wait.
                torch.manual_seed(_seed(settings.seed, state.step, part))
                with accelerator.accumulate(wrapped):
                    losses: dict[str, Tensor] = wrapped(batch.to(accelerator.device))
                    accelerator.backward(torch.stack(list(losses.values())).sum())
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(wrapped.parameters(), settings.clip)
                    stepper.step()
                    stepper.zero_grad(set_to_none=True)
                journal.note(losses)
            state.step += 1
            _average(averaged, learner, min(settings.ema, (1 + state.step) / (10 + state.step)))
            if not journal.advance(state.step):
                raise UserError(
                    f"The loss is no longer a number at step {state.step}: lower the learning rate "
                    f"and begin again with another --out; {out} holds the last good state."
                )
            # After a row only, so that what is saved is known to be good.
            late = time.monotonic() - saved > settings.save_minutes * 60
            stop, due = agreed(late and journal.has_row(state.step))
            if stop or due or state.step == settings.steps:
                try:
                    state.save(journal.seconds)
                except UserError as error:
                    if state.step < settings.steps:
                        raise UnsavedError(str(error), averaged.eval(), state) from error
                    # All is learnt, and the result needs less room.
                    journal.tell(str(error))
                saved = time.monotonic()
            if stop and state.step < settings.steps:
                told = f"Stopped at step {state.step}; the same command goes on from there."
                journal.tell(told)
                raise KeyboardInterrupt(told)
    if isinstance(stream, Generator):
        stream.close()
    return averaged.eval()


def _parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _learning_rate(step: int, settings: LoopSettings) -> float:
    warm = min(1.0, (step + 1) / max(1, settings.warmup))
    progress = min(1.0, step / settings.steps)
    return settings.learning_rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


@torch.no_grad()
def _average(averaged: nn.Module, module: nn.Module, decay: float) -> None:
    for old, new in zip(averaged.state_dict().values(), module.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)
