"""BatchNorm over the batches of all processes, on any device.

On GPUs it is `torch.nn.SyncBatchNorm`, which refuses tensors on a CPU; there it is a class of this
module. With either, two processes with half a batch each compute what one process computes with the
whole batch, up to rounding.
"""

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm2d whose statistics in training are those of all processes' batches together.

    Every process must have the same batch size and crop size.
    """

    def forward(self, input: Tensor) -> Tensor:
        """B x C x H x W to the same."""
        if not self.training or self.running_mean is None or self.running_var is None:
            return super().forward(input)
        x = input.float()
        mean = _mean_of_processes(x.mean((0, 2, 3)))
        centred = x - mean.view(-1, 1, 1)
        variance = _mean_of_processes(centred.square().mean((0, 2, 3)))
        with torch.no_grad():
            count = x.numel() / x.shape[1] * dist.get_world_size()
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        y = centred * (variance + self.eps).rsqrt().view(-1, 1, 1)
        if self.weight is not None:
            y = torch.addcmul(self.bias.view(-1, 1, 1), y, self.weight.view(-1, 1, 1))
        return y.to(input.dtype)


class _MeanOfProcesses(torch.autograd.Function):
    """The mean over processes. The gradient of a mean over processes is the mean of gradients."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        # Each process's loss depends on the shared mean, and DDP takes the mean over losses, so
        # the sum over processes here is divided by their number there.
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()


def _mean_of_processes(x: Tensor) -> Tensor:
    mean: Tensor = _MeanOfProcesses.apply(x)
    return mean


def synchronize_batch_norm(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Replace every BatchNorm2d by a synchronized one with the same parameters and buffers.

    With one process nothing changes.
    """
    if accelerator.num_processes == 1:
        return module
    if accelerator.device.type == "cuda":
        synchronized: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return synchronized
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            # The same object with the same state; only its forward differs.
            child.__class__ = SynchronizedBatchNorm2d
    return module
