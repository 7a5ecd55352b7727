"""Everything mode's second look: each mask again, from a part of the image that shows it large.

The first look, at the whole image, tells where objects are and how large. What it draws of small
ones is coarse; see `samlet.predict.zoom`.
Views are fewer here than for clicks, as many objects share them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from samlet.everything.candidates import Candidate
from samlet.everything.crops import is_cut_off
from samlet.masks import Box, deepest_point, from_rle
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.mask_upsampler import MaskUpsampler
from samlet.predict.predictor import Predictor
from samlet.predict.prompts import Prompts
from samlet.predict.roi import view_around

STEP = 2.0
"""Views differ in size by this factor."""

PLACES = 2
"""Views of one size lie on a grid of so many places a side."""

Examine = Callable[[np.ndarray, MaskUpsampler, float, np.ndarray, Box], Candidate | None]


def look_closer(
    predictor: Predictor,
    embedding: ImageEmbedding,
    candidates: Sequence[Candidate],
    least_iou: float,
    examine: Examine,
) -> Iterator[tuple[list[Candidate], float]]:
    """Click once more on the middle of each mask.

    Args:
        predictor: one that zooms in.
        embedding: of the whole image, with its pixels.
        candidates: what was seen at the first look.
        least_iou: masks must have a higher predicted IoU.
        examine: makes a new candidate of low-resolution logits, what enlarges them, their predicted
            IoU, the point (x, y) and the view; None if it does not pass.

    Yields:
        what has passed, and the share of the work that is done, view by view.
    """
    assert predictor.zoom is not None
    size, input_size = embedding.original_size, predictor.model.config.image_size
    together: dict[Box | None, list[np.ndarray]] = defaultdict(list)
    for candidate in candidates:
        x0, y0, x1, y1 = candidate.box
        point = np.add(deepest_point(from_rle(candidate.rle)), (x0, y0))
        box = (x0, y0, x1 + 1, y1 + 1)
        view = view_around(box, point[None], size, input_size, STEP, PLACES)
        together[view].append(point)
    for done, (view, points) in enumerate(together.items(), start=1):
        clicks = np.array(points, np.float32)[:, None]
        prompts = Prompts(clicks, np.ones(clicks.shape[:2], np.float32), None, None)
        found = []
        for point, look in zip(
            points, predictor.zoom.look_from(view, predictor, embedding, prompts), strict=True
        ):
            iou, best = look.iou_predictions.max(dim=0)
            if iou > least_iou:
                logits = look.logits[best].float().cpu().numpy()
                enlarger = look.predictor.enlarger(look.embedding)
                closer = examine(logits, enlarger, float(iou), point, look.view)
                if closer is not None and not is_cut_off(closer.box, look.view, size, tolerance=1):
                    found.append(closer)
        yield found, done / len(together)
    if not together:
        yield [], 1.0
