"""Labelled images that are read when they are needed."""

from collections.abc import Sequence
from functools import lru_cache
from typing import overload

from samlet import images
from samlet.distill.data import Example
from samlet.errors import UserError
from samlet.labels import Labelled

KEPT = 64
"""Decoded images that stay in memory."""


class LabelledExamples(Sequence[Example]):
    """A data set as `Crops` and the evaluation want it, with little of it in memory.

    Args:
        labelled: from `samlet.labels.checking.check`; what is faulty in them is left out.
    """

    def __init__(self, labelled: Sequence[Labelled]) -> None:
        self.labelled = labelled
        self._read = lru_cache(maxsize=KEPT)(self._example)

    def __len__(self) -> int:
        return len(self.labelled)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "LabelledExamples": ...
    def __getitem__(self, index: int | slice) -> "Example | LabelledExamples":
        if isinstance(index, slice):
            return LabelledExamples(self.labelled[index])
        return self._read(range(len(self))[index])

    def _example(self, index: int) -> Example:
        item = self.labelled[index]
        # What is faulty was told when the labels were checked.
        image, layers = images.read(item.path), item.read_layers([])
        if layers.shape[1:] != image.shape[:2]:
            raise UserError(
                f"The labels of {item.path} are {layers.shape[2]} x {layers.shape[1]} pixels but "
                f"the image is {image.shape[1]} x {image.shape[0]}; export the labels again."
            )
        return Example(item.path.stem, image, layers)
