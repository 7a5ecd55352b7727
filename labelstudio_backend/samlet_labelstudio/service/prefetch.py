"""The images that an annotator will open next, encoded while the server has nothing else to do.

An encoding takes seconds, a click on an encoded image a fraction of one.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from samlet.errors import UserError
from samlet.predict.embedding_cache import EmbeddingCache
from samlet_labelstudio.images.image_resolver import ImageResolver
from samlet_labelstudio.label_studio.next_tasks import next_tasks
from samlet_labelstudio.service.background import BackgroundBatches
from samlet_labelstudio.service.models import Models
from samlet_labelstudio.service.request_context import RequestContext, Task

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
"""Without a request, before an image is encoded: an annotator's clicks follow each other."""
POLL_SECONDS = 0.2
MAX_PENDING = 32
"""Tasks whose next ones are to be encoded; of more, the oldest are dropped."""
MAX_SEEN = 10_000
FRESH_SECONDS = 600.0
"""After which the tasks that follow a task are looked up again."""


@dataclass(frozen=True)
class _Answered:
    """What an annotator works on.

    Attributes:
        context: of the request.
        task: that is open.
        image: name of the Image tag.
        page: that is shown.
    """

    context: RequestContext
    task: Task
    image: str
    page: int


class Prefetcher:
    """Encodes ahead, one image at a time; safe to use from any number of threads.

    Its thread has no low priority of its own: a click on the image that it encodes waits for it.

    Args:
        models: see there.
        images: see there: the same addresses are refused as for clicks.
        embeddings: shared with interactive prompts.
        background: in which it runs.
    """

    def __init__(
        self,
        models: Models,
        images: ImageResolver,
        embeddings: EmbeddingCache,
        background: BackgroundBatches,
    ) -> None:
        self._models, self._images, self._embeddings = models, images, embeddings
        self._background = background
        self._pending: deque[_Answered] = deque(maxlen=MAX_PENDING)
        self._seen: OrderedDict[Hashable, float] = OrderedDict()
        self._lock = threading.Lock()
        self._is_running = False
        self._working, self._last_request = 0, 0.0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Begin no encoding while a request is in work."""
        with self._lock:
            self._working += 1
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                self._last_request = time.monotonic()

    def answered(self, context: RequestContext, task: Task, image: str, page: int) -> None:
        """Note that a prompt was answered; what follows is encoded in the background.

        Args:
            context: of the request.
            task: that is open.
            image: name of the Image tag.
            page: the place of the image in the list of addresses, if the task has one.
        """
        settings = context.settings
        number = task.get("id")
        if settings.prefetch_tasks == 0 or not context.project or not isinstance(number, int):
            return
        if settings.label_studio_url is None or not settings.api_key:
            return
        key = (context.project, self._models.version_of(context.project), number, image, page)
        now = time.monotonic()
        with self._lock:
            if now - self._seen.get(key, -FRESH_SECONDS) < FRESH_SECONDS:
                return
            self._seen[key] = now
            self._seen.move_to_end(key)
            while len(self._seen) > MAX_SEEN:
                self._seen.popitem(last=False)
            self._pending.append(_Answered(context, task, image, page))
            if self._is_running:
                return
            self._is_running = True
        self._background.start(self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._pending or self._background.is_shutting_down:
                    self._is_running = False
                    return
                # The newest: its annotator has just begun.
                answered = self._pending.pop()
            try:
                for task, page in self._following(answered):
                    self._wait_until_idle()
                    if self._background.is_shutting_down:
                        break
                    self._encode(answered, task, page)
            # It is reported when somebody clicks on it.
            except UserError as error:
                log.info("Project %s: nothing encoded ahead: %s", answered.context.project, error)
            except Exception:
                log.exception("Project %s: nothing encoded ahead", answered.context.project)

    def _following(self, answered: _Answered) -> Iterator[tuple[Task, int]]:
        """The next page of the task that is open, and the next tasks."""
        context, task = answered.context, answered.task
        pages = context.pages(task, answered.image)
        if answered.page + 1 < len(pages):
            yield task, answered.page + 1
        self._wait_until_idle()
        count = context.settings.prefetch_tasks
        for following in next_tasks(context.settings, context.project, task["id"], count):
            yield following, 0

    def _encode(self, answered: _Answered, task: Task, page: int) -> None:
        context = answered.context
        try:
            url = context.image_url(task, answered.image, page)
            image = self._images.resolve(url, task["id"])
            predictor, _ = self._models.of_project(context.project)
            self._embeddings.get(predictor, image.hash, image.read)
        except UserError as error:
            log.info("Task %s was not encoded ahead: %s", task["id"], error)

    def _wait_until_idle(self) -> None:
        while not self._background.is_shutting_down:
            with self._lock:
                idle = 0.0 if self._working else time.monotonic() - self._last_request
            if idle >= IDLE_SECONDS:
                return
            time.sleep(POLL_SECONDS)
