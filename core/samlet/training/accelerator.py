"""Where a run computes, and in what precision: the one file that uses accelerate's private API."""

from typing import Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from samlet.engines.precision import computes_in_bfloat16
from samlet.training.settings import Precision


def open_accelerator(
    precision: Precision = "auto", accumulate: int = 1, all_used: bool = True
) -> Accelerator:
    """The processes and devices of this run, as `accelerate launch` or `torchrun` set them up.

    Args:
        precision: of the model's forward pass. "auto" is bfloat16 where the hardware computes in
            it (recent GPUs, CPUs with AVX-512 BF16), float16 on older GPUs, else float32 ("no").
        accumulate: batches over which a step accumulates its gradient.
        all_used: every step gives every parameter a gradient, which several processes must know.
    """
    if precision == "auto":
        precision = _fastest()
    # accelerate keeps the first run's precision for the whole process, and a second run in it (in a
    # notebook, say) may need another. It has no public way to reset that.
    AcceleratorState._reset_state()
    return Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=accumulate,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=not all_used)],
        cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available(),
    )


def _fastest() -> Literal["no", "bf16", "fp16"]:
    if torch.cuda.is_available():
        return "bf16" if computes_in_bfloat16("cuda") else "fp16"
    return "bf16" if computes_in_bfloat16("cpu") else "no"
