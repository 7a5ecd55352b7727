"""The model in PyTorch itself: for GPUs, and where OpenVINO is not installed."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from samlet.engines.decoder import ImageBranch, PromptBranch, Upscaling
from samlet.engines.engine import DecoderTokens, Engine
from samlet.engines.fusing import fuse
from samlet.engines.precision import Precision
from samlet.modeling.sam import Sam


class TorchEngine(Engine):
    """The encoder fused (see `fuse`), its convolutions channels last.

    Args:
        model: on the device where it is to run.
        precision: see `Engine`.
    """

    name = "torch"

    def __init__(self, model: Sam, precision: Precision = "float32") -> None:
        super().__init__(model, precision)
        model = copy.deepcopy(model).eval()
        self._encoder = fuse(model.image_encoder).to(memory_format=torch.channels_last)
        self._image, self._prompt = ImageBranch(model), PromptBranch(model)
        self._upscaling = Upscaling(model).to(model.device)
        # Not channels last, where its normalisations take twice as long on a CPU.
        self._instance_decoder = model.instance_decoder

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """See `Engine`."""
        images = images.to(self.device, memory_format=torch.channels_last)
        with self._autocast(self.precision == "bfloat16"):
            return self._encoder(images).float().contiguous()

    @torch.no_grad()
    def upscale(self, tokens: Tensor, kernels: Tensor) -> Tensor:
        """See `Engine`."""
        with self._autocast(False):
            return self._upscaling(tokens, kernels)

    @torch.no_grad()
    def predict_distances(self, features: Tensor) -> Tensor:
        """See `Engine`."""
        assert self._instance_decoder is not None
        features = features.to(self.device).contiguous()
        with self._autocast(self.precision == "bfloat16"):
            predicted: Tensor = self._instance_decoder(features)
        return predicted.float().contiguous()

    def _image_branch(self, features: Tensor, dense: Tensor) -> tuple[Tensor, ...]:
        with self._autocast(False):
            return self._image(features, dense)

    @contextmanager
    def _prompt_branch(self, sparse: Tensor, shared: tuple[Tensor, ...]) -> Iterator[DecoderTokens]:
        with self._autocast(False):
            decoded = self._prompt(sparse, *shared)
        yield DecoderTokens(*decoded)

    def _autocast(self, enabled: bool) -> torch.autocast:
        # A caller's own autocast would change the precision that was chosen.
        return torch.autocast(self.device.type, torch.bfloat16, enabled)
