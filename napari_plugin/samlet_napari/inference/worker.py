"""Prompts become masks here, in two threads: one encodes windows, and one answers prompts.

The two are apart so that a click on what is encoded need not wait for what is not.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from samlet.errors import UserError
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.embedding_cache import EmbeddingCache, bytes_in_use
from samlet.predict.predictor import MaskPrediction, Predictor
from samlet.utils.single_flight import SingleFlightCache
from samlet_napari.inference.prompts import Step, Steps, box_of, points_of
from samlet_napari.inference.roi import Window
from samlet_napari.layers.layer_reader import Picture

MEMORY_BYTES = 1 << 30
"""Of the embeddings that stay in memory, with what the predictor keeps beside each."""

REMEMBERED_BYTES = 1 << 28
"""Of the answers that later steps of the same object go on from; at least the latest is kept."""

REST_SECONDS = 0.15
"""A cursor that stays in one place for so long rests."""


class Encodings:
    """The windows of a picture as one encoder sees them; safe to use from any thread.

    Args:
        predictor: whose encoder.
        picture: the image.
        cache: where embeddings are looked for and kept, by their pixels.
    """

    def __init__(self, predictor: Predictor, picture: Picture, cache: EmbeddingCache) -> None:
        self.predictor = predictor
        self.picture = picture
        self._cache = cache
        self._made = SingleFlightCache[ImageEmbedding](MEMORY_BYTES, bytes_in_use)

    @property
    def side(self) -> int:
        """Of the model's input, in pixels."""
        return self.predictor.model.config.image_size

    def is_ready(self, window: Window) -> bool:
        """Whether a window can be had without waiting."""
        return self._made.is_ready(str(window))

    def get(self, window: Window) -> ImageEmbedding:
        """Give a window's embedding; `original_size` is that of the window.

        Raises:
            UserError: the pixels cannot be shown to a model.
        """
        return self._made.get(str(window), lambda: self._make(window))

    def keep(self, cache: EmbeddingCache) -> None:
        """Look for embeddings, and keep them, elsewhere from now on; also those in memory."""
        self._cache = cache
        self._made = SingleFlightCache(MEMORY_BYTES, bytes_in_use)

    def _make(self, window: Window) -> ImageEmbedding:
        pixels = self.picture.read(window.plane, window.box, self.side)
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:32]
        embedding = self._cache.get(self.predictor, digest, lambda: pixels)
        # What was read of a pyramid may be smaller, and yet masks must be as large as the window.
        return replace(embedding, original_size=window.size)


Kind = Literal["object", "hover", "rest"]


@dataclass(frozen=True)
class Ask:
    """A question to the model.

    Attributes:
        kind: "object" for one that is being clicked; "hover" for what lies under the cursor,
            answered at once and so without zooming in; "rest" for the same under a cursor that
            stays there, zooming in as for a click.
        number: of the object; a later question about the same one replaces this.
        window: where to look.
        steps: the prompts, in pixels of the plane.
    """

    kind: Kind
    number: int
    window: Window
    steps: Steps


@dataclass(frozen=True)
class Answer:
    """What the model says.

    Attributes:
        ask: the question.
        masks: in the window; None if it could not be answered.
        error: why it could not.
    """

    ask: Ask
    masks: MaskPrediction | None
    error: str = ""

    @property
    def mask(self) -> np.ndarray | None:
        """The mask that the user has chosen, or else the one that the model trusts most."""
        return (
            None if self.masks is None else self.masks.masks[shown(self.ask.steps[-1], self.masks)]
        )


def shown(step: Step, masks: MaskPrediction) -> int:
    """Which of the candidates counts after a step."""
    return masks.best_index if step.choice is None else min(step.choice, len(masks.masks) - 1)


