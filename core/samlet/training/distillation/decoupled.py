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
from samlet.training.distillation.batches import DistillBatch, normalize_images
from samlet.training.losses import embedding_loss
from samlet.training.stream import Batches

RECALIBRATION_BATCHES = 50

TeacherEmbedFn = Callable[[DistillBatch], Tensor]
"""From a batch to the teacher's embedding of it."""


def teacher_embed_fn(teacher: Sam) -> TeacherEmbedFn:
    """A function that computes the teacher's embeddings on the fly.

    Not a module, since the trained module must not hold its teacher: it would be saved with it,
    averaged, and sent between processes.
    """

    @torch.no_grad()
    def embed(batch: DistillBatch) -> Tensor:
        return teacher.image_encoder(normalize_images(teacher, batch.images, batch.valid))

    return embed


class Distiller(nn.Module):
    """A student's image encoder in training, with the normalisation of its images.

    Args:
        student: its image encoder is trained.
        teacher_embed: computes the teacher's embeddings where a batch has none from disk.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, student: Sam, teacher_embed: TeacherEmbedFn | None = None) -> None:
        super().__init__()
        self.image_encoder = student.image_encoder.to(memory_format=torch.channels_last)
        self.register_buffer("pixel_mean", student.pixel_mean, persistent=False)
        self.register_buffer("pixel_std", student.pixel_std, persistent=False)
        self.teacher_embed = teacher_embed

    def embeddings(self, batch: DistillBatch) -> tuple[Tensor, Tensor]:
        """The student's and the teacher's embeddings of a batch, B x C x h x w."""
        target = batch.embeddings
        if target is None:
            if self.teacher_embed is None:
                raise ValueError("The batch has no embeddings, and there is no teacher.")
            target = self.teacher_embed(batch)
        return self.image_encoder(normalize_images(self, batch.images, batch.valid)), target

    def decoder_for(self, teacher: Sam) -> "PromptDecoder":
        """The decoder for the trained encoder: the teacher's own."""
        return teacher


class EmbeddingDistiller(Distiller):
    """Mean squared error between embeddings, padding left out."""

    def forward(self, batch: DistillBatch) -> dict[str, Tensor]:
        """The loss of a batch."""
        student, teacher = self.embeddings(batch)
        return {"embedding": embedding_loss(student, teacher, batch.valid)}


def recalibrate_batch_norm(student: Sam, batches: Iterable[DistillBatch]) -> None:
    """Set the encoder's BatchNorm statistics to those of many batches together.

    Running statistics are those of the last few batches, and averaged weights have none of their
    own. With few images a batch, unlike each other, that costs a large part of the accuracy.
    """
    pixels = (
        normalize_images(student, batch.images.to(student.device), batch.valid.to(student.device))
        for batch in batches
    )
    update_bn(pixels, student.image_encoder)
    student.eval()


class PromptDecoder(Protocol):
    """Anything that turns embeddings and prompts into masks as a `Sam` does."""

    prompt_encoder: PromptEncoder
    mask_decoder: MaskDecoder


def attach_decoder(teacher: PromptDecoder, student: Sam) -> Sam:
    """Give the student the teacher's prompt encoder and mask decoder, unchanged.

    And its proposal head and instance decoder, if it has them.
    """
    student.prompt_encoder.load_state_dict(teacher.prompt_encoder.state_dict())
    student.mask_decoder.load_state_dict(teacher.mask_decoder.state_dict())
    if isinstance(teacher, Sam) and teacher.proposal_head is not None:
        student.add_proposal_head(teacher.config.proposal_head)
        assert student.proposal_head is not None
        student.proposal_head.load_state_dict(teacher.proposal_head.state_dict())
    if isinstance(teacher, Sam) and teacher.instance_decoder is not None:
        student.set_instance_decoder(teacher.config.instance_decoder)
        assert student.instance_decoder is not None
        student.instance_decoder.load_state_dict(teacher.instance_decoder.state_dict())
    return student


def assemble_student(distiller: nn.Module, student: Sam, teacher: Sam, batches: Batches) -> Sam:
    """Make a whole model of a trained encoder, in eval mode.

    Args:
        distiller: the `Distiller` that `train` returned.
        student: gets its encoder, and the decoder that belongs to it.
        teacher: see `Distiller.decoder_for`.
        batches: the training data; BatchNorm is recalibrated on its first batches.
    """
    assert isinstance(distiller, Distiller)
    student.image_encoder.load_state_dict(distiller.image_encoder.state_dict())
    recalibrate_batch_norm(
        student, (batch for batch, _ in islice(batches({}), RECALIBRATION_BATCHES))
    )
    return attach_decoder(distiller.decoder_for(teacher), student)
