"""Coupled and semi-coupled distillation: the student learns to give the teacher's masks.

Source: MobileSAM, arXiv 2306.14289, section 3.2 and figure 2. Both are here for comparison, as in
the paper; decoupled distillation works better.
"""

import copy

import torch
from torch import Tensor, nn

from samlet.modeling.prompt_encoder import PromptEncoder
from samlet.modeling.sam import Sam
from samlet.training.distillation.batches import DistillBatch
from samlet.training.distillation.decoupled import Distiller, PromptDecoder, TeacherEmbedFn
from samlet.training.losses import mask_loss


class MaskDistiller(Distiller):
    """Learns from the masks that the teacher's decoder makes of random clicks.

    All four masks of a click (the single one and the three candidates) are compared, each with the
    teacher's of the same number, so that neither has to be chosen.

    Args:
        student: its image encoder is trained.
        teacher: its prompt encoder and mask decoder are copied, and frozen.
        coupled: a second copy of the teacher's decoder is trained with the encoder (coupled); or
            the frozen one is used for the student, too (semi-coupled).
        clicks: number per image.
        teacher_embed: as in `Distiller`.
    """

    def __init__(
        self,
        student: Sam,
        teacher: Sam,
        coupled: bool,
        clicks: int = 4,
        teacher_embed: TeacherEmbedFn | None = None,
    ) -> None:
        super().__init__(student, teacher_embed)
        self.clicks = clicks
        self.teacher_decoder = _Decoder(teacher).requires_grad_(False)
        self.decoder = self.teacher_decoder
        if coupled:
            self.decoder = _Decoder(teacher)
            # Clicks alone leave most of the prompt encoder, and the IoU head, without a gradient.
            self.decoder.prompt_encoder.requires_grad_(False)
            self.decoder.mask_decoder.iou_prediction_head.requires_grad_(False)

    def forward(self, batch: DistillBatch) -> dict[str, Tensor]:
        """The loss of a batch; where the clicks are comes from torch's global generator."""
        student, teacher = self.embeddings(batch)
        points = random_points_on_images(batch.valid, self.clicks).to(student.device)
        with torch.no_grad():
            target = (self.teacher_decoder(teacher.to(student.dtype), points) > 0).float()
        logits = self.decoder(student, points).float()
        # Padding is neither mask nor background.
        step = batch.valid.shape[-1] // logits.shape[-1]
        valid = batch.valid[:, None, ::step, ::step].repeat_interleave(self.clicks, dim=0)
        logits = logits.masked_fill(~valid, -30.0)
        losses = mask_loss(
            logits.flatten(0, 1).unsqueeze(1), (target * valid).flatten(0, 1)[:, None]
        )
        return {"mask": losses.mean()}

    def decoder_for(self, teacher: Sam) -> PromptDecoder:
        """The decoder that was used with the encoder, and trained with it if coupled."""
        return self.decoder


class _Decoder(nn.Module):
    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.prompt_encoder: PromptEncoder = copy.deepcopy(model.prompt_encoder)
        self.mask_decoder = copy.deepcopy(model.mask_decoder)

    def forward(self, embeddings: Tensor, points: Tensor) -> Tensor:
        """Embeddings (B x C x h x w) and clicks (BK x 1 x 2) to logits, BK x 4 x 4h x 4w."""
        labels = torch.ones(points.shape[:2], device=points.device)
        sparse, dense = self.prompt_encoder((points, labels), None, None)
        # A crop lies at the upper left of the model's input.
        h, w = embeddings.shape[-2:]
        image_pe = self.prompt_encoder.get_dense_pe()[..., :h, :w]
        logits, _ = self.mask_decoder.predict_masks(
            embeddings, image_pe, sparse, dense[..., :h, :w]
        )
        return logits


def random_points_on_images(valid: Tensor, count: int) -> Tensor:
    """Points that lie on the images, evenly at random.

    Args:
        valid: bool, B x S x S; True in a rectangle at the upper left.
        count: points an image.

    Returns:
        float, B * count x 1 x 2: (x, y) in pixels of the model's input, on the CPU.
    """
    heights, widths = valid[:, :, 0].sum(1), valid[:, 0].sum(1)
    sizes = torch.stack([widths, heights], dim=1).cpu().float()
    points = torch.rand(len(valid), count, 2) * sizes.unsqueeze(1)
    return points.flatten(0, 1).unsqueeze(1)