class Answerer:
    """Answers questions about one image at a time.

    Of the questions that wait, those about objects come first, in their order; of those about
    what is under the cursor only the latest counts; while the cursor rests there, a second and
    better answer follows.

    Args:
        on_answer: called from a thread of the answerer with each answer.
        on_encoding: called from a thread of the answerer when encoding begins (True), and when
            nothing is left to encode (False).
    """

    def __init__(
        self, on_answer: Callable[[Answer], None], on_encoding: Callable[[bool], None]
    ) -> None:
        self._on_answer = on_answer
        self._on_encoding = on_encoding
        self._encodings: Encodings | None = None
        self._objects: OrderedDict[int, Ask] = OrderedDict()
        self._hover: Ask | None = None
        self._rests_at = 0.0
        self._ahead: list[Window] = []
        self._known: OrderedDict[Any, MaskPrediction] = OrderedDict()
        self._is_closed = False
        self._changed = threading.Condition()
        for work in (self._encode_all, self._answer_all):
            threading.Thread(target=work, name=f"samlet {work.__name__}", daemon=True).start()

    def show(self, encodings: Encodings | None) -> None:
        """Answer questions about another image, or none; what waits is dropped."""
        with self._changed:
            self._encodings = encodings
            # Not cleared: an answer about the image before may still be on its way into it.
            self._known = OrderedDict()
            self._drop()

    def cancel(self) -> None:
        """Drop all questions, and what was to be encoded; a window on its way is finished."""
        with self._changed:
            self._drop()

    def ask(self, ask: Ask) -> None:
        """Ask; the answer comes through `on_answer`, unless it is dropped."""
        with self._changed:
            if ask.kind == "object":
                self._objects[ask.number] = ask
                # While an object is open, nothing is shown under the cursor.
                self._hover = None
            else:
                self._hover = ask
                self._rests_at = time.monotonic() + REST_SECONDS
            self._changed.notify_all()

    def forget(self, number: int) -> None:
        """Drop the question about an object, and what lies under the cursor."""
        with self._changed:
            self._objects.pop(number, None)
            self._hover = None

    def encode_ahead(self, windows: Sequence[Window]) -> None:
        """Encode windows when nothing else is to be done, in place of those asked for before."""
        with self._changed:
            self._ahead = list(windows)
            self._changed.notify_all()

    def close(self) -> None:
        """End the threads, once they are done with what they do."""
        with self._changed:
            self._is_closed = True
            self._encodings = None
            self._drop()

    def _drop(self) -> None:
        self._objects.clear()
        self._hover = None
        self._ahead.clear()
        self._changed.notify_all()

    def _waiting(self) -> list[Ask]:
        return [*self._objects.values(), *([self._hover] if self._hover else [])]

    def _next_window(self) -> Window | None:
        if self._encodings is None:
            return None
        wanted = [ask.window for ask in self._waiting()] + self._ahead
        return next((w for w in wanted if not self._encodings.is_ready(w)), None)

    def _next_ask(self) -> Ask | None:
        if self._encodings is None:
            return None
        is_due = {"object": True, "hover": True, "rest": time.monotonic() >= self._rests_at}
        return next(
            (a for a in self._waiting() if is_due[a.kind] and self._encodings.is_ready(a.window)),
            None,
        )

    def _encode_all(self) -> None:
        is_told = False
        while True:
            with self._changed:
                while not self._is_closed and self._next_window() is None:
                    if is_told:
                        is_told = False
                        self._on_encoding(False)
                    self._changed.wait()
                if self._is_closed:
                    return
            if not is_told:
                is_told = True
                self._on_encoding(True)
            self._encode_next()

    def _encode_next(self) -> None:
        # In a function of its own, as a thread that waits must not keep an image that is gone.
        with self._changed:
            window, encodings = self._next_window(), self._encodings
        if window is None or encodings is None:
            return
        try:
            encodings.get(window)
        except UserError as error:
            self._refuse(encodings, window, str(error))
        except Exception as error:
            # What a lazy array raises when it is read is anybody's.
            self._refuse(encodings, window, f"The image cannot be read: {error}")
        with self._changed:
            self._changed.notify_all()

    def _refuse(self, encodings: Encodings, window: Window, error: str) -> None:
        with self._changed:
            if encodings is not self._encodings:
                return
            refused = [ask for ask in self._waiting() if ask.window == window]
            self._ahead = [w for w in self._ahead if w != window]
            self._take(refused)
        for ask in refused:
            self._on_answer(Answer(ask, None, error))

    def _answer_all(self) -> None:
        while True:
            with self._changed:
                while not self._is_closed and self._next_ask() is None:
                    is_resting = self._hover is not None and self._hover.kind == "rest"
                    self._changed.wait(REST_SECONDS if is_resting else None)
                if self._is_closed:
                    return
            self._answer_next()

    def _answer_next(self) -> None:
        with self._changed:
            ask, encodings, known = self._next_ask(), self._encodings, self._known
        if ask is None or encodings is None:
            return
        try:
            answer = Answer(ask, _segment(encodings, ask, known))
        except UserError as error:
            answer = Answer(ask, None, str(error))
        except Exception as error:
            # Without this thread nothing would be answered any more.
            answer = Answer(ask, None, f"The model cannot answer: {error}")
        with self._changed:
            if encodings is not self._encodings:
                # The same may have been asked about another image by now.
                return
            # Meanwhile it may have been dropped, or replaced by a later one. What lies under
            # the cursor is told all the same: it never rests while the mouse moves.
            is_wanted = ask.kind != "object" or self._objects.get(ask.number) == ask
            is_first = self._hover == ask and ask.kind == "hover" and not answer.error
            self._take([ask])
            if is_first and encodings.predictor.zoom is not None:
                self._hover = replace(ask, kind="rest")
        if is_wanted:
            self._on_answer(answer)

    def _take(self, asks: list[Ask]) -> None:
        for ask in asks:
            if self._objects.get(ask.number) == ask:
                del self._objects[ask.number]
            if self._hover == ask:
                self._hover = None


