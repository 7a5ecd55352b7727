"""Whether the score of a task ranks images by how good their pre-annotation is.

    python -m benchmarks.labelstudio_score DATA --names recipes/nuclei-validation.txt

Label Studio's uncertainty sampling asks for the tasks with the lowest score first. Each image is
pre-annotated as a task would be. Its true quality is, for each labelled object, the highest IoU
with a region, on average; and the same with a penalty for regions that are no object (the panoptic
quality of Kirillov et al., arXiv 1801.00868). Printed is Spearman's correlation of the score with
both, and of other scores for comparison.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from benchmarks.common import Data, ModelName
from scipy.stats import spearmanr
from tests.labelstudio import payloads

from samlet.datasets.label_studio.regions import to_mask
from samlet.images import IMAGE_SUFFIXES
from samlet.masks import from_label_map, iou_matrix
from samlet.outputs import read_label_map
from samlet_labelstudio.images.image_resolver import open_file
from samlet_labelstudio.label_studio.labeling_config import parse
from samlet_labelstudio.service import RequestContext, Service
from samlet_labelstudio.settings import Settings

SAME_OBJECT = 0.5
"""Least IoU of a region and an object that are one, as in panoptic quality."""
OTHER_SCORES: dict[str, Callable[[np.ndarray], float]] = {
    "median of the regions' scores": lambda scores: float(np.median(scores)),
    "lowest of the regions' scores": lambda scores: float(scores.min()),
    "their 10th percentile": lambda scores: float(np.quantile(scores, 0.1)),
    "their 25th percentile": lambda scores: float(np.quantile(scores, 0.25)),
    "number of regions": len,
}


def main(
    data: Data,
    names: Annotated[Path | None, typer.Option(help="Text file, a name per line.")] = None,
    out: Annotated[Path, typer.Option(help="CSV file, a row per image.")] = Path("score.csv"),
    model: ModelName = "microscopy",
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
) -> None:
    """Pre-annotate the images, and print the correlations."""
    settings = Settings(model=model, engine=engine, memory_mb=1, disk_mb=1)
    service = Service(settings)
    context = RequestContext("", parse(payloads.config("BitmaskLabels")), service.settings)
    rows: list[dict[str, float]] = []
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for path in _images(data, names):
            row = measure(service, context, path, data / "labels" / f"{path.stem}.png")
            if not rows:
                writer.writerow(["image", *row])
            writer.writerow([path.stem, *row.values()])
            file.flush()
            rows.append(row)
    print_correlations(rows)


def measure(
    service: Service, context: RequestContext, path: Path, labels: Path
) -> dict[str, float]:
    """Pre-annotate one image.

    Returns:
        The true quality in two ways, the task's score, and others.
    """
    image = open_file(path, service.settings.max_pixels)
    prepared = service.preannotator.prepare(context, {})
    prediction = service.preannotator.preannotate(prepared, image)
    label_map = read_label_map(labels)
    size = (label_map.shape[0], label_map.shape[1])
    truth = [mask for _, mask in from_label_map(label_map)]
    found = [to_mask(region, path, size, "The answer") for region in prediction["result"]]
    ious = iou_matrix(truth, found) if found else np.zeros((len(truth), 1))
    same = ious[ious > SAME_OBJECT]
    quality = {
        "mean IoU": float(ious.max(axis=1).mean()),
        "panoptic quality": 2 * float(same.sum()) / (len(truth) + len(found)),
        "score": prediction["score"],
    }
    scores = np.array([region["score"] for region in prediction["result"]] or [0.0])
    return quality | {name: score(scores) for name, score in OTHER_SCORES.items()}


def print_correlations(rows: list[dict[str, float]]) -> None:
    """Print Spearman's correlations as a Markdown table."""
    print(f"{len(rows)} images\n")
    print("| score | with mean IoU | with panoptic quality |\n|---|---|---|")
    for name in ("score", *OTHER_SCORES):
        scores = [row[name] for row in rows]
        cells = [
            f"{spearmanr(scores, [row[true] for row in rows]).statistic:.2f}"
            for true in ("mean IoU", "panoptic quality")
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def _images(data: Path, names: Path | None) -> list[Path]:
    paths = sorted(p for p in (data / "images").iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if names is None:
        return paths
    lines = names.read_text(encoding="utf-8").splitlines()
    kept = {line.strip() for line in lines if line and not line.startswith("#")}
    return [path for path in paths if path.stem in kept]


if __name__ == "__main__":
    typer.run(main)
