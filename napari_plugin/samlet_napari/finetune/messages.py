"""Sentences on the state of a training."""

from collections.abc import Sequence

from samlet.training.job import FinetuneResult, Progress
from samlet.training.train_logger import LOG_INTERVAL
from samlet.utils.messages import format_duration


def describe_progress(rows: Sequence[Progress], steps: int, is_stopping: bool) -> str:
    """What a training of so many steps is doing, by its log."""
    if is_stopping:
        return "Stopping after this step…"
    if not rows:
        return f"Training has started; the loss is logged every {min(LOG_INTERVAL, steps)} steps…"
    last = rows[-1]
    if last.step >= steps:
        return "Saving the model, and measuring it on held-out images…"
    left = (steps - last.step) * last.seconds / last.step
    return f"Training: step {last.step} of {steps}, about {format_duration(left)} left."


def describe_result(result: FinetuneResult, name: str) -> str:
    """What has come of a training whose model was saved under a name."""
    sentences = [f"Done: {name} is in the list of models."]
    before, after = result.before, result.after
    if before is not None and after is not None:
        scores = (
            f"{prompt} {before[prompt]:.3f} before, {after[prompt]:.3f} after"
            for prompt in ("click", "box")
        )
        sentences.append(f"Mean IoU on held-out images: {'; '.join(scores)}.")
    if result.error:
        sentences.append(result.error)
    return " ".join([*sentences, *result.warnings])
