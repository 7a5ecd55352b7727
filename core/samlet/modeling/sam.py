"""The whole model: image encoder, prompt encoder and mask decoder, built from a configuration.

Source: Segment Anything, arXiv 2304.02643, section 3 and appendix A.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samlet.modeling.efficientnet import EfficientNetEncoder
from samlet.modeling.efficientvit import EfficientViT, EfficientViTConfig
from samlet.modeling.instance_decoder import InstanceDecoder, InstanceDecoderConfig
from samlet.modeling.mask_decoder import MaskDecoder
from samlet.modeling.object_head import ObjectHead
from samlet.modeling.official_names import use_official_names
from samlet.modeling.prompt_encoder import PromptEncoder
from samlet.modeling.proposal_head import ProposalHead, ProposalHeadConfig
from samlet.modeling.repvit import RepViT, RepViTConfig
from samlet.modeling.sam_vit import SamViTConfig
from samlet.modeling.tiny_vit import STRIDE, TINY_VITS, TinyViT, TinyViTConfig
from samlet.modeling.transformer import TwoWayTransformer

EMBED_DIM = 256

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class SamConfig:
    """Everything needed to build a model, apart from its weights.

    Args:
        image_encoder: "tiny_vit", "sam_vit" for SAM's own, "repvit" for that of RepViT-SAM or
            EdgeSAM, "efficientvit" for that of EfficientViT-SAM, or "efficientnet_lite0" for the
            light teacher.
        image_size: side in pixels of the square that prompts and masks refer to, and of the
            encoder's input, unless that is smaller (see `encoder_size`); a multiple of 32.
        tiny_vit: configuration of the TinyViT; None for another encoder.
        sam_vit: configuration of SAM's own encoder; None for another.
        repvit: configuration of the RepViT; None for another.
        efficientvit: configuration of the EfficientViT; None for another.
        pixel_mean: RGB means that are subtracted, in units of 0..255.
        pixel_std: RGB standard deviations to divide by, in units of 0..255.
        proposal_head: configuration of the head that finds objects; None without one, as in
            official checkpoints.
        instance_decoder: configuration of micro-sam's decoder for distance maps; None without one.
    """

    image_encoder: str = "tiny_vit"
    image_size: int = 1024
    tiny_vit: TinyViTConfig | None = TINY_VITS["tiny_vit_5m"]
    sam_vit: SamViTConfig | None = None
    repvit: RepViTConfig | None = None
    efficientvit: EfficientViTConfig | None = None
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    proposal_head: ProposalHeadConfig | None = None
    instance_decoder: InstanceDecoderConfig | None = None

    @property
    def has_official_names(self) -> bool:
        """Whether others publish models with this image encoder, and so named its parameters."""
        parts = (self.tiny_vit, self.sam_vit, self.repvit, self.efficientvit)
        return any(part is not None for part in parts)

    @property
    def encoder_size(self) -> int:
        """Side in pixels of the encoder's square input."""
        return self.image_size // (self.efficientvit.reduction if self.efficientvit else 1)

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON can hold, which older versions of samlet can read if they can.

        So what came later, and is not there, is not mentioned.
        """
        later = ("proposal_head", "instance_decoder", "repvit", "efficientvit")
        return {k: v for k, v in asdict(self).items() if k not in later or v is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SamConfig":
        """The inverse of `to_dict`; tuples may have become lists, as in JSON."""
        values = _with_tuples(values)
        for name, part_config in (
            ("tiny_vit", TinyViTConfig),
            ("sam_vit", SamViTConfig),
            ("repvit", RepViTConfig),
            ("efficientvit", EfficientViTConfig),
            ("proposal_head", ProposalHeadConfig),
            ("instance_decoder", InstanceDecoderConfig),
        ):
            if values.get(name) is not None:
                values[name] = part_config(**_with_tuples(values[name]))
        return cls(**values)


class Sam(nn.Module):
    """Segment Anything's three parts around one image encoder.

    `state_dict` and `load_state_dict` use the official packages' names, see
    `samlet.modeling.official_names`; `named_parameters` uses those of samlet's modules.

    Attributes:
        config: what it was built from.
        proposal_head: finds the objects of an image; None without one.
        instance_decoder: predicts distance maps of an image's objects; None without one.
        name: the name or path that it was loaded by.
        card: its model card.
        mask_threshold: logits above it are mask.
    """

    mask_threshold = 0.0
    image_format = "RGB"
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.config = config
        self.name = "untrained"
        self.card: dict[str, Any] = {}
        grid = config.image_size // STRIDE
        self.image_encoder = _build_image_encoder(config)
        # Scripts for segment_anything read the input size here.
        setattr(self.image_encoder, "img_size", config.image_size)  # noqa: B010
        self.prompt_encoder = PromptEncoder(
            EMBED_DIM, (grid, grid), (config.image_size, config.image_size)
        )
        self.mask_decoder = MaskDecoder(
            TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, num_heads=8, mlp_dim=2048),
            transformer_dim=EMBED_DIM,
        )
        self.proposal_head = (
            None if config.proposal_head is None else ProposalHead(config.proposal_head, EMBED_DIM)
        )
        for name, values in (("pixel_mean", config.pixel_mean), ("pixel_std", config.pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.set_instance_decoder(config.instance_decoder)
        if config.has_official_names:
            vit = config.tiny_vit
            use_official_names(self, None if vit is None else vit.embed_dims[-1])

    def add_proposal_head(self, config: ProposalHeadConfig | None = None) -> None:
        """Add an untrained proposal head, unless there is one.

        Args:
            config: of the head; None for the standard one.
        """
        if self.proposal_head is None:
            config = config or ProposalHeadConfig()
            self.config = replace(self.config, proposal_head=config)
            self.proposal_head = ProposalHead(config, EMBED_DIM).to(self.device)

    def set_instance_decoder(self, config: InstanceDecoderConfig | None) -> None:
        """Have an untrained instance decoder, or none, in place of what there is.

        Args:
            config: of the decoder; None for none.
        """
        self.config = replace(self.config, instance_decoder=config)
        self.instance_decoder = (
            None if config is None else InstanceDecoder(config, EMBED_DIM).to(self.device)
        )

    @property
    def object_heads(self) -> dict[str, ObjectHead]:
        """What it has to find all objects of an image, by the names of its attributes."""
        heads = {"proposal_head": self.proposal_head, "instance_decoder": self.instance_decoder}
        return {name: head for name, head in heads.items() if head is not None}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.pixel_mean.device

    def preprocess(self, x: Tensor) -> Tensor:
        """Normalise and pad to the square input.

        Args:
            x: RGB in 0..255, (B x) 3 x h x w, with the longest side already at `image_size` or at
                `config.encoder_size`. Where these differ, the latter is what the publisher does.

        Returns:
            float, (B x) 3 x encoder_size x encoder_size; the image lies at the upper left, and the
            padding is zero, which is the mean colour.
        """
        size, longest = self.config.encoder_size, max(x.shape[-2:])
        x = (x - self.pixel_mean) / self.pixel_std
        if longest > size:
            reduced = [int(side * size / longest + 0.5) for side in x.shape[-2:]]
            x = reduce_images(x.reshape(-1, *x.shape[-3:]), reduced).reshape(
                *x.shape[:-2], *reduced
            )
        return F.pad(x, (0, size - x.shape[-1], 0, size - x.shape[-2]))

    def postprocess_masks(
        self, masks: Tensor, input_size: tuple[int, ...], original_size: tuple[int, ...]
    ) -> Tensor:
        """Resize logits to the original image.

        Args:
            masks: low-resolution logits, B x C x image_size/4 x image_size/4.
            input_size: (h, w) of the resized image, before padding.
            original_size: (H, W) of the original image.

        Returns:
            logits, B x C x H x W.
        """
        size = self.config.image_size
        masks = F.interpolate(masks, (size, size), mode="bilinear", align_corners=False)
        masks = masks[..., : input_size[0], : input_size[1]]
        return F.interpolate(masks, original_size, mode="bilinear", align_corners=False)

    @torch.no_grad()
    def forward(
        self, batched_input: list[dict[str, Any]], multimask_output: bool
    ) -> list[dict[str, Tensor]]:
        """From images and prompts to masks, with the signature of `segment_anything`'s `Sam`.

        Args:
            batched_input: one dictionary per image: `image` (3 x h x w in 0..255, longest side at
                `image_size`), `original_size` (H, W), and any of `point_coords` (B x N x 2) with
                `point_labels` (B x N), `boxes` (B x 4) and `mask_inputs` (B x 1 x h x w), in
                pixels of the resized image.
            multimask_output: three masks per prompt, or one.

        Returns:
            one dictionary per image: `masks` (bool, B x C x H x W), `iou_predictions` (B x C) and
            `low_res_logits` (B x C x image_size/4 x image_size/4).
        """
        images = torch.stack([self.preprocess(record["image"]) for record in batched_input])
        embeddings = self.image_encoder(images)
        outputs = []
        for record, embedding in zip(batched_input, embeddings, strict=True):
            points = None
            if "point_coords" in record:
                points = (record["point_coords"], record["point_labels"])
            low_res_masks, iou_predictions = self.decode(
                embedding.unsqueeze(0),
                points,
                record.get("boxes"),
                record.get("mask_inputs"),
                multimask_output,
            )
            logits = self.postprocess_masks(
                low_res_masks, record["image"].shape[-2:], record["original_size"]
            )
            outputs.append(
                {
                    "masks": logits > self.mask_threshold,
                    "iou_predictions": iou_predictions,
                    "low_res_logits": low_res_masks,
                }
            )
        return outputs

    def decode(
        self,
        image_embeddings: Tensor,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        mask_inputs: Tensor | None,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Prompts to low-resolution masks; see `PromptEncoder` and `MaskDecoder` for the shapes."""
        sparse, dense = self.prompt_encoder(points, boxes, mask_inputs)
        low_res_masks, iou_predictions = self.mask_decoder(
            image_embeddings, self.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output
        )
        return low_res_masks, iou_predictions


def reduce_images(images: Tensor, size: list[int]) -> Tensor:
    """Make images smaller (bilinear, antialiased), as an encoder with a smaller input sees them.

    Args:
        images: float, B x 3 x H x W.
        size: the new height and width.
    """
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _build_image_encoder(config: SamConfig) -> nn.Module:
    if config.image_encoder == "tiny_vit" and config.tiny_vit is not None:
        return TinyViT(config.tiny_vit, EMBED_DIM)
    if config.image_encoder == "sam_vit" and config.sam_vit is not None:
        # Slow to import, and not needed for other encoders.
        from samlet.modeling.sam_vit_encoder import SamViT

        return SamViT(config.sam_vit, config.image_size, EMBED_DIM)
    if config.image_encoder == "repvit" and config.repvit is not None:
        return RepViT(config.repvit, EMBED_DIM)
    if config.image_encoder == "efficientvit" and config.efficientvit is not None:
        return EfficientViT(config.efficientvit, EMBED_DIM)
    if config.image_encoder == "efficientnet_lite0":
        return EfficientNetEncoder(EMBED_DIM)
    raise ValueError(f"Unknown image encoder {config.image_encoder!r}.")
