"""The second pass of everything mode: each mask again, in a region of interest around it.

The first pass, on the whole image, tells where objects are and how large. Its outlines of small
ones are coarse; see `samlet.predict.zoom`. There are fewer ROIs here than for clicks, as many
objects share them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from samlet.everything.candidates import Candidate
from samlet.everything.crops import is_cut_off
from samlet.everything.search import MaskFilter
from samlet.masks import Box, deepest_point, from_rle
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor
from samlet.predict.prompts import Prompts
from samlet.predict.roi import choose_roi

ROI_SCALE_STEP = 2.0
"""Factor between the sides of ROIs of neighbouring scales."""

ROI_GRID_DIVISIONS = 2
"""ROIs of one scale start at multiples of their side divided by this."""


def refine_candidates(
    predictor: Predictor,
    embedding: ImageEmbedding,
    candidates: Sequence[Candidate],
    mask_filter: MaskFilter,
    points_per_batch: int,
) -> Iterator[tuple[list[Candidate], float]]:
    """Predict each mask again from a click in its middle.

    Args:
        predictor: one that zooms.
        embedding: of the whole image, with the image.
        candidates: of the first pass.
        mask_filter: which masks pass.
        points_per_batch: points that are decoded at once.

    Yields:
        the candidates of each batch that passed, and the share of the work that is done.
    """
    assert predictor.zoom is not None
    size, input_size = embedding.original_size, predictor.model.config.image_size
    points_by_roi: dict[Box | None, list[np.ndarray]] = defaultdict(list)
    for candidate in candidates:
        x0, y0, x1, y1 = candidate.box
        point = np.add(deepest_point(from_rle(candidate.rle)), (x0, y0))
        box = (x0, y0, x1 + 1, y1 + 1)
        roi = choose_roi(box, point[None], size, input_size, ROI_SCALE_STEP, ROI_GRID_DIVISIONS)
        points_by_roi[roi].append(point)
    # Objects may all be in one ROI, and their logits together would not fit into memory.
    batches = [
        (roi, points[start : start + points_per_batch])
        for roi, points in points_by_roi.items()
        for start in range(0, len(points), points_per_batch)
    ]
    for done, (roi, points) in enumerate(batches, start=1):
        clicks = np.array(points, np.float32)[:, None]
        prompts = Prompts(clicks, np.ones(clicks.shape[:2], np.float32), None, None)
        predictions = predictor.zoom.predict_in(roi, embedding, prompts)
        refined = []
        for click, prediction in zip(points, predictions, strict=True):
            iou, best = prediction.iou_predictions.max(dim=0)
            if iou > mask_filter.min_iou:
                logits = prediction.logits[best].float().cpu().numpy()
                upsampler = prediction.runner.upsampler(prediction.embedding)
                passed = mask_filter.candidate(logits, upsampler, float(iou), click, prediction.roi)
                if passed is not None and not is_cut_off(
                    passed.box, prediction.roi, size, tolerance=1
                ):
                    refined.append(passed)
        yield refined, done / len(batches)
    if not batches:
        yield [], 1.0
