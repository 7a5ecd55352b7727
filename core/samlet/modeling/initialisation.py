"""Building models whose weights are replaced at once."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

_RANDOM = (nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_)


class WithoutRandomWeights(TorchFunctionMode):
    """Inside, this thread builds modules with whatever is in memory in place of random weights.

    To draw them takes longer than to read a checkpoint. All parameters must be set afterwards.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Leave a tensor as it is where it would be filled with random numbers; see PyTorch."""
        kwargs = kwargs or {}
        if func in _RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
