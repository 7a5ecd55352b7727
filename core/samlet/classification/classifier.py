"""Classes of objects, learned from examples: random forests on what the objects are like."""

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from samlet.classification.features import EMBEDDING_START
from samlet.errors import UserError
from samlet.utils.messages import pluralize

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

TREES = 100
"""Of each forest; more change few predictions."""

LEAST_WEIGHT = 0.02
"""Of a forest that does not predict examples better than chance."""


class PredictedClasses(NamedTuple):
    """Classes of N objects.

    Attributes:
        classes: the names.
        probabilities: float, N, of the class of each, above 0 to 1.
    """

    classes: list[str]
    probabilities: np.ndarray


class ObjectClassifier:
    """Learns classes of objects from examples, and gives other objects one of them.

    One forest learns from shape and colours, another from embeddings: a single one would hardly
    look at 21 measurements beside 256 features of an embedding, and not tell large objects from
    small ones. Their probabilities are averaged, with how well each predicts examples that its
    trees have not seen as weights. All classes count the same, however many examples each has. The
    same examples in the same order always give the same result.

    Attributes:
        classes: names of the classes that were learned, sorted.

    Examples:
        >>> features = samlet.object_features(predictor, image, masks)
        >>> classifier = samlet.ObjectClassifier().fit(features[:4], ["a", "b", "b", "a"])
        >>> classes, probabilities = classifier.predict(features[4:])
    """

    def __init__(self) -> None:
        self.classes: list[str] = []
        self._forests: list[_Forest] = []
        self._feature_count = 0

    def fit(self, features: np.ndarray, classes: Sequence[str]) -> Self:
        """Learn from examples, in place of what was learned before.

        Args:
            features: of the examples, see `samlet.object_features`: N x F.
            classes: N names; one example of each of two classes is enough.

        Returns:
            itself.

        Raises:
            UserError: there is no example, all are of one class, a name is empty, or there is
                another number of features than of names.
        """
        if len(features) != len(classes):
            raise UserError(
                f"There are {pluralize(len(classes), 'name')} of classes for features of "
                f"{pluralize(len(features), 'object')}: give one for each."
            )
        if not all(classes):
            raise UserError("The name of a class is empty: give it one.")
        names = check_classes(classes)
        numbers = np.searchsorted(names, classes)
        groups = (slice(0, EMBEDDING_START), slice(EMBEDDING_START, None))
        self._forests = [_grow(features[:, columns], numbers, columns) for columns in groups]
        self._feature_count = features.shape[1]
        self.classes = names
        return self

    def predict(self, features: np.ndarray) -> PredictedClasses:
        """Give objects a class each.

        Args:
            features: of the objects: N x F.

        Raises:
            UserError: nothing was learned yet, or from other features.
        """
        if not self._forests:
            raise UserError("The classifier has learned no class yet: call fit first.")
        if not len(features):
            return PredictedClasses([], np.zeros(0))
        if features.shape[1] != self._feature_count:
            raise UserError(
                f"The objects have {features.shape[1]} features, and the examples had "
                f"{self._feature_count}: describe both with the same model."
            )
        total = sum(forest.weight for forest in self._forests)
        probabilities = sum(
            forest.weight / total * forest.trees.predict_proba(features[:, forest.columns])
            for forest in self._forests
        )
        best = probabilities.argmax(axis=1)
        return PredictedClasses(
            [self.classes[number] for number in best],
            probabilities[np.arange(len(best)), best],
        )


def check_classes(classes: Iterable[str]) -> list[str]:
    """The names of the classes of examples, sorted.

    Raises:
        UserError: there are fewer than two.
    """
    names = sorted(set(classes))
    if not names:
        raise UserError("No object has a class: give one to some objects of each class.")
    if len(names) == 1:
        raise UserError(
            f"All objects that have a class are of {names[0]}: give another class to at least one "
            "object."
        )
    return names


class _Forest(NamedTuple):
    """A random forest, the features that it looks at, and its weight."""

    trees: "RandomForestClassifier"
    columns: slice
    weight: float


def _grow(features: np.ndarray, numbers: np.ndarray, columns: slice) -> _Forest:
    # Most of samlet does without it, and it takes a while to import.
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(TREES, class_weight="balanced", oob_score=True, random_state=0)
    # Of few examples, some are in every tree, which it warns of.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forest.fit(features, numbers)
    chance = 1 / forest.n_classes_
    unseen = forest.oob_decision_function_[np.arange(len(numbers)), numbers]
    skill = float(np.nan_to_num(unseen, nan=chance).mean()) - chance
    return _Forest(forest, columns, max(skill, LEAST_WEIGHT))
