"""Decoupled distillation: the student's encoder learns to give the teacher's embedding.

Source: MobileSAM, arXiv 2306.14289, section 3.2.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from samlet.modeling.mask_decoder import MaskDecoder
from samlet.modeling.prompt_encoder import PromptEncoder
from samlet.modeling.sam import Sam
from samlet.training.distillation.batches import TeachingBatch, normalised
from samlet.training.losses import embedding_loss
from samlet.training.stream import Batches

SETTLING_BATCHES = 50

Teaching = Callable[[TeachingBatch], Tensor]
"""From a batch to the teacher's embedding of it."""


def teaching_of(teacher: Sam) -> Teaching:
    """Teach on the fly.

    A function, since a module that learns must not hold its teacher: it would be saved with it,
    averaged, and sent between processes.
    """

    @torch.no_grad()
    def teach(batch: TeachingBatch) -> Tensor:
        return teacher.image_encoder(normalised(teacher, batch.images, batch.valid))

    return teach


class Pupil(nn.Module):
    """A student's encoder, with the normalisation of its images, and a way to its teacher.

    Args:
        student: its image encoder learns.
        teach: asked for the teacher's embedding where a batch does not bring it from disk.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, student: Sam, teach: Teaching | None = None) -> None:
        super().__init__()
        self.image_encoder = student.image_encoder.to(memory_format=torch.channels_last)
        self.register_buffer("pixel_mean", student.pixel_mean, persistent=False)
        self.register_buffer("pixel_std", student.pixel_std, persistent=False)
        self.teach = teach

    def embeddings(self, batch: TeachingBatch) -> tuple[Tensor, Tensor]:
        """The student's and the teacher's embeddings of a batch, B x C x h x w."""
        target = batch.embeddings
        if target is None:
            if self.teach is None:
                raise ValueError("The batch has no embeddings, and there is no teacher to ask.")
            target = self.teach(batch)
        return self.image_encoder(normalised(self, batch.images, batch.valid)), target

    def decoder_for(self, teacher: Sam) -> "Decoding":
        """What belongs on the encoder once it has learnt: the teacher's own decoder."""
        return teacher


class EmbeddingLearner(Pupil):
    """Mean squared error between embeddings, padding left out."""

    def forward(self, batch: TeachingBatch) -> dict[str, Tensor]:
        """The loss of a batch."""
        student, teacher = self.embeddings(batch)
        return {"embedding": embedding_loss(student, teacher, batch.valid)}


def settle(student: Sam, batches: Iterable[TeachingBatch]) -> None:
    """Give the encoder's BatchNorm the statistics of many batches together.

    Running statistics are those of the last few batches, and averaged weights have none of their
    own. With few images a batch, unlike each other, that costs a large part of the accuracy.
    """
    pixels = (
        normalised(student, batch.images.to(student.device), batch.valid.to(student.device))
        for batch in batches
    )
    update_bn(pixels, student.image_encoder)
    student.eval()


class Decoding(Protocol):
    """Anything that turns embeddings and prompts into masks as a `Sam` does."""

    prompt_encoder: PromptEncoder
    mask_decoder: MaskDecoder


def plug_in(teacher: Decoding, student: Sam) -> Sam:
    """Plug the teacher's prompt encoder and mask decoder, unchanged, onto the student."""
    student.prompt_encoder.load_state_dict(teacher.prompt_encoder.state_dict())
    student.mask_decoder.load_state_dict(teacher.mask_decoder.state_dict())
    return student


def finish(pupil: nn.Module, student: Sam, teacher: Sam, lessons: Batches) -> Sam:
    """Make a whole model of what was learnt, in eval mode.

    Args:
        pupil: the `Pupil` that training gave back.
        student: gets its encoder, and the decoder that belongs to it.
        teacher: see `Pupil.decoder_for`.
        lessons: what was learnt from; BatchNorm's statistics are settled on its first batches.
    """
    assert isinstance(pupil, Pupil)
    student.image_encoder.load_state_dict(pupil.image_encoder.state_dict())
    settle(student, (batch for batch, _ in islice(lessons({}), SETTLING_BATCHES)))
    return plug_in(pupil.decoder_for(teacher), student)
