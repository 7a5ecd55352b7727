"""The embedding of an image: computed once, used by every prompt on it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from samlet.errors import UserError
from samlet.utils.files import atomic_path


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """An image's embedding; immutable, and safe to share between threads.

    Attributes:
        features: float32, 256 x S/16 x S/16, where S is the model's input size.
        original_size: (H, W) of the image in pixels.
        input_size: (h, w) of the resized image within the S x S input, before padding.
        model_id: fingerprint of the encoder; only the same encoder's models can decode it.
        image: RGB uint8, H x W x 3, for predictors that zoom, else None. It is not
            saved, see `Predictor.with_image`.
        precision: in which the encoder computed, "float32" or "bfloat16".
    """

    features: Tensor
    original_size: tuple[int, int]
    input_size: tuple[int, int]
    model_id: str
    image: np.ndarray | None = None
    precision: str = "float32"

    def save(self, path: str | Path) -> None:
        """Write as a safetensors file.

        Raises:
            UserError: the file cannot be written.
        """
        facts = {
            "original_size": self.original_size,
            "input_size": self.input_size,
            "model_id": self.model_id,
            "precision": self.precision,
        }
        with atomic_path(path) as temporary:
            save_file(
                {"features": self.features.cpu().contiguous()},
                temporary,
                metadata={"samlet_embedding": json.dumps(facts)},
            )

    @classmethod
    def load(cls, path: str | Path) -> "ImageEmbedding":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged or something else.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["samlet_embedding"])
                features = file.get_tensor("features")
        except FileNotFoundError as error:
            raise UserError(f"There is no embedding {path}; encode the image first.") from error
        except (SafetensorError, KeyError, OSError) as error:
            raise UserError(
                f"{path} is not an image embedding of samlet; encode the image again."
            ) from error
        return cls(
            features.to(torch.float32),
            tuple(facts["original_size"]),
            tuple(facts["input_size"]),
            facts["model_id"],
            # Older files do not name it.
            precision=facts.get("precision", "float32"),
        )
