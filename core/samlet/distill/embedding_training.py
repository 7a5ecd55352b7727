"""Decoupled distillation: the student's encoder learns to give the teacher's embedding.

Source: MobileSAM, arXiv 2306.14289, section 3.2.
"""

import torch
from torch import Tensor, nn

from samlet.distill.data import Batch
from samlet.distill.losses import embedding_loss
from samlet.distill.precision import half_precision
from samlet.modeling.sam import Sam


def embedding_losses(
    student: nn.Module, student_model: Sam, teacher: Sam, batch: Batch
) -> dict[str, Tensor]:
    """Mean squared error between the embeddings of one batch.

    Args:
        student: the image encoder that learns.
        student_model: the model that it belongs to, for its normalisation.
        teacher: frozen, in eval mode.
        batch: crops.
    """
    with torch.no_grad():
        target = teacher.image_encoder(_normalised(teacher, batch))
    with half_precision(batch.images.device.type):
        embedding = student(_normalised(student_model, batch))
    return {"embedding": embedding_loss(embedding, target, batch.valid)}


def _normalised(model: Sam, batch: Batch) -> Tensor:
    pixels = (batch.images - model.pixel_mean) / model.pixel_std * batch.valid.unsqueeze(1)
    return pixels.contiguous(memory_format=torch.channels_last)


def plug_in(teacher: Sam, student: Sam) -> Sam:
    """Plug the teacher's prompt encoder and mask decoder, unchanged, onto the student."""
    student.prompt_encoder.load_state_dict(teacher.prompt_encoder.state_dict())
    student.mask_decoder.load_state_dict(teacher.mask_decoder.state_dict())
    return student
