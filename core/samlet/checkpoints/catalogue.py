"""What there is to choose from: the bundled models and the published ones, as users read it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from samlet.checkpoints.downloads import find_local
from samlet.checkpoints.loading import BUNDLED, read_card
from samlet.checkpoints.published_model import PublishedModel
from samlet.checkpoints.registry import INSTANCE_DECODER_PARAMETERS, MODELS

FLOAT_BYTES = 4


@dataclass(frozen=True)
class CatalogueEntry:
    """A model that has a name.

    Attributes:
        name: what `samlet.load` takes.
        summary: what it is good for.
        parameters: of image encoder, prompt encoder and mask decoder.
        size: of the files, for people.
        licence: of the weights, for people.
        publisher: who trained it.
        file: on this machine; None if it, or its instance decoder, must be downloaded.
        url: where it is downloaded from; empty if it is bundled.
    """

    name: str
    summary: str
    parameters: int
    size: str
    licence: str
    publisher: str
    file: Path | None
    url: str

    @property
    def place(self) -> str:
        """Whether it works without a network: "bundled" or "offline", or else "to download"."""
        if not self.url:
            return "bundled"
        return "to download" if self.file is None else "offline"

    def describe(self) -> str:
        """All of it in a sentence."""
        return (
            f"{self.name}: {self.summary}. {format_millions(self.parameters)} parameters, "
            f"{self.size}, licence: {self.licence}, by {self.publisher}, {self.place}."
        )


def catalogue() -> Iterator[CatalogueEntry]:
    """All models that have a name; bundled ones first.

    Raises:
        UserError: SAMLET_MODELS names neither a folder nor an address.
    """
    for name, path in BUNDLED.items():
        card = read_card(path)
        yield CatalogueEntry(
            name=name,
            summary=card.get("summary", ""),
            parameters=_count_parameters(path),
            size=_format_megabytes(path.stat().st_size),
            licence=card.get("licence", ""),
            publisher="samlet",
            file=path,
            url="",
        )
    for name, model in MODELS.items():
        yield _published(name, model)


def _published(name: str, model: PublishedModel) -> CatalogueEntry:
    weights, files = model.weights, [find_local(file) for file in model.files]
    if weights.size:
        size = _format_megabytes(weights.size)
    else:
        # Publishers who do not state the size save single-precision numbers and little else.
        decoder = INSTANCE_DECODER_PARAMETERS if model.instance_decoder else 0
        size = f"~{_format_megabytes(FLOAT_BYTES * (model.parameters + decoder))}"
    licence = model.licence or "not stated"
    return CatalogueEntry(
        name=name,
        summary=model.summary,
        parameters=model.parameters,
        size=size,
        licence=f"{licence}, non-commercial" if model.is_non_commercial else licence,
        publisher=model.publisher,
        file=files[0] if all(files) else None,
        url=weights.url,
    )


def format_millions(count: int) -> str:
    """A count in millions, for people."""
    return f"{count / 1e6:.0f} M"


def _format_megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _count_parameters(path: Path) -> int:
    """Count what a bundled model has, running statistics included, without reading it."""
    with safe_open(path, framework="pt") as file:
        return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
