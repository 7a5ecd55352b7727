"""Ctrl-C and requests to end are obeyed between steps, by all processes together."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what clusters send before they take a machine back."""


@contextmanager
def graceful_stop(accelerator: Accelerator) -> Iterator[Callable[[bool], tuple[bool, bool]]]:
    """Catch signals, and let the processes decide together, between steps, what to do about them.

    An interrupt in the middle of a step would leave weights and optimizer one step apart, and
    processes that stop at different steps would wait for each other for ever. A second Ctrl-C does
    not wait.

    Yields:
        a function, to be called by every process after every step: from whether this process finds
        a save due, to (one of the processes was asked to stop, one of them finds a save due).
    """
    is_stopping = False
    previous: dict[int, Any] = {}

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        is_stopping = True
        signal.signal(number, previous[number])

    def synchronized_flags(due: bool) -> tuple[bool, bool]:
        if accelerator.num_processes == 1:
            return is_stopping, due
        flags = torch.tensor([is_stopping, due], dtype=torch.float32, device=accelerator.device)
        stop, save = (accelerator.reduce(flags) > 0).tolist()
        return stop, save

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handler = signal.getsignal(number)
            # A shell makes its background jobs ignore Ctrl-C, and that is to stay so.
            if handler is not signal.SIG_IGN:
                previous[number] = handler
                signal.signal(number, on_signal)
    try:
        yield synchronized_flags
    finally:
        for caught, handler in previous.items():
            signal.signal(caught, handler)
