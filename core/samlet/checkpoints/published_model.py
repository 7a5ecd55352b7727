"""What is known of a model that others have published."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from samlet.checkpoints.remote_file import RemoteFile


@dataclass(frozen=True)
class PublishedModel:
    """A model that is downloaded when it is first used.

    Attributes:
        summary: what it is good for.
        parameters: of image encoder, prompt encoder and mask decoder.
        licence: of the weights, as an SPDX identifier if there is one; empty if the publisher
            states none.
        publisher: who trained and published it.
        weights: in the publisher's layout.
        instance_decoder: the file of micro-sam's second decoder, for automatic segmentation.
        is_non_commercial: whether its licence forbids commercial use.
        card: settings of everything mode that its publisher's own program suggests.
    """

    summary: str
    parameters: int
    licence: str
    publisher: str
    weights: RemoteFile
    instance_decoder: RemoteFile | None = None
    is_non_commercial: bool = False
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """All that is downloaded."""
        return (self.weights, *([self.instance_decoder] if self.instance_decoder else []))