def _segment(
    encodings: Encodings, ask: Ask, known: OrderedDict[Any, MaskPrediction]
) -> MaskPrediction:
    """Answer step by step, as the model learnt it: each goes on from the mask before."""
    embedding = encodings.get(ask.window)
    previous: np.ndarray | None = None
    masks: MaskPrediction | None = None
    for count, step in enumerate(ask.steps, start=1):
        steps = ask.steps[:count]
        is_open = step.choice is not None or _is_lone_point(steps)
        key = (ask.window, steps[:-1], step.points, step.box, is_open)
        masks = known.get(key)
        if masks is None:
            masks = _segmented(encodings.predictor, embedding, ask, steps, previous, is_open)
            if ask.kind == "object":
                known[key] = masks
                while len(known) > 1 and sum(map(_size, known.values())) > REMEMBERED_BYTES:
                    known.popitem(last=False)
        previous = masks.low_res_masks[shown(step, masks)]
    assert masks is not None
    return masks


def _is_lone_point(steps: Steps) -> bool:
    """Whether one of several masks may be meant."""
    return len(points_of(steps)) == 1 and box_of(steps) is None


def _segmented(
    predictor: Predictor,
    embedding: ImageEmbedding,
    ask: Ask,
    steps: Steps,
    previous: np.ndarray | None,
    is_open: bool,
) -> MaskPrediction:
    left, top, right, bottom = ask.window.box
    points = points_of(steps)
    coords = np.array([[x - left, y - top] for x, y, _ in points]).reshape(-1, 2)
    box = box_of(steps)
    return predictor.segment(
        embedding,
        coords.clip(0, [right - left, bottom - top]) if points else None,
        [int(positive) for _, _, positive in points] if points else None,
        None if box is None else np.array(box) - (left, top, left, top),
        previous,
        multimask_output=is_open,
        zoom=ask.kind != "hover",
    )


def _size(masks: MaskPrediction) -> int:
    return masks.masks.nbytes + masks.low_res_masks.nbytes
