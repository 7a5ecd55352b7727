"""How long a training will take, estimated from a few real steps of it."""

import time
from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np
import torch

import samlet
from samlet import Predictor
from samlet.datasets.examples import Example
from samlet.evaluation.single_prompts import evaluate_prompts
from samlet.modeling.sam import Sam
from samlet.training.accelerator import open_accelerator
from samlet.training.finetuning.crops import Crops
from samlet.training.finetuning.finetune import HELD_OUT_SHARE, crop_size_of, prompt_plan_of
from samlet.training.finetuning.prompt_trainer import PromptTrainer
from samlet.training.held_out import MAX_EVALUATED, held_out_names
from samlet.training.settings import FinetuneSettings
from samlet_napari.finetune.training_data import TrainingData, file_name
from samlet_napari.triton import without_triton


@dataclass(frozen=True)
class TimeEstimate:
    """How fast this computer trains on these labels, as measured.

    Attributes:
        images: number of labelled images.
        held_out: number of held-out images.
        per_step: seconds per step.
        per_held_out: seconds to measure a model on one of those.
    """

    images: int
    held_out: int
    per_step: float
    per_held_out: float

    def seconds(self, steps: int) -> float:
        """How long a training will take."""
        # Two models are measured on held-out images.
        return steps * self.per_step + 2 * self.held_out * self.per_held_out


def measure(data: TrainingData, model: str) -> Generator[None, None, TimeEstimate]:
    """Take a few real training steps with a model of its own, and measure a real image with it.

    Args:
        data: what will be trained on.
        model: what `samlet.load` takes.

    Yields:
        often, so that a thread can be stopped.

    Raises:
        UserError: there are no labels, or the model cannot be loaded.
    """
    names, example = [], None
    for number, crop in enumerate(data.crops()):
        labels = data.labels_in(crop)
        if labels is not None:
            names.append(file_name(number))
            example = example or Example("", data.image_in(crop), labels[None].astype(np.int32))
        yield
    if example is None:
        raise data.no_objects_error()
    with without_triton():
        own = samlet.load(model)
        # With it comes all that searches for triton, and the training step below finds it there.
        import timm  # noqa: F401
    held_out = min(MAX_EVALUATED, len(held_out_names(names, HELD_OUT_SHARE)))
    start = time.monotonic()
    if held_out:
        list(evaluate_prompts(Predictor(own, "torch", precision="float32"), [example]))
    per_held_out = time.monotonic() - start
    yield
    settings = FinetuneSettings(images="", labels="", model=model, train="decoder")
    without_clicks, with_clicks = yield from _step_seconds(own, example, settings)
    plan = prompt_plan_of(own, settings)
    # Only the last round is trained on; each of the others takes a third of that.
    rounds = plan.correction_share * (1 + (plan.corrections - 1) / 2 / 3)
    per_step = without_clicks + rounds * max(0.0, with_clicks - without_clicks)
    return TimeEstimate(len(names), held_out, per_step, per_held_out)


def _step_seconds(
    model: Sam, example: Example, settings: FinetuneSettings
) -> Generator[None, None, list[float]]:
    """Seconds of a step without corrective clicks, and of one with a single round of them.

    How many prompts are corrected, and in how many rounds, is drawn at random and decides how long
    a step takes, so that the mean of a few would mean little.
    """
    accelerator = open_accelerator(settings.precision, all_used=False)
    plan = replace(prompt_plan_of(model, settings), corrections=1)
    module = PromptTrainer(model, plan, settings.train)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad])
    learner, stepper = accelerator.prepare(module, optimizer)
    learner.train()
    crops = Crops([example], model.config.image_size, crop_size_of(model), settings.batch_size)
    seconds = []
    for share in (0.0, 1.0):
        module.plan = replace(plan, correction_share=share)
        durations = []
        for number in range(2):
            start = time.monotonic()
            batch = crops.batch(number)
            losses = learner(batch.to(accelerator.device))
            accelerator.backward(torch.stack(list(losses.values())).sum())
            stepper.step()
            stepper.zero_grad(set_to_none=True)
            # Wait for a device that computes asynchronously.
            float(next(iter(losses.values())))
            durations.append(time.monotonic() - start)
            yield
        # The first step is slower, as it sets things up.
        seconds.append(min(durations))
    return seconds
