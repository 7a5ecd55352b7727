"""Everything mode: segment_anything's generator against ours, and our ways to place prompts.

    python benchmarks/everything.py data/bbbc038 --images 10

First table: both generators with the same weights (of the bundled model, with MobileSAM's input
size of 1024 px): time, and how many masks of each have a counterpart in the other. Second table:
`samlet.segment_everything` with each way to place prompts, on validation images: time, masks,
objects found, and the score of the 2018 Data Science Bowl. Run nothing beside it.
"""

import time
from typing import Annotated, Any

import numpy as np
import segment_anything
import torch
import typer
from common import Data
from segment_anything import modeling as official
from validation import spread

import samlet
from samlet.datasets.examples import Example, load_examples
from samlet.datasets.layers import iter_objects
from samlet.evaluation.instance_metrics import bowl_score
from samlet.evaluation.tables import Table, format_table
from samlet.everything.settings import EverythingSettings, default_settings
from samlet.masks import iou_matrix, to_rle
from samlet.modeling.sam import Sam
from samlet.modeling.tiny_vit import STRIDE

MIN_AREA = 20
"""Objects with fewer pixels are left out of the second table."""

PROMPT_SETTINGS: dict[str, EverythingSettings] = {
    "grid 24": {"points_per_side": 24, "prompts": "grid", "zoom": False},
    "grid 32": {"points_per_side": 32, "prompts": "grid", "zoom": False},
    "hierarchical 32": {"points_per_side": 32, "prompts": "hierarchical", "zoom": False},
    "regions": {"prompts": "regions", "zoom": False},
    "regions, refined in ROIs": {"prompts": "regions"},
}


def main(
    data: Data,
    images: Annotated[int, typer.Option(help="Validation images for the second table.")] = 10,
    points_per_side: Annotated[int, typer.Option(help="Grid of the first table.")] = 32,
) -> None:
    """Measure, and print both tables."""
    examples = load_examples(data, only=spread(images))
    model = samlet.load("nuclei")
    settings = default_settings(model) | {"output_mode": "coco_rle"}
    print(f"{torch.get_num_threads()} threads\n")
    print(format_table(_against_official(model, examples[0], settings, points_per_side), "engine"))
    predictor = samlet.Predictor(model)
    table = {name: _measure(predictor, examples, PROMPT_SETTINGS[name]) for name in PROMPT_SETTINGS}
    print(f"\n{len(examples)} images, {model.config.image_size} px\n")
    print(format_table(table, "prompts"))


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
    predictor: samlet.Predictor, examples: list[Example], settings: EverythingSettings
) -> dict[str, float]:
    seconds, masks, best, scores = [], [], [], []
    for example in examples:
        start = time.perf_counter()
        records = samlet.segment_everything(predictor, example.image, **settings)
        seconds.append(time.perf_counter() - start)
        found = [record["segmentation"] for record in records]
        truth = [to_rle(mask) for _, mask in iter_objects(example.labels) if mask.sum() >= MIN_AREA]
        masks.append(len(found))
        best += list(iou_matrix(found, truth).max(axis=0, initial=0))
        predicted_ious = np.array([record["predicted_iou"] for record in records])
        scores.append(bowl_score(found, predicted_ious, truth))
    return {
        "seconds per image": float(np.mean(seconds)),
        "masks per image": float(np.mean(masks)),
        "found at IoU 0.5": float(np.mean(np.array(best) > 0.5)),
        "found at IoU 0.75": float(np.mean(np.array(best) > 0.75)),
        "DSB": float(np.mean(scores)),
    }


if __name__ == "__main__":
    typer.run(main)
