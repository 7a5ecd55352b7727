"""The search of everything mode: points are prompts, and the masks that pass become candidates."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import torch

from samlet.everything.candidates import Candidate, box_and_rle
from samlet.everything.crops import is_cut_off
from samlet.everything.point_prompts import coarse_to_fine, region_points
from samlet.masks import Box, from_rle
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.mask_upsampler import MaskUpsampler
from samlet.predict.runner import Runner


@dataclass(frozen=True)
class MaskFilter:
    """Which masks become candidates.

    Attributes:
        pred_iou_thresh: masks need a higher predicted IoU; 0 lets all pass.
        stability_score_thresh: masks must be at least as stable.
        stability_score_offset: how far the threshold moves up and down, in logits, to measure that.
        mask_threshold: the model's, a logit.
    """

    pred_iou_thresh: float
    stability_score_thresh: float
    stability_score_offset: float
    mask_threshold: float

    def relaxed(self, share: float) -> "MaskFilter":
        """The same with both thresholds at a share of theirs."""
        return replace(
            self,
            pred_iou_thresh=share * self.pred_iou_thresh,
            stability_score_thresh=share * self.stability_score_thresh,
        )

    @property
    def min_iou(self) -> float:
        """Predicted IoUs must be higher than this."""
        return self.pred_iou_thresh if self.pred_iou_thresh > 0 else -inf

    def candidate(
        self,
        logits: np.ndarray,
        upsampler: MaskUpsampler,
        iou: float,
        point: np.ndarray,
        crop: Box,
    ) -> Candidate | None:
        """Upsample a mask; None if it is empty or not stable.

        Args:
            logits: float32, S/4 x S/4, of the crop.
            upsampler: from these logits to the crop.
            iou: its predicted IoU, which is not compared here.
            point: (x, y) of its prompt in the image.
            crop: the box of the image that the logits are of.
        """
        threshold, offset = self.mask_threshold, self.stability_score_offset
        window, left, top = upsampler(logits, threshold - offset, order="F")
        mask = window > threshold
        if not mask.any():
            return None
        low, high = (np.count_nonzero(window > threshold + sign * offset) for sign in (-1, 1))
        # In float32, as the reference: a mask exactly at the threshold must not fall below it.
        stability = np.float32(high) / np.float32(low)
        if stability < np.float32(self.stability_score_thresh):
            return None
        box, rle = box_and_rle(mask, crop[0] + left, crop[1] + top)
        return Candidate(box, rle, iou, float(stability), point.tolist(), crop)


@dataclass(frozen=True)
class PointSearch:
    """Searches one crop after another with point prompts.

    Attributes:
        runner: encodes and decodes.
        mask_filter: which masks are found.
        covered_iou: with a higher predicted IoU than this, a mask covers later points.
        prompts: see `SamAutomaticMaskGenerator`.
        points_per_batch: points that are decoded at once.
    """

    runner: Runner
    mask_filter: MaskFilter
    covered_iou: float
    prompts: str
    points_per_batch: int

    def search(
        self,
        pixels: np.ndarray,
        embedding: ImageEmbedding,
        crop: Box,
        image_size: tuple[int, int],
        grid: np.ndarray,
    ) -> Iterator[tuple[list[Candidate], float]]:
        """Search a crop.

        Args:
            pixels: of the crop, RGB uint8.
            embedding: of the crop.
            crop: its box in the image.
            image_size: (H, W) of the image.
            grid: N x 2, (x, y) in 0..1 of the crop.

        Yields:
            the candidates of each batch of points, and the share of the work that is done.
        """
        size, upsampler = embedding.original_size, self.runner.upsampler(embedding)
        rounds = self._rounds(pixels, grid)
        covered, done, total = np.zeros(size, dtype=bool), 0, sum(map(len, rounds))
        for planned in rounds:
            points = planned * (size[1], size[0])
            columns, rows = points.astype(int).T
            points = points[~covered[rows.clip(0, size[0] - 1), columns.clip(0, size[1] - 1)]]
            done += len(planned) - len(points)
            if not len(points):
                yield [], done / total
            for start in range(0, len(points), self.points_per_batch):
                batch = points[start : start + self.points_per_batch]
                found = [
                    candidate
                    for logits, iou, prompt in decode_points(
                        self.runner, embedding, batch, self.mask_filter.min_iou
                    )
                    if (
                        candidate := self.mask_filter.candidate(
                            logits, upsampler, iou, batch[prompt] + crop[:2], crop
                        )
                    )
                    and not is_cut_off(candidate.box, crop, image_size)
                ]
                if len(rounds) > 1:
                    self._cover(covered, found, crop)
                done += len(batch)
                yield found, done / total

    def _rounds(self, pixels: np.ndarray, grid: np.ndarray) -> list[np.ndarray]:
        """The points of a crop, (x, y) in 0..1; earlier rounds may cover points of later ones."""
        if self.prompts == "regions":
            return [region_points(pixels)]
        if self.prompts == "hierarchical":
            return coarse_to_fine(round(len(grid) ** 0.5))
        return [grid]

    def _cover(self, covered: np.ndarray, found: list[Candidate], crop: Box) -> None:
        """Mark where no more points are needed: bool, H x W of the crop."""
        for candidate in found:
            if candidate.predicted_iou > self.covered_iou:
                x0, y0, x1, y1 = candidate.box
                window = (
                    slice(y0 - crop[1], y1 + 1 - crop[1]),
                    slice(x0 - crop[0], x1 + 1 - crop[0]),
                )
                covered[window] |= from_rle(candidate.rle)


def decode_points(
    runner: Runner, embedding: ImageEmbedding, points: np.ndarray, min_iou: float
) -> Iterator[tuple[np.ndarray, float, int]]:
    """Predict three masks for each point.

    The IoU is known before the mask is computed, so most masks never are.

    Args:
        runner: encodes and decodes.
        embedding: of an image.
        points: N x 2, (x, y) in pixels of that image.
        min_iou: masks need a higher predicted IoU.

    Yields:
        logits (float32, S/4 x S/4), predicted IoU and index of the point of each mask that passes.
    """
    engine, transform = runner.engine, runner.transform
    coords = torch.from_numpy(transform.apply_coords(points, embedding.original_size)).float()
    coords = coords.unsqueeze(1).to(engine.device)
    labels = torch.ones(len(points), 1, dtype=torch.int, device=engine.device)
    first = 0
    for batch in engine.run_prompts(runner.decoder_state(embedding), (coords, labels)):
        ious = batch.iou_predictions[:, 1:]
        passes = ious > min_iou
        any_passes = passes.any(dim=1)
        if any_passes.any():
            logits = engine.upscale(batch.tokens[any_passes], batch.kernels[any_passes, 1:])
            masks = logits[passes[any_passes]].float().cpu().numpy()
            prompts = (passes.nonzero()[:, 0] + first).tolist()
            yield from zip(masks, ious[passes].tolist(), prompts, strict=True)
        first += len(ious)
