"""Prompts become masks here, in two threads: one encodes ROIs, and one runs prompts.

They are apart so that a click on what is encoded need not wait for what is not.
"""

import atexit
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from weakref import WeakSet

from samlet.errors import UserError
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.inference.requests import Request, Response
from samlet_napari.inference.roi import Roi
from samlet_napari.inference.step_prediction import StepPredictions, predict_steps

REST_SECONDS = 0.15
"""A cursor that has not moved for so long is at rest."""
EXIT_SECONDS = 10.0
"""How long the end of the process waits for what is being encoded or predicted."""


class InferenceWorker:
    """Responds to requests about one image at a time.

    Of the requests that wait, those for objects come first, in their order; of those for what is
    under the cursor only the latest counts; once the cursor is at rest, a second and better
    response follows.

    Args:
        on_response: called from a thread of the worker with each response.
        on_encoding: called from a thread of the worker when encoding begins (True), and when
            nothing is left to encode (False).
    """

    def __init__(
        self, on_response: Callable[[Response], object], on_encoding: Callable[[bool], object]
    ) -> None:
        self._on_response = on_response
        self._on_encoding = on_encoding
        self._embeddings: EmbeddingProvider | None = None
        self._objects: OrderedDict[int, Request] = OrderedDict()
        self._hover: Request | None = None
        self._rests_at = 0.0
        self._ahead: list[Roi] = []
        self._predictions: StepPredictions = OrderedDict()
        self._is_closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=loop, name=f"samlet {loop.__name__}", daemon=True)
            for loop in (self._encode_loop, self._predict_loop)
        ]
        for thread in self._threads:
            thread.start()
        _workers.add(self)

    def set_image(self, embeddings: EmbeddingProvider | None) -> None:
        """Work on another image, or none, from now on; what waits is dropped."""
        with self._changed:
            self._embeddings = embeddings
            # Not cleared: a prediction on the image before may still be on its way into it.
            self._predictions = OrderedDict()
            self._drop_all()

    def cancel(self) -> None:
        """Drop all requests, and what was to be encoded; an ROI being encoded is finished."""
        with self._changed:
            self._drop_all()

    def submit(self, request: Request) -> None:
        """Add a request; its response comes through `on_response`, unless it is dropped."""
        with self._changed:
            if request.kind == "object":
                self._objects[request.number] = request
                # While an object is open, nothing is shown under the cursor.
                self._hover = None
            else:
                self._hover = request
                self._rests_at = time.monotonic() + REST_SECONDS
            self._changed.notify_all()

    def drop(self, number: int) -> None:
        """Drop the request for an object, and that for what lies under the cursor."""
        with self._changed:
            self._objects.pop(number, None)
            self._hover = None

    def encode_ahead(self, rois: Sequence[Roi]) -> None:
        """Encode ROIs when there is nothing else to do, in place of those given before."""
        with self._changed:
            self._ahead = list(rois)
            self._changed.notify_all()

    @property
    def is_idle(self) -> bool:
        """Whether no request waits and nothing is to be encoded."""
        with self._changed:
            return not self._waiting() and self._next_roi() is None

    def close(self) -> None:
        """End the threads, once they have finished what they are doing."""
        with self._changed:
            self._is_closed = True
            self._embeddings = None
            self._drop_all()

    def join(self) -> None:
        """Wait for the end of the threads, for a while: reading a lazy array may take forever."""
        for thread in self._threads:
            thread.join(EXIT_SECONDS)

    def _drop_all(self) -> None:
        self._objects.clear()
        self._hover = None
        self._ahead.clear()
        self._changed.notify_all()

    def _waiting(self) -> list[Request]:
        return [*self._objects.values(), *([self._hover] if self._hover else [])]

    def _next_roi(self) -> Roi | None:
        if self._embeddings is None:
            return None
        wanted = [request.roi for request in self._waiting()] + self._ahead
        return next((roi for roi in wanted if not self._embeddings.is_ready(roi)), None)

    def _next_request(self) -> Request | None:
        if self._embeddings is None:
            return None
        is_due = {"object": True, "hover": True, "rest": time.monotonic() >= self._rests_at}
        return next(
            (r for r in self._waiting() if is_due[r.kind] and self._embeddings.is_ready(r.roi)),
            None,
        )

    def _encode_loop(self) -> None:
        is_encoding = False
        while True:
            with self._changed:
                while not self._is_closed and self._next_roi() is None:
                    if is_encoding:
                        is_encoding = False
                        self._on_encoding(False)
                    self._changed.wait()
                if self._is_closed:
                    return
            if not is_encoding:
                is_encoding = True
                self._on_encoding(True)
            self._encode_next()

    def _encode_next(self) -> None:
        # In a function of its own, as a thread that waits must not keep an image that is gone.
        with self._changed:
            roi, embeddings = self._next_roi(), self._embeddings
        if roi is None or embeddings is None:
            return
        try:
            embeddings.get(roi)
        except UserError as error:
            self._fail(embeddings, roi, str(error))
        except Exception as error:
            # Reading a lazy array may raise anything.
            self._fail(embeddings, roi, f"The image cannot be read: {error}")
        with self._changed:
            self._changed.notify_all()

    def _fail(self, embeddings: EmbeddingProvider, roi: Roi, error: str) -> None:
        """Respond with an error to all requests in an ROI that cannot be encoded."""
        with self._changed:
            if embeddings is not self._embeddings:
                return
            failed = [request for request in self._waiting() if request.roi == roi]
            self._ahead = [other for other in self._ahead if other != roi]
            self._remove(failed)
        for request in failed:
            self._on_response(Response(request, None, error))

    def _predict_loop(self) -> None:
        while True:
            with self._changed:
                while not self._is_closed and self._next_request() is None:
                    is_resting = self._hover is not None and self._hover.kind == "rest"
                    self._changed.wait(REST_SECONDS if is_resting else None)
                if self._is_closed:
                    return
            self._predict_next()

    def _predict_next(self) -> None:
        with self._changed:
            request, embeddings = self._next_request(), self._embeddings
            predictions = self._predictions
        if request is None or embeddings is None:
            return
        try:
            response = Response(request, predict_steps(embeddings, request, predictions))
        except UserError as error:
            response = Response(request, None, str(error))
        except Exception as error:
            # This thread must go on, or no request would get a response any more.
            response = Response(request, None, f"The prediction failed: {error}")
        with self._changed:
            if embeddings is not self._embeddings:
                # The same may have been requested of another image by now.
                return
            # Meanwhile it may have been dropped, or replaced by a later one. What lies under
            # the cursor is shown all the same: it is always late while the mouse moves.
            is_wanted = request.kind != "object" or self._objects.get(request.number) == request
            is_first = self._hover == request and request.kind == "hover" and not response.error
            self._remove([request])
            if is_first and embeddings.predictor.zoom is not None:
                self._hover = replace(request, kind="rest")
        if is_wanted:
            self._on_response(response)

    def _remove(self, requests: list[Request]) -> None:
        for request in requests:
            if self._objects.get(request.number) == request:
                del self._objects[request.number]
            if self._hover == request:
                self._hover = None


_workers: WeakSet[InferenceWorker] = WeakSet()


def _close_all() -> None:
    """PyTorch aborts a process that ends while a thread is in it."""
    workers = list(_workers)
    for worker in workers:
        worker.close()
    for worker in workers:
        worker.join()


atexit.register(_close_all)
