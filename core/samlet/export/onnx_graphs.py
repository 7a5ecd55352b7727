"""The graphs that are exported: an image encoder, a decoder with SAM's ONNX interface, and what
finds all objects of an image.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, DeduplicateInitializersPass
from torch import Tensor, nn

from samlet.engines.decoder import ImageBranch, PromptBranch, Upscaling
from samlet.errors import UserError
from samlet.modeling.prompt_encoder import PADDING
from samlet.modeling.sam import EMBED_DIM, Sam
from samlet.modeling.tiny_vit import STRIDE

OPSET = 18

OBJECT_OUTPUTS = {"proposal_head": "proposals", "instance_decoder": "distance_maps"}
"""The outputs of the graphs of `Sam.object_heads`, by their names."""

Shape = tuple[int | str, ...]
"""Shape of a tensor; a name in place of a number is a dynamic dimension."""


@dataclass(frozen=True)
class Graph:
    """A module to export, with its inputs and outputs.

    Attributes:
        module: the module, in eval mode, on the CPU; its inputs and outputs are float32.
        inputs: their names and shapes, in the order of the module's arguments.
        outputs: theirs.
    """

    module: nn.Module
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


def encoder_graph(model: Sam) -> Graph:
    """From a normalised and padded image to its embedding; the model is not changed."""
    size, grid = model.config.encoder_size, model.config.image_size // STRIDE
    encoder = copy.deepcopy(model.image_encoder).cpu().eval()
    for module in encoder.modules():
        if hasattr(module, "fused_attn"):
            # Runtimes fuse attention themselves; torch's operator is exported as many small ones.
            module.fused_attn = False  # type: ignore[assignment]
    return Graph(
        encoder, {"image": (1, 3, size, size)}, {"image_embeddings": (1, EMBED_DIM, grid, grid)}
    )


def decoder_graph(model: Sam) -> Graph:
    """From an embedding and prompts to masks: see `Decoder`."""
    grid = model.config.image_size // STRIDE
    return Graph(
        Decoder(copy.deepcopy(model).cpu()).eval(),
        {
            "image_embeddings": (1, EMBED_DIM, grid, grid),
            "point_coords": ("prompts", "points", 2),
            "point_labels": ("prompts", "points"),
            "mask_input": (1, 1, 4 * grid, 4 * grid),
            "has_mask_input": (1,),
            "orig_im_size": (2,),
        },
        {
            "masks": ("prompts", 4, "height", "width"),
            "iou_predictions": ("prompts", 4),
            "low_res_masks": ("prompts", 4, 4 * grid, 4 * grid),
        },
    )


def object_head_graph(model: Sam, name: str) -> Graph:
    """From an embedding to what one of the model's `object_heads` predicts."""
    head, grid = model.object_heads[name], model.config.image_size // STRIDE
    side = grid * STRIDE // head.cell
    return Graph(
        copy.deepcopy(head).cpu().eval(),
        {"image_embeddings": (1, EMBED_DIM, grid, grid)},
        {OBJECT_OUTPUTS[name]: (1, head.channels, side, side)},
    )


class Decoder(nn.Module):
    """Prompt encoder, mask decoder and resizing, with the interface of SAM's official ONNX export.

    Args:
        model: whose decoder it is.
    """

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model
        self.image_branch, self.prompt_branch = ImageBranch(model), PromptBranch(model)
        self.upscaling = Upscaling(model)

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict masks for B prompts on one image.

        Args:
            image_embeddings: 1 x C x h x w.
            point_coords: B x N x 2, (x, y) in pixels of the resized image.
            point_labels: B x N: 1 on the object, 0 beside it, 2 and 3 a box's upper left and lower
                right corner, -1 no point. Without a box, SAM expects one point with
                this label besides the others.
            mask_input: logits, 1 x 1 x 4h x 4w; the same for all prompts.
            has_mask_input: 1; 0 for "there is none", whatever `mask_input` holds.
            orig_im_size: 2, the original image's height and width.

        Returns:
            masks (logits, B x 4 x height x width), iou_predictions (B x 4) and low_res_masks
            (logits, B x 4 x 4h x 4w); the single mask comes first, then the three candidates.
        """
        encoder = self.model.prompt_encoder
        no_mask = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        given = has_mask_input.view(1, 1, 1, 1) > 0
        dense = torch.where(given, encoder.mask_downscaling(mask_input), no_mask)
        shared = self.image_branch(image_embeddings, dense)
        tokens, kernels, iou_predictions = self.prompt_branch(
            self._tokens(point_coords, point_labels), *shared
        )
        low_res_masks = self.upscaling(tokens, kernels)
        return self._resize(low_res_masks, orig_im_size), iou_predictions, low_res_masks

    def _tokens(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Points to tokens, B x N x C; here a box is two points, too."""
        encoder = self.model.prompt_encoder
        places = encoder.pe_layer.encode((coords + 0.5) / self.model.config.image_size)
        places = torch.where(labels.unsqueeze(-1) == PADDING, 0.0, places)
        # Row i is the label i - 1.
        kinds = (encoder.not_a_point_embed, *encoder.point_embeddings)
        return places + torch.cat([kind.weight for kind in kinds])[labels.long() + 1]

    def _resize(self, masks: Tensor, original_size: Tensor) -> Tensor:
        """`Sam.postprocess_masks`, for a size that is only known when the graph runs."""
        size = self.model.config.image_size
        resized = torch.floor(size / original_size.max() * original_size + 0.5).clamp(min=1)
        input_size, output_size = (
            tuple(sides.long().tolist()) for sides in (resized, original_size)
        )
        # The exporter needs these bounds to prove that the sizes fit.
        for side in input_size:
            torch._check(side >= 1)
            torch._check(side <= size)
        for side in output_size:
            torch._check(side >= 1)
        return self.model.postprocess_masks(masks, input_size, output_size)


@torch.no_grad()
def write_onnx(graph: Graph, path: Path) -> None:
    """Write a graph as ONNX; weights beyond 2 GB, which one file cannot hold, go to a second file.

    Raises:
        UserError: PyTorch cannot express it in ONNX.
        OSError: the file cannot be written.
    """
    shapes = graph.inputs.values()
    words = {side for shape in shapes for side in shape if isinstance(side, str)}
    free = {word: torch.export.Dim(word, min=1) for word in words}
    # 0 and 1 would be taken as fixed.
    examples = [torch.ones([3 if isinstance(side, str) else side for side in s]) for s in shapes]
    dynamic = [{i: free[side] for i, side in enumerate(s) if isinstance(side, str)} for s in shapes]
    with warnings.catch_warnings():
        # About timm's cache of attention biases, which a copy may lose, and about a dimension name
        # that two inputs share.
        warnings.simplefilter("ignore", UserWarning)
        try:
            program = torch.onnx.export(
                graph.module,
                tuple(examples),
                dynamo=True,
                dynamic_shapes=dynamic,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            name = type(graph.module).__name__
            raise UserError(
                f"{name} cannot be exported: PyTorch {torch.__version__} cannot express it in "
                "ONNX; use a model with another encoder, or another version of PyTorch."
            ) from error
    assert program is not None
    # Removes Python's call stacks, with the paths of this machine.
    ClearMetadataAndDocStringPass()(program.model)
    # Several layers have the same table of positions; the largest is of 64 x 64 tokens.
    DeduplicateInitializersPass(size_limit=64 * 64 * EMBED_DIM)(program.model)
    for output, shape in zip(program.model.graph.outputs, graph.outputs.values(), strict=True):
        output.shape = onnx_ir.Shape(shape)
    program.save(path)
