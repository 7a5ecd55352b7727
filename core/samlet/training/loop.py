"""The loop that every kind of training shares: exact resume, any number of processes.

`accelerate` decides where it runs: a CPU, a GPU, or many GPUs and nodes.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from samlet.errors import UserError
from samlet.training.batch_norm import synchronize_batch_norm
from samlet.training.graceful_stop import graceful_stop
from samlet.training.run_lock import run_lock
from samlet.training.run_state import RunState
from samlet.training.settings import LoopSettings
from samlet.training.stream import Batches, Position
from samlet.training.train_logger import TrainLogger
from samlet.utils.prefetch import prefetch_iterator

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3


def train(
    learner: nn.Module,
    batches: Batches,
    settings: LoopSettings,
    out: Path,
    accelerator: Accelerator | None = None,
) -> nn.Module:
    """Minimise the sum of a learner's losses; a run that was begun in `out` is resumed.

    What happens at a step depends only on the weights, the settings, the step's number and the
    position in the data, so a run that was killed and resumed ends as if it had never stopped.

    Args:
        learner: the module that is trained; called with a batch, it returns named losses (scalars).
        batches: from a position to batches, which have a `to(device)`.
        settings: see there.
        out: folder of the run: `state.pt`, `log.csv`, and TensorBoard's files.
        accelerator: where to run, in what precision, and over how many batches a step accumulates
            its gradient; None for one process in full precision.

    Returns:
        the averaged weights, as a module like `learner`, in eval mode; the same in every process.

    Raises:
        UserError: `out` holds a state of another architecture or number of processes, or has no
            room for the states of this run, or another training is at work in it, or the loss is
            no longer a number.
        UnsavedError: the state cannot be written.
        KeyboardInterrupt: Ctrl-C was pressed, or the process was asked to end; the state is saved.
    """
    # Subnormal numbers in tiny gradients slow a CPU down many times and change no result.
    torch.set_flush_denormal(True)
    accelerator = accelerator or Accelerator(cpu=not torch.cuda.is_available())
    # One process locks for all of its run, and the others end with it.
    with run_lock(out) if accelerator.is_main_process else nullcontext():
        return _train(learner, batches, settings, out, accelerator)


def _train(
    learner: nn.Module,
    batches: Batches,
    settings: LoopSettings,
    out: Path,
    accelerator: Accelerator,
) -> nn.Module:
    learner.to(accelerator.device)
    ema = _open_ema(learner, settings.ema)
    averaged: nn.Module = ema.module.requires_grad_(False)
    optimizer = torch.optim.AdamW(_parameter_groups(learner, settings.weight_decay))
    state = RunState(out, learner, averaged, optimizer, accelerator)
    state.load()
    if state.step < settings.steps and accelerator.is_main_process:
        state.check_room()
    wrapped, stepper = accelerator.prepare(synchronize_batch_norm(learner, accelerator), optimizer)
    wrapped.train()
    stream: Iterator[tuple[Any, Position]] = batches(state.position)
    if settings.prefetch:
        stream = prefetch_iterator(stream, settings.prefetch)
    saved_at = time.monotonic()
    with (
        TrainLogger(out, settings.steps, state.step, state.seconds, accelerator) as logger,
        graceful_stop(accelerator) as synchronized_flags,
    ):
        while state.step < settings.steps:
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(state.step, settings)
            for part in range(accelerator.gradient_accumulation_steps):
                with logger.waiting():
                    batch, state.position = next(stream)
                # The same in every process: their batches differ anyway, and a process that drew
                # more work than the others would keep them waiting.
                torch.manual_seed(_seed(settings.seed, state.step, part))
                with accelerator.accumulate(wrapped):
                    losses: dict[str, Tensor] = wrapped(batch.to(accelerator.device))
                    accelerator.backward(torch.stack(list(losses.values())).sum())
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(wrapped.parameters(), settings.clip)
                    stepper.step()
                    stepper.zero_grad(set_to_none=True)
                logger.add(losses)
            state.step += 1
            ema.update(learner, state.step + _EMA_OFFSET)
            if not logger.end_step(state.step):
                raise UserError(
                    f"The loss is no longer a number at step {state.step}: lower the learning rate "
                    f"and start again with another --out; {out} holds the last good state."
                )
            # Only at steps that are logged, so that what is saved is known to be good.
            is_due = time.monotonic() - saved_at > settings.save_minutes * 60
            stop, save = synchronized_flags(is_due and logger.is_log_step(state.step))
            if stop or save or state.step == settings.steps:
                _save(state, averaged, logger, is_last=state.step == settings.steps)
                saved_at = time.monotonic()
            if stop and state.step < settings.steps:
                message = f"Stopped at step {state.step}; the same command resumes from there."
                logger.print(message)
                raise KeyboardInterrupt(message)
    if isinstance(stream, Generator):
        stream.close()
    return averaged.eval()


class UnsavedError(UserError):
    """The state of a run cannot be written, and the run stops.

    Args:
        message: why not, in a sentence.
        averaged: what `train` would have returned by now.
        state: of the run.
    """

    def __init__(self, message: str, averaged: nn.Module, state: RunState) -> None:
        super().__init__(message)
        self.averaged = averaged
        self._state = state

    def with_partial_model(self, write: Callable[[nn.Module], Path]) -> UserError:
        """Keep the model so far, and say where it is and what the same command does next.

        Args:
            write: puts `averaged` where there may be room still, as it needs less; raises
                UserError.
        """
        step, saved = self._state.step, self._state.saved
        kept = ""
        with suppress(UserError):
            kept = f"The model up to step {step} is in {write(self.averaged)}. "
        again = "starts again" if saved is None else f"resumes from step {saved}"
        return UserError(f"{self} {kept}With more room, the same command {again}.")


def _save(state: RunState, averaged: nn.Module, logger: TrainLogger, is_last: bool) -> None:
    try:
        state.save(logger.seconds)
    except UserError as error:
        if not is_last:
            raise UnsavedError(str(error), averaged.eval(), state) from error
        # Training is complete, and the result needs less room.
        logger.print(str(error))


_EMA_OFFSET = 2
"""timm's averages count steps from two."""


def _open_ema(learner: nn.Module, decay: float) -> "ModelEmaV3":
    """The averaged weights, whose decay at step s is at most (1 + s) / (10 + s).

    So the initial weights are soon forgotten.
    """
    # Slow to import, and needed only once a training begins.
    from timm.utils import ModelEmaV3

    return ModelEmaV3(learner, decay, use_warmup=True, warmup_gamma=9, warmup_power=1)


def _parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _learning_rate(step: int, settings: LoopSettings) -> float:
    """Linear warmup times a cosine that falls to a hundredth.

    A function of the step rather than one of torch's or timm's schedulers: those multiply in
    another order, which changes the weights, and have a state of their own to resume.
    """
    warm = min(1.0, (step + 1) / max(1, settings.warmup))
    progress = min(1.0, step / settings.steps)
    return settings.learning_rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
