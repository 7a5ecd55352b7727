"""Classes of objects: learned from examples, by what the objects are like."""

from samlet.classification.classifier import ObjectClassifier, PredictedClasses
from samlet.classification.features import object_features

__all__ = ["ObjectClassifier", "PredictedClasses", "object_features"]
