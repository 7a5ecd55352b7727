"""The bundled model for smaller images, where its full size would only take time."""

import samlet
from samlet.modeling.sam import Sam
from samlet.training.distillation.distill import at_size


def nuclei_at(image_size: int) -> Sam:
    """The bundled model for images of another size in pixels; half is a quarter of the work."""
    return at_size(samlet.load("microscopy"), image_size)


def quick_nuclei(image_size: int = 256) -> Sam:
    """The same, with an everything mode of few points and one pass, wherever it is run.

    For what does not depend on how well everything mode finds objects.
    """
    model = nuclei_at(image_size)
    everything = model.card["everything"] | {"prompts": "grid", "points_per_side": 8}
    # Coarse masks would not pass the card's.
    thresholds = {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.3}
    model.card = model.card | {"zoom": False, "everything": everything | thresholds}
    return model
