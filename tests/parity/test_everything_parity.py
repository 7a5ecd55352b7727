"""Everything mode against segment_anything's own generator, running the same weights.

Random weights give masks that all span the image, so that suppression would leave one. Here the
logits get a term that falls with the distance from the point, alike on both sides: the masks then
are ragged spots of three sizes around their points, as varied as a trained model's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import segment_anything
import torch
import torch.nn.functional as F
from pycocotools import mask as coco
from segment_anything import modeling as official
from skimage import data
from torch import Tensor, nn

from samlet.engines import DecoderTokens, Engine
from samlet.engines.openvino_engine import OpenVINOEngine
from samlet.engines.torch_engine import TorchEngine
from samlet.everything.generator import SamAutomaticMaskGenerator
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.tiny_vit import TINY_VITS

Generator = Callable[..., SamAutomaticMaskGenerator]

SIZE = 256
LEVELS = torch.tensor([110.0, 90.0, 60.0]).view(3, 1, 1)


def nearness(prompt_encoder: Any, sparse: Tensor) -> Tensor:
    """Likeness of the point's positional encoding with each low-resolution pixel's, up to 128."""
    position = sparse[:, 0] - prompt_encoder.point_embeddings[1].weight
    likeness = torch.einsum("bc,chw->bhw", position, prompt_encoder.get_dense_pe()[0])
    return F.interpolate(likeness.unsqueeze(1), scale_factor=4.0, mode="bilinear")


class Spotted(Engine):
    """Our engine, with masks around their points; kernels carry the term along."""

    @contextmanager
    def _prompt_branch(self, sparse: Tensor, shared: tuple[Tensor, ...]) -> Iterator[DecoderTokens]:
        term = nearness(self.prompt_encoder, sparse).flatten(2).expand(-1, 4, -1)
        with super()._prompt_branch(sparse, shared) as answer:  # type: ignore[safe-super]
            yield replace(answer, kernels=torch.cat([answer.kernels, term], dim=2))

    def upscale(self, tokens: Tensor, kernels: Tensor) -> Tensor:
        term = kernels[..., 32:].unflatten(2, (SIZE // 4, SIZE // 4))
        logits = super().upscale(tokens, kernels[..., :32])  # type: ignore[safe-super]
        return logits + (term - LEVELS) / 10


class SpottedTorch(Spotted, TorchEngine):
    """In PyTorch."""


class SpottedOpenVINO(Spotted, OpenVINOEngine):
    """In OpenVINO."""


class SpottedDecoder(nn.Module):
    """The official decoder, with the same term."""

    def __init__(self, decoder: nn.Module, prompt_encoder: nn.Module) -> None:
        super().__init__()
        self.decoder, self.prompt_encoder = decoder, prompt_encoder

    def forward(self, sparse_prompt_embeddings: Tensor, **rest: Any) -> Any:
        masks, ious = self.decoder(sparse_prompt_embeddings=sparse_prompt_embeddings, **rest)
        return masks + (nearness(self.prompt_encoder, sparse_prompt_embeddings) - LEVELS) / 10, ious


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    sam = Sam(SamConfig(image_size=SIZE, tiny_vit=TINY_VITS["tiny_vit_2m"])).eval()
    parameters = dict(sam.mask_decoder.named_parameters())
    with torch.no_grad():
        for i in range(4):
            parameters[f"output_hypernetworks_mlps.{i}.layers.2.weight"].mul_(16)
        parameters["iou_prediction_head.layers.2.weight"].mul_(30)
        parameters["iou_prediction_head.layers.2.bias"].add_(10)
    return sam


def official_twin(sam: Sam, spotted: bool) -> official.Sam:
    grid = SIZE // 16
    prompt_encoder = official.PromptEncoder(256, (grid, grid), (SIZE, SIZE), 16)
    prompt_encoder.load_state_dict(sam.prompt_encoder.state_dict())
    transformer = official.TwoWayTransformer(2, 256, 8, 2048)
    decoder = official.MaskDecoder(transformer_dim=256, transformer=transformer)
    decoder.load_state_dict(sam.mask_decoder.state_dict())
    wrapped = SpottedDecoder(decoder, prompt_encoder) if spotted else decoder
    return official.Sam(sam.image_encoder, prompt_encoder, wrapped).eval()


@pytest.fixture(scope="module")
def twin(sam: Sam) -> official.Sam:
    return official_twin(sam, spotted=True)


@pytest.fixture(scope="module", params=[SpottedTorch, SpottedOpenVINO])
def ours(request: pytest.FixtureRequest, sam: Sam) -> Generator:
    return partial(SamAutomaticMaskGenerator, sam, engine=request.param(sam))


Reference = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def references() -> dict[str, Reference]:
    """Options and segment_anything's records by case: both engines are compared with the same."""
    return {}


