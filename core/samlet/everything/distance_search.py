"""Everything mode with micro-sam's instance decoder: by prompts from it, or by its objects."""

import numpy as np
import torch.nn.functional as F
from scipy import ndimage

from samlet.errors import UserError
from samlet.everything.candidates import Candidate, box_and_rle, box_nms
from samlet.everything.distance_maps import (
    DistanceThresholds,
    prompt_points,
    watershed_instances,
)
from samlet.everything.roi_generator import BOX_NMS_THRESH
from samlet.everything.search import MaskFilter
from samlet.everything.tiling import UNTILED_RATIO, overlap_of, place_tiles
from samlet.everything.working_scale import SearchPlan
from samlet.masks import Box, area, from_rle
from samlet.modeling.instance_decoder import BOUNDARY_DISTANCE, FOREGROUND
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor
from samlet.predict.roi import full_image_box
from samlet.predict.runner import Runner
from samlet.predict.window_decoder import decode_windows


def distance_maps_of(runner: Runner, embedding: ImageEmbedding) -> np.ndarray:
    """What the model's instance decoder predicts for the image of an embedding.

    Returns:
        float32, 3 x H x W of the image.
    """
    predicted = runner.engine.predict_distances(embedding.features.unsqueeze(0))
    height, width = embedding.input_size
    resized = F.interpolate(
        predicted[..., :height, :width],
        embedding.original_size,
        mode="bilinear",
        align_corners=False,
    )
    maps: np.ndarray = resized[0].cpu().numpy()
    return maps


class _DistanceSearch:
    """What both ways share.

    Args:
        predictor: of a model with an instance decoder.
        thresholds: of the distance maps.
        min_size: objects of fewer pixels are left out.

    Raises:
        UserError: the model has no instance decoder, or `min_size` is negative.
    """

    def __init__(self, predictor: Predictor, thresholds: DistanceThresholds, min_size: int) -> None:
        if predictor.model.instance_decoder is None:
            raise UserError(
                f"{predictor.model.name} has no instance decoder: choose other prompts, or one of "
                "micro-sam's models."
            )
        if min_size < 0:
            raise UserError(f"min_size must be at least 0, not {min_size}.")
        self.thresholds, self.min_size = thresholds, min_size

    def plan(
        self, predictor: Predictor, rgb: np.ndarray, tile: int | None, overlap: int | None
    ) -> SearchPlan:
        """See `RoiSearch`; as of points, the tiles do not depend on the objects' size."""
        size, side = (rgb.shape[0], rgb.shape[1]), predictor.model.config.image_size
        if max(size) <= (UNTILED_RATIO * side if tile is None else tile):
            return SearchPlan(predictor.runner, [full_image_box(size)])
        tile = tile or side
        overlap = overlap_of(tile, overlap)
        return SearchPlan(predictor.runner, place_tiles(size, tile, overlap), overlap)


class DistancePromptSearch(_DistanceSearch):
    """Outline each object from a point in its middle, see `RoiSearch`.

    micro-sam calls this automatic prompt generation (APG).

    Args:
        predictor: of a model with an instance decoder.
        mask_filter: which masks are found.
        thresholds: of the distance maps.
        min_size: masks of fewer pixels are left out.

    Raises:
        UserError: the model has no instance decoder, or `min_size` is negative.
    """

    def __init__(
        self,
        predictor: Predictor,
        mask_filter: MaskFilter,
        thresholds: DistanceThresholds,
        min_size: int,
    ) -> None:
        super().__init__(predictor, thresholds, min_size)
        self.mask_filter = mask_filter

    def find(self, runner: Runner, embedding: ImageEmbedding, roi: Box) -> list[Candidate]:
        """See `RoiSearch`."""
        points = prompt_points(distance_maps_of(runner, embedding), self.thresholds)
        in_input = runner.transform.apply_coords(points, embedding.original_size)
        upsampler, candidates = runner.upsampler(embedding), []
        for decoded in decode_windows(runner, embedding, in_input, None, self.mask_filter.min_iou):
            candidate = self.mask_filter.candidate(
                decoded.logits, upsampler, decoded.iou, points[decoded.prompt] + roi[:2], roi
            )
            if candidate is not None and area(from_rle(candidate.rle)) >= self.min_size:
                candidates.append(candidate)
        return box_nms(candidates, [c.predicted_iou for c in candidates], BOX_NMS_THRESH)


class WatershedSearch(_DistanceSearch):
    """Take the objects from the distance maps themselves, see `RoiSearch`.

    micro-sam calls this automatic instance segmentation (AIS). No object has a predicted IoU: in
    its place is the mean probability of its pixels to be foreground; its stability score is 1.

    Args:
        predictor: of a model with an instance decoder.
        thresholds: of the distance maps.
        distance_smoothing: see `watershed_instances`.
        min_size: objects of fewer pixels are left out.

    Raises:
        UserError: the model has no instance decoder, or a number is negative.
    """

    def __init__(
        self,
        predictor: Predictor,
        thresholds: DistanceThresholds,
        distance_smoothing: float,
        min_size: int,
    ) -> None:
        super().__init__(predictor, thresholds, min_size)
        if distance_smoothing < 0:
            raise UserError(f"distance_smoothing must be at least 0, not {distance_smoothing}.")
        self.distance_smoothing = distance_smoothing

    def find(self, runner: Runner, embedding: ImageEmbedding, roi: Box) -> list[Candidate]:
        """See `RoiSearch`."""
        maps = distance_maps_of(runner, embedding)
        labels = watershed_instances(maps, self.thresholds, self.distance_smoothing, self.min_size)
        found = []
        for number, place in enumerate(ndimage.find_objects(labels), start=1):
            mask = labels[place] == number
            rows, columns = place
            depth = np.where(mask, maps[BOUNDARY_DISTANCE][place], np.inf)
            row, column = np.unravel_index(depth.argmin(), depth.shape)
            left, top = roi[0] + columns.start, roi[1] + rows.start
            box, rle = box_and_rle(mask, left, top)
            point = [float(left + column), float(top + row)]
            foreground = float(maps[FOREGROUND][place][mask].mean())
            found.append(Candidate(box, rle, foreground, 1.0, point, roi))
        return found
