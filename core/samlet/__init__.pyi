from . import images as images
from . import masks as masks
from . import outputs as outputs
from .checkpoints.loading import load as load
from .checkpoints.loading import sam_model_registry as sam_model_registry
from .checkpoints.loading import save as save
from .classification.classifier import ObjectClassifier as ObjectClassifier
from .classification.features import object_features as object_features
from .errors import UserError as UserError
from .everything.generator import SamAutomaticMaskGenerator as SamAutomaticMaskGenerator
from .everything.segment import segment_everything as segment_everything
from .everything.similar import find_similar as find_similar
from .everything.tiling import TiledMaskGenerator as TiledMaskGenerator
from .measurements.objects import measure_objects as measure_objects
from .predict.embedding import ImageEmbedding as ImageEmbedding
from .predict.predictor import MaskPrediction as MaskPrediction
from .predict.predictor import Predictor as Predictor
from .predict.sam_predictor import SamPredictor as SamPredictor
from .stacks.segment import StackObjects as StackObjects
from .stacks.segment import segment_stack as segment_stack

__version__: str
