"""Everything mode with a model's proposal head: it finds the objects, and prompts outline them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from samlet.errors import UserError
from samlet.everything.candidates import Candidate, box_nms
from samlet.everything.proposals import Proposals
from samlet.everything.roi_generator import BOX_NMS_THRESH
from samlet.everything.search import MaskFilter
from samlet.everything.working_scale import SearchPlan, plan_search, proposals_of
from samlet.masks import Box
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor
from samlet.predict.runner import Runner
from samlet.predict.window_decoder import DecodedMask, decode_windows
from samlet.predict.zoom import has_free_size

WINDOW_SIZE = 256
"""Side of the window in which an object is decoded, in pixels of the model's input."""

WINDOW_RATIO = 1.7
"""The window's side is this multiple of an object's longer side, or the whole ROI is decoded."""

MIN_COMPLETENESS = 0.3
"""Proposals with less of it are left out, see `Proposals`."""


class ProposalSearch:
    """Find objects by a model's own proposals, see `RoiSearch`.

    The proposal head finds objects and how large they are; from that the working scale is chosen,
    and where the image at that scale is larger than the model's input, it is searched in
    overlapping ROIs. In each, the head finds objects once more, and each is outlined from a point
    and a box.

    Args:
        predictor: of a model with a proposal head.
        mask_filter: which masks are found.

    Raises:
        UserError: the model has no proposal head.
    """

    def __init__(self, predictor: Predictor, mask_filter: MaskFilter) -> None:
        if predictor.model.proposal_head is None:
            raise UserError(
                f"{predictor.model.name} has no proposal head: choose other prompts, or finetune "
                "it with samlet finetune, which trains one."
            )
        self.predictor, self.mask_filter = predictor, mask_filter

    def plan(
        self, predictor: Predictor, rgb: np.ndarray, tile: int | None, overlap: int | None
    ) -> SearchPlan:
        """See `RoiSearch`."""
        return plan_search(predictor, rgb, tile, overlap)

    def find(self, runner: Runner, embedding: ImageEmbedding, roi: Box) -> list[Candidate]:
        """See `RoiSearch`."""
        proposals = proposals_of(runner, embedding)
        proposals = proposals[proposals.completeness >= MIN_COMPLETENESS]
        upsampler = runner.upsampler(embedding)
        (height, width), (h, w) = embedding.original_size, embedding.input_size
        to_image = np.array([width / w, height / h])
        candidates = []
        for decoded in self._decode(runner, embedding, proposals):
            point = proposals.points[decoded.prompt] * to_image + roi[:2]
            candidate = self.mask_filter.candidate(
                decoded.logits, upsampler, decoded.iou, point, roi
            )
            if candidate is not None:
                candidates.append(candidate)
        return box_nms(candidates, [c.predicted_iou for c in candidates], BOX_NMS_THRESH)

    def _decode(
        self, runner: Runner, embedding: ImageEmbedding, proposals: Proposals
    ) -> Iterator[DecodedMask]:
        """Small objects in windows, and the others, and those that do not fit, in the whole ROI."""
        input_size = runner.model.config.image_size
        is_large = np.ones(len(proposals), dtype=bool)
        if input_size > WINDOW_SIZE and has_free_size(runner.model):
            sides = (proposals.boxes[:, 2:] - proposals.boxes[:, :2]).max(axis=1, initial=0)
            is_large = sides * WINDOW_RATIO > WINDOW_SIZE
            window = self.predictor.runner_at(WINDOW_SIZE)
            small = np.flatnonzero(~is_large)
            for decoded in self._decode_in(window, embedding, proposals, small):
                if decoded.is_cut:
                    is_large[decoded.prompt] = True
                else:
                    yield decoded
        yield from self._decode_in(runner, embedding, proposals, np.flatnonzero(is_large))

    def _decode_in(
        self, runner: Runner, embedding: ImageEmbedding, proposals: Proposals, numbers: np.ndarray
    ) -> Iterator[DecodedMask]:
        chosen = proposals[numbers]
        for decoded in decode_windows(
            runner, embedding, chosen.points, chosen.boxes, self.mask_filter.min_iou
        ):
            yield replace(decoded, prompt=int(numbers[decoded.prompt]))
