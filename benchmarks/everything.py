"""Everything mode: segment_anything's generator against ours, and our ways to place prompts.

    python benchmarks/everything.py data/bbbc038 --images 10

First table: both generators with the same weights (of the bundled model, with MobileSAM's input
size of 1024 px): time, and how many masks of each have a counterpart in the other. Second table:
`samlet.segment_everything` with each way to place prompts, on validation images (all ways on one
image, then on the next): seconds, masks, F1 score of objects at an IoU of 0.5, and the score of the
2018 Data Science Bowl, also by kind of image. Run nothing beside it.
"""

import time
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import segment_anything
import torch
import typer
from common import Data
from rich.progress import track
from segment_anything import modeling as official
from validation import spread

import samlet
from samlet.datasets.examples import Example, load_examples, microscopy_kind
from samlet.datasets.layers import iter_objects
from samlet.evaluation.instance_metrics import bowl_score
from samlet.evaluation.tables import Table, format_table
from samlet.everything.settings import EverythingSettings, default_settings
from samlet.masks import iou_matrix, to_rle
from samlet.modeling.sam import Sam
from samlet.modeling.tiny_vit import STRIDE

PROMPT_SETTINGS: dict[str, EverythingSettings] = {
    "grid 24": {"points_per_side": 24, "prompts": "grid", "zoom": False},
    "grid 32": {"points_per_side": 32, "prompts": "grid", "zoom": False},
    "hierarchical 32": {"points_per_side": 32, "prompts": "hierarchical", "zoom": False},
    "regions": {"prompts": "regions", "zoom": False},
    "regions, refined in ROIs": {"prompts": "regions"},
    "proposals": {"prompts": "proposals"},
}


def main(
    data: Data,
    images: Annotated[int, typer.Option(help="Validation images for the second table.")] = 10,
    points_per_side: Annotated[
        int, typer.Option(help="Grid of the first table; 0 leaves it out.")
    ] = 32,
    only: Annotated[list[str] | None, typer.Option(help="Only these prompts.")] = None,
) -> None:
    """Measure, and print both tables."""
    examples = load_examples(data, only=spread(images))
    model = samlet.load("microscopy")
    predictor = samlet.Predictor(model)
    print(f"{torch.get_num_threads()} threads, {predictor.engine.precision}\n")
    if points_per_side:
        settings = default_settings(model, "grid") | {"output_mode": "coco_rle"}
        table = _against_official(model, examples[0], settings, points_per_side)
        print(format_table(table, "engine"))
    chosen = {name: PROMPT_SETTINGS[name] for name in only or PROMPT_SETTINGS}
    results: dict[str, list[_Result]] = {name: [] for name in chosen}
    # What runs for the first time is converted or compiled.
    for way in chosen.values():
        samlet.segment_everything(predictor, examples[0].image[:64, :64], **way)
    for example in track(examples, "Segmenting"):
        for name, way in chosen.items():
            results[name].append(_measure(predictor, example, way))
    print(f"\n{len(examples)} images, {model.config.image_size} px\n")
    print(format_table({name: _summary(results[name]) for name in chosen}, "prompts"))


@dataclass(frozen=True)
class _Result:
    """One image: its kind, seconds, masks, objects, objects found at an IoU of 0.5, and score."""

    kind: str
    seconds: float
    masks: int
    objects: int
    found: int
    score: float


def _against_official(model: Sam, example: Example, settings: dict[str, Any], side: int) -> Table:
    settings = settings | {"points_per_side": side}
    # The official generator has none of these: it clicks on a grid, and keeps covered masks.
    for ours in ("prompts", "max_covered", "zoom"):
        settings.pop(ours, None)
    engines = {name: samlet.SamAutomaticMaskGenerator(model, engine=name, **settings)
               for name in ("torch", "openvino")}  # fmt: skip
    for generator in engines.values():
        generator.generate(example.image[:64, :64])
    official_generator = segment_anything.SamAutomaticMaskGenerator(_to_official(model), **settings)
    reference, seconds = _timed(official_generator, example.image)
    table: Table = {"official": {"seconds": seconds, "times faster": 1, "masks": len(reference)}}
    for name, generator in engines.items():
        found, own = _timed(generator, example.image)
        same = iou_matrix(found, reference) >= 0.95
        table[name] = {
            "seconds": own,
            "times faster": seconds / own,
            "masks": len(found),
            "official masks found": float(same.any(axis=0).mean()),
            "masks that official has": float(same.any(axis=1).mean()),
        }
    return table


def _timed(generator: Any, image: np.ndarray) -> tuple[list[Any], float]:
    start = time.perf_counter()
    records = generator.generate(image)
    return [record["segmentation"] for record in records], time.perf_counter() - start


def _to_official(model: Sam) -> official.Sam:
    """The same weights in the modules of segment_anything."""
    size = model.config.image_size
    grid = (size // STRIDE, size // STRIDE)
    prompt_encoder = official.PromptEncoder(256, grid, (size, size), 16)
    prompt_encoder.load_state_dict(model.prompt_encoder.state_dict())
    decoder = official.MaskDecoder(
        transformer_dim=256, transformer=official.TwoWayTransformer(2, 256, 8, 2048)
    )
    decoder.load_state_dict(model.mask_decoder.state_dict())
    return official.Sam(model.image_encoder, prompt_encoder, decoder).eval()


def _measure(
    predictor: samlet.Predictor, example: Example, settings: EverythingSettings
) -> _Result:
    start = time.perf_counter()
    records = samlet.segment_everything(predictor, example.image, **settings)
    seconds = time.perf_counter() - start
    masks = [record["segmentation"] for record in records]
    truth = [to_rle(mask) for _, mask in iter_objects(example.labels)]
    found = (iou_matrix(masks, truth) > 0.5).any(axis=0).sum() if masks and truth else 0
    score = bowl_score(masks, np.array([record["predicted_iou"] for record in records]), truth)
    kind = microscopy_kind(example.image)
    return _Result(kind, seconds, len(masks), len(truth), int(found), score)


def _summary(results: list[_Result]) -> dict[str, float]:
    seconds = [one.seconds for one in results]
    figures: dict[str, float] = {
        "seconds, median": float(np.median(seconds)),
        "worst": max(seconds),
        "masks": sum(one.masks for one in results),
        "objects": sum(one.objects for one in results),
        "F1": _f1(results),
        "DSB": float(np.mean([one.score for one in results])),
    }
    for kind in sorted({one.kind for one in results}):
        of_kind = [one for one in results if one.kind == kind]
        figures[f"F1 {kind}"] = _f1(of_kind)
        figures[f"DSB {kind}"] = float(np.mean([one.score for one in of_kind]))
    return figures


def _f1(results: list[_Result]) -> float:
    return 2 * sum(one.found for one in results) / sum(one.masks + one.objects for one in results)


if __name__ == "__main__":
    typer.run(main)
