"""Models in memory: loaded in the background, and shared."""

import threading
from collections import OrderedDict
from concurrent.futures import Future

import samlet
from samlet import Predictor

KEPT = 3
"""Models in memory: the bundled one, and those of the projects that are worked on."""


class Models:
    """Loads models when they are first asked for; safe to use from any number of threads.

    Args:
        engine: see `samlet.engines.open_engine`.
    """

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self._loaded: OrderedDict[str, Future[Predictor]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Predictor:
        """Give a model, ready to predict; all that wait for it wait for one loading.

        Args:
            name: a name from `samlet models`, or a checkpoint.

        Raises:
            UserError: see `samlet.load`.
        """
        with self._lock:
            promised = self._loaded.get(name)
            if promised is None:
                own = self._loaded[name] = Future()
            self._loaded.move_to_end(name)
            while len(self._loaded) > KEPT:
                self._loaded.popitem(last=False)
        if promised is not None:
            return promised.result()
        try:
            own.set_result(Predictor(samlet.load(name), self.engine))
        except BaseException as error:
            with self._lock:
                self._loaded.pop(name, None)
            own.set_exception(error)
            raise
        return own.result()
