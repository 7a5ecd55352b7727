"""Models in memory: loaded when they are first asked for, and shared."""

import samlet
from samlet import Predictor
from samlet.utils.single_flight import SingleFlightCache

KEPT = 3
"""Models in memory: the bundled one, and those of the projects that are worked on."""


class Models:
    """Loads models; safe to use from any number of threads.

    Args:
        engine: see `samlet.engines.open_engine`.
    """

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self._loaded: SingleFlightCache[Predictor] = SingleFlightCache(KEPT, lambda predictor: 1)

    def get(self, name: str) -> Predictor:
        """Give a model, ready to predict; all that wait for it wait for one loading.

        Args:
            name: a name from `samlet models`, or a checkpoint.

        Raises:
            UserError: see `samlet.load`.
        """
        return self._loaded.get(name, lambda: Predictor(samlet.load(name), self.engine))
