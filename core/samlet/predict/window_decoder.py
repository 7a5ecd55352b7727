"""Decoding many prompts on one image, each in a window of its embedding around the object.

A prompt costs as much as there are image tokens, and those far from a small object say nothing
about it. In a window of 16 x 16 of them a prompt takes about a sixteenth of the time that it takes
in the 64 x 64 of a whole image. The models that samlet trains learn from such windows
(`samlet.training.finetuning.decoder_crops`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samlet.modeling.tiny_vit import STRIDE
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.roi import BACKGROUND_LOGIT
from samlet.predict.runner import Runner


@dataclass(frozen=True)
class DecodedMask:
    """The mask of one prompt.

    Attributes:
        prompt: number of the prompt.
        logits: float32, S/4 x S/4 of the embedding's whole input; `BACKGROUND_LOGIT` outside the
            window.
        iou: its predicted IoU.
        is_cut: whether it reaches a side of the window within the image.
    """

    prompt: int
    logits: np.ndarray
    iou: float
    is_cut: bool


def decode_windows(
    runner: Runner,
    embedding: ImageEmbedding,
    points: np.ndarray,
    boxes: np.ndarray | None,
    min_iou: float,
) -> Iterator[DecodedMask]:
    """Predict one mask for each prompt, a point together with a box or by itself.

    Args:
        runner: of the same model for an input of the window's size, see `smaller_input_model`; if
            that is the embedding's own, the whole embedding is the window.
        embedding: of an image.
        points: N x 2, (x, y) in pixels of the model's input.
        boxes: N x 4, x0, y0, x1, y1 in the same; each window lies around a box, or else around
            its point.
        min_iou: masks with a lower predicted IoU are not computed.

    Yields:
        the masks with a predicted IoU of at least `min_iou`.
    """
    engine, side = runner.engine, runner.engine.grid[0]
    grid, threshold = embedding.features.shape[-1], runner.model.mask_threshold
    centres = points if boxes is None else (boxes[:, :2] + boxes[:, 2:]) / 2
    corners = (centres / STRIDE - side / 2).round().astype(int).clip(0, grid - side)
    shifts = corners * STRIDE
    for start in range(0, len(points), engine.batch_size):
        rows = slice(start, start + engine.batch_size)
        coords = _tensor((points - shifts)[rows, None], engine.device)
        labels = torch.ones(coords.shape[:2], device=engine.device)
        moved = None
        if boxes is not None:
            moved = _tensor((boxes - np.tile(shifts, 2))[rows], engine.device)
        if side == grid:
            state = runner.decoder_state(embedding)
        else:
            windows = [embedding.features[:, y : y + side, x : x + side] for x, y in corners[rows]]
            state = engine.prepare(torch.stack(windows))
        for tokens in engine.run_prompts(state, (coords, labels), moved):
            ious = tokens.iou_predictions[:, 0]
            passes = ious >= min_iou
            if not passes.any():
                continue
            upscaled = engine.upscale(tokens.tokens[passes], tokens.kernels[passes, :1])
            numbers = passes.nonzero()[:, 0].tolist()
            masks = upscaled[:, 0].float().cpu().numpy()
            for number, mask, iou in zip(numbers, masks, ious[passes].tolist(), strict=True):
                corner = corners[start + number]
                placed = np.full((4 * grid, 4 * grid), BACKGROUND_LOGIT, np.float32)
                x, y = 4 * corner
                placed[y : y + 4 * side, x : x + 4 * side] = mask
                is_cut = _reaches_inner_side(mask > threshold, corner, side, grid)
                yield DecodedMask(start + number, placed, iou, is_cut)


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)


def _reaches_inner_side(mask: np.ndarray, corner: np.ndarray, side: int, grid: int) -> bool:
    x, y = corner
    sides = (
        (x > 0, mask[:, 0]),
        (y > 0, mask[0]),
        (x + side < grid, mask[:, -1]),
        (y + side < grid, mask[-1]),
    )
    return any(is_inner and bool(cells.any()) for is_inner, cells in sides)
