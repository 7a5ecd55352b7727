"""Zooming in: an object that is small in its image is answered from a part of it, seen larger.

A model sees an image with its longest side at the input size, and draws masks at a quarter of
that. What is a few pixels wide there cannot be outlined, and hardly be told apart. So a prompt is
answered in two looks: one at the whole image, which tells how large the object is (a box tells it
by itself), and one at a square part around the object.

Source: the zoom-in of interactive segmentation, f-BRS (arXiv 2001.10331), section 4.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from math import ceil, floor, log
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from samlet.errors import UserError
from samlet.masks import Box
from samlet.modeling.sam import Sam
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.prompts import Prompts
from samlet.predict.roi import STEP, Frame, extent_of, frame_of, resampled, view_around, whole_of
from samlet.utils.single_flight import Shared

if TYPE_CHECKING:
    from samlet.predict.predictor import Predictor

KEPT_VIEWS = 4
"""Parts of an image whose embeddings are kept while it is being worked on."""

MUCH = 1.8
"""A view is chosen anew if another one is larger or smaller by two steps (and rounding)."""

LOOKS = 4
"""How often a prompt is answered at most, because the object is not as large as it seemed."""


def closer(model: Sam) -> Sam:
    """The same weights for half the input size, which is that of views.

    Positions are those of the middle of the larger input: the Fourier features that encode them
    are as far apart as they were.

    Raises:
        UserError: the model's encoder is tied to its own size, or half of it does not fit.
    """
    size = model.config.image_size
    if model.config.sam_vit is not None or size % 64:
        raise UserError(
            f"{model.name} cannot zoom, as its encoder cannot be used at {size // 2} px, half its "
            "input size: leave zoom out."
        )
    half = Sam(replace(model.config, image_size=size // 2))
    half.load_state_dict(model.state_dict())
    half.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix /= 2
    half.name = model.name
    return half.to(model.device).eval()


@dataclass(frozen=True)
class Look:
    """The answer to one prompt, and where the model looked for it.

    Attributes:
        view: part of the image.
        predictor: what looked.
        embedding: of that part.
        logits: C x h x w, low-resolution masks of that part.
        iou_predictions: C.
    """

    view: Box
    predictor: "Predictor"
    embedding: ImageEmbedding
    logits: Tensor
    iou_predictions: Tensor

    @property
    def frame(self) -> Frame:
        """Where the logits lie in the image."""
        return frame_of(self.embedding, self.view[:2])

    def masks(self) -> np.ndarray:
        """Masks of the part: bool, C x its height x its width."""
        return self.predictor.enlarge(self.logits, self.embedding)

    def logits_in(self, frame: Frame, side: int) -> Tensor:
        """The logits in another frame, C x side x side."""
        return resampled(self.logits.float().cpu(), self.frame, frame, side)


class Zoom:
    """Looks at parts of images; safe to use from several threads.

    Args:
        predictor: of `closer`'s model; it does not zoom itself.
    """

    def __init__(self, predictor: "Predictor") -> None:
        self._predictor = predictor
        self._views: WeakKeyDictionary[ImageEmbedding, Shared[ImageEmbedding]] = WeakKeyDictionary()
        self._lock = Lock()

    def look(
        self,
        whole: "Predictor",
        embedding: ImageEmbedding,
        prompts: Prompts,
        multimask_output: bool,
    ) -> list[Look]:
        """Answer prompts, each from a view that suits its object.

        Args:
            whole: looks at whole images.
            embedding: of the whole image, with its pixels.
            prompts: on that image.
            multimask_output: three candidates, or one mask.
        """
        views: dict[int, Box | None] = {
            row: _first_view(prompts, row, embedding, whole.model) for row in range(len(prompts))
        }
        found: dict[int, Look] = {}
        for number in range(1, LOOKS + 1):
            together: dict[Box | None, list[int]] = defaultdict(list)
            for row, view in views.items():
                together[view].append(row)
            views = {}
            for view, rows in together.items():
                some = prompts.rows(rows)
                for row, seen in zip(
                    rows,
                    self.look_from(view, whole, embedding, some, multimask_output),
                    strict=True,
                ):
                    found[row] = seen
                    # A box has told already how large the object is.
                    if prompts.boxes is None and number < LOOKS:
                        better = _better_view(
                            seen, view, *prompts.clicks(row), embedding, whole.model
                        )
                        if better != view:
                            views[row] = better
            if not views:
                break
        return [found[row] for row in range(len(prompts))]

    def look_from(
        self,
        view: Box | None,
        whole: "Predictor",
        embedding: ImageEmbedding,
        prompts: Prompts,
        multimask_output: bool = True,
    ) -> list[Look]:
        """The same from a view that is known; None is all of the image at full input size."""
        predictor, part = whole, embedding
        if view is None:
            view = whole_of(embedding.original_size)
        else:
            predictor, part = self._predictor, self._encoded(embedding, view)
            frames = frame_of(embedding), frame_of(part, view[:2])
            prompts = _moved(prompts, view, *frames, predictor.model.config.image_size // 4)
        answers = predictor.ask(part, prompts, multimask_output)
        return [Look(view, predictor, part, *answer) for answer in zip(*answers, strict=True)]

    def _encoded(self, embedding: ImageEmbedding, view: Box) -> ImageEmbedding:
        with self._lock:
            views = self._views.setdefault(embedding, Shared(KEPT_VIEWS, lambda _: 1))
        return views.get(str(view), lambda: self._encode(embedding, view))

    def _encode(self, embedding: ImageEmbedding, view: Box) -> ImageEmbedding:
        assert embedding.image is not None
        x0, y0, x1, y1 = view
        # A huge image's pixels can be fewer than its masks will have.
        down, along = np.divide(embedding.image.shape[:2], embedding.original_size)
        rows = slice(floor(y0 * down), max(ceil(y1 * down), floor(y0 * down) + 1))
        columns = slice(floor(x0 * along), max(ceil(x1 * along), floor(x0 * along) + 1))
        part = self._predictor.encode(np.ascontiguousarray(embedding.image[rows, columns]))
        return replace(part, original_size=(y1 - y0, x1 - x0))


def _first_view(prompts: Prompts, row: int, embedding: ImageEmbedding, model: Sam) -> Box | None:
    points, labels = prompts.clicks(row)
    extent = None
    if prompts.boxes is not None:
        extent = tuple(prompts.boxes[row].tolist())
    elif prompts.mask_inputs is not None:
        mask = prompts.mask_inputs[row] > model.mask_threshold
        extent = extent_of(mask, frame_of(embedding), points[labels == 1])
    if extent is None:
        return None
    return view_around(extent, points, embedding.original_size, model.config.image_size)


def _better_view(
    seen: Look,
    view: Box | None,
    points: np.ndarray,
    labels: np.ndarray,
    embedding: ImageEmbedding,
    model: Sam,
) -> Box | None:
    """A view that suits the object much better than the one that it was seen in, or that one."""
    logits = seen.logits[int(seen.iou_predictions.argmax())]
    mask = (logits > seen.predictor.model.mask_threshold).cpu().numpy()
    extent = extent_of(mask, seen.frame, points[labels == 1])
    if extent is None:
        return view
    size = embedding.original_size
    better = view_around(extent, points, size, model.config.image_size)
    if view is None:
        return better
    sides = [max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (better or whole_of(size), view)]
    return better if abs(log(sides[0] / sides[1], STEP)) > MUCH else view


def _moved(prompts: Prompts, view: Box, whole: Frame, frame: Frame, side: int) -> Prompts:
    """The same prompts in pixels of a view."""
    corner = np.array(view[:2], np.float32)
    coords, boxes, masks = prompts.point_coords, prompts.boxes, prompts.mask_inputs
    return Prompts(
        None if coords is None else (coords - corner).clip(0, np.subtract(view[2:], view[:2])),
        prompts.point_labels,
        None if boxes is None else boxes - np.tile(corner, 2),
        None if masks is None else resampled(torch.from_numpy(masks), whole, frame, side).numpy(),
    )
