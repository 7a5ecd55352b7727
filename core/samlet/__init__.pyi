from . import images as images
from . import masks as masks
from . import outputs as outputs
from .checkpoints import load as load
from .checkpoints import sam_model_registry as sam_model_registry
from .checkpoints import save as save
from .embedding import ImageEmbedding as ImageEmbedding
from .errors import UserError as UserError
from .everything import SamAutomaticMaskGenerator as SamAutomaticMaskGenerator
from .predictor import Masks as Masks
from .predictor import Predictor as Predictor
from .sam_predictor import SamPredictor as SamPredictor
from .tiles import TiledMaskGenerator as TiledMaskGenerator

__version__: str
