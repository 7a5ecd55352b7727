"""Models in memory: loaded when they are first needed, and shared."""

import samlet
from samlet import Predictor
from samlet.utils.single_flight import SingleFlightCache
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training.versions import Versions

MAX_MODELS = 3
"""Models in memory: the one that the backend starts with, and those of projects in use."""


class Models:
    """Loads models; safe to use from any number of threads.

    Args:
        settings: the model that the backend starts with, its engine and precision.
        versions: which trained model each project uses.
    """

    def __init__(self, settings: Settings, versions: Versions) -> None:
        self.default = settings.model
        self._engine, self._precision = settings.engine, settings.precision
        self._versions = versions
        self._predictors: SingleFlightCache[Predictor] = SingleFlightCache(
            MAX_MODELS, lambda predictor: 1
        )

    def load(self, name: str) -> Predictor:
        """Give a model, ready to predict; concurrent callers wait for one loading.

        Args:
            name: a name from `samlet models`, or a checkpoint.

        Raises:
            UserError: see `samlet.load`.
        """
        return self._predictors.get(name, lambda: self._open(name))

    def _open(self, name: str) -> Predictor:
        return Predictor(samlet.load(name), self._engine, precision=self._precision)

    def of_project(self, project: str) -> tuple[Predictor, str]:
        """The model that a project uses, and its version's name.

        Raises:
            UserError: not a project's number, or see `samlet.load`.
        """
        version = self._versions.chosen(project)
        if version is None:
            return self.load(self.default), self.default
        return self.load(str(version.path)), version.name

    def version_of(self, project: str) -> str:
        """Name of the version that a project uses.

        Raises:
            UserError: not a project's number.
        """
        version = self._versions.chosen(project)
        return self.default if version is None else version.name

    def versions_of(self, project: str) -> list[str]:
        """Names of all versions that a project can use, the backend's own model first.

        Raises:
            UserError: not a project's number.
        """
        return [self.default, *(version.name for version in self._versions.all(project))]
