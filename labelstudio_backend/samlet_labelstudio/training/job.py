"""The process that learns: `python -m samlet_labelstudio.training.job FOLDER`.

It reads FOLDER/job.json, images/ and annotations.json, trains as `samlet finetune --train decoder`
does, and writes FOLDER/outcome.json: figures on what was kept back, and notes on the labels; or an
error.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from samlet.errors import UserError
from samlet.evaluation.measure import measure_prompts
from samlet.evaluation.single_prompts import summary
from samlet.modeling.sam import Sam
from samlet.predict.predictor import Predictor
from samlet.training.finetuning.finetune import finetune
from samlet.training.settings import FinetuneSettings
from samlet.utils.files import atomic_path
from samlet_labelstudio.training.annotations import ANNOTATIONS, IMAGES
from samlet_labelstudio.training.trainer import JOB, OUTCOME


def main(folder: Path) -> None:
    """Do the job in a folder."""
    # Annotators, who wait for their clicks, come first.
    if hasattr(os, "nice"):
        os.nice(10)
    try:
        outcome = _learn(folder)
    except UserError as error:
        outcome = {"error": str(error)}
    with atomic_path(folder / OUTCOME) as temporary:
        temporary.write_text(json.dumps(outcome), encoding="utf-8")


def _learn(folder: Path) -> dict[str, Any]:
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    settings = FinetuneSettings(
        images=str(folder / IMAGES),
        labels=str(folder / ANNOTATIONS),
        model=job["model"],
        # Embeddings that are kept stay valid, and few labels spoil less.
        train="decoder",
        # Regions are as annotators have drawn them; what looks wrong is told.
        split=False,
        steps=job["steps"],
    )
    made = finetune(settings, folder / "run")

    def figures(model: Sam) -> dict[str, float]:
        scores = measure_prompts(Predictor(model, "torch"), made.validation)
        if not scores:
            raise UserError(
                "the annotated images that were kept back to judge by have no objects: "
                "annotate more."
            )
        return dict(summary(scores)["all"])

    return {
        "before": figures(made.before),
        "after": figures(made.after),
        "notes": list(made.notes),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