IMAGES = {
    "astronaut": data.astronaut()[:200, 100:300],
    "wide": data.astronaut()[60:150, 100:400],
    "large": np.tile(data.astronaut()[:, :300], (1, 2, 1)),
    "coins": np.repeat(data.coins()[:180, :170, None], 3, axis=2),
}


def thresholds(ours: Generator, image: np.ndarray) -> dict[str, Any]:
    """Such that each of both filters drops about a third of the masks."""
    records = ours(6, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1).generate(image)
    trusted = float(np.quantile([r["predicted_iou"] for r in records], 0.3))
    stable = [r["stability_score"] for r in records if r["predicted_iou"] > trusted]
    return {"pred_iou_thresh": trusted, "stability_score_thresh": float(np.quantile(stable, 0.3))}


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Compare all keys, where a pixel whose logit is at a threshold may fall to either side.

    Both decoders add up in another order, so that their logits differ in the sixth digit.
    """
    assert len(ours) == len(theirs) > 10
    for a, b in zip(ours, theirs, strict=True):
        assert list(a) == list(b)
        mask, reference = decoded(a["segmentation"]), decoded(b["segmentation"])
        pixels = np.count_nonzero(mask != reference)
        assert pixels <= 1e-4 * mask.size
        assert a["area"] == mask.sum()
        assert abs(a["area"] - b["area"]) <= pixels
        assert a["stability_score"] == pytest.approx(b["stability_score"], abs=1e-4 + 2 / a["area"])
        for key in ("predicted_iou", "point_coords", "crop_box"):
            assert np.allclose(a[key], b[key], rtol=0, atol=1e-4), key
        assert np.abs(np.subtract(a["bbox"], b["bbox"])).max() <= (pixels > 0)
        # The reference's crop_box turns into floats if a crop has no mask.
        assert kind({**a, "crop_box": 0}) == kind({**b, "crop_box": 0})


def decoded(segmentation: Any) -> np.ndarray:
    if isinstance(segmentation, np.ndarray):
        return segmentation
    if isinstance(segmentation["counts"], list):
        segmentation = coco.frPyObjects(segmentation, *segmentation["size"])
    return coco.decode(segmentation).astype(bool)


def kind(value: Any) -> Any:
    """The type, down to the items of lists and dictionaries and an array's dtype and shape."""
    if isinstance(value, dict):
        return {key: kind(item) for key, item in value.items()}
    if isinstance(value, list):
        return [kind(item) for item in value[:4]]
    return (value.dtype, value.shape) if isinstance(value, np.ndarray) else type(value)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("astronaut", {}),
    "wide": ("wide", {}),
    "larger than the input": ("large", {}),
    "batches that do not divide": ("coins", {"points_per_batch": 37}),
    "crops": ("astronaut", {"points_per_side": 5, "crop_n_layers": 1, "crop_nms_thresh": 0.5}),
    "crops with fewer points": (
        "coins",
        {"points_per_side": 4, "crop_n_layers": 2, "crop_n_points_downscale_factor": 2},
    ),
    "own grid": (
        "coins",
        {"points_per_side": None, "point_grids": [np.random.default_rng(0).random((70, 2))]},
    ),
    "small regions": ("astronaut", {"min_mask_region_area": 100}),
    "small regions of crops": (
        "coins",
        {"points_per_side": 5, "min_mask_region_area": 100, "crop_n_layers": 1},
    ),
    "coco": ("astronaut", {"output_mode": "coco_rle"}),
    "runs": ("coins", {"output_mode": "uncompressed_rle", "stability_score_offset": 0.5}),
}


@pytest.mark.parametrize("case", CASES)
def test_same_records_as_segment_anything(
    ours: Generator, twin: official.Sam, references: dict[str, Reference], case: str
) -> None:
    name, options = CASES[case]
    image = IMAGES[name]
    if case not in references:
        options = {"points_per_side": 8, "box_nms_thresh": 0.5, **options}
        options |= thresholds(ours, image)
        generator = segment_anything.SamAutomaticMaskGenerator(twin, **options)
        references[case] = options, generator.generate(image)
    options, theirs = references[case]
    found = ours(**options).generate(image)
    assert_same(found, theirs)
    if options.get("min_mask_region_area"):
        rough = ours(**{**options, "min_mask_region_area": 0})
        assert {r["area"] for r in rough.generate(image)} != {r["area"] for r in found}


def test_same_records_without_the_extra_term(sam: Sam) -> None:
    image = IMAGES["astronaut"]
    plain = partial(SamAutomaticMaskGenerator, sam, engine="torch")
    options = {"points_per_side": 4, "box_nms_thresh": 1.0, **thresholds(plain, image)}
    twin = official_twin(sam, spotted=False)
    theirs = segment_anything.SamAutomaticMaskGenerator(twin, **options)
    assert_same(plain(**options).generate(image), theirs.generate(image))
