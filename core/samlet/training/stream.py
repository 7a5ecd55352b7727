"""Endless training data that can be resumed from a position."""

from collections.abc import Callable, Iterator
from typing import Any

Position = dict[str, int]
"""Where a stream of training data is: plain numbers that a checkpoint can hold. {} is the start."""

Batches = Callable[[Position], Iterator[tuple[Any, Position]]]
"""From a position to the batches from there on, each with the position after it."""
