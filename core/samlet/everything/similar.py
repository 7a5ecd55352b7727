"""Objects like examples, or "find all like these"."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from samlet.errors import UserError
from samlet.everything.duplicates import without_duplicates
from samlet.everything.likeness import EmbeddingGrid, Likeness, colours_of
from samlet.everything.roi_generator import RoiMaskGenerator
from samlet.everything.segment import mask_filter_of, open_search
from samlet.everything.settings import (
    MASK_THRESHOLDS,
    POINT_PROMPTS,
    EverythingSettings,
    complete_settings,
    default_settings,
)
from samlet.everything.similar_search import MAX_SIZE_RATIO, SimilarSearch
from samlet.everything.tiling import check_tiles, overlap_of
from samlet.everything.working_scale import SearchPlan, first_look, plan_for_side
from samlet.images import to_rgb
from samlet.masks import Box, CroppedMask, Mask, area, check_masks, crop_mask, from_label_map
from samlet.modeling.sam import Sam
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.predictor import Predictor

DEFAULT_LIKENESS = 0.5
"""Least likeness of what is found, unless another is asked for."""

MAX_COVERED = 0.5
"""Share of an object that may lie under others: objects of one kind are not parts of each other."""

MAX_KNOWN_EMBEDDINGS = 8
"""Embeddings that are kept from when the examples were looked at."""


def find_similar(
    predictor: Predictor,
    image: np.ndarray,
    examples: np.ndarray | Sequence[Mask],
    *,
    likeness: float = DEFAULT_LIKENESS,
    tile: int | None = None,
    overlap: int | None = None,
    progress: Callable[[float], None] | None = None,
    **settings: Unpack[EverythingSettings],
) -> list[dict[str, Any]]:
    """Find the other objects of an image that are like one or more examples, each once.

    The image is searched at the scale that suits the examples. Objects are what the model's own
    head finds, if it has one, and what clicks on the places that are most like the examples find.
    Of these, objects of a similar size whose embeddings are alike are kept.

    Args:
        predictor: what predicts.
        image: RGB uint8, H x W x 3, or any other array that `samlet.images.to_rgb` takes.
        examples: a label map (integers, H x W, each number an object), or masks: N x H x W or a
            sequence of H x W or RLE. One to three are enough; more make it hardly slower.
        likeness: least likeness of what is returned, 0 to 1. With 0 everything comparable is
            returned, so that the threshold can be chosen afterwards: leaving out records with a
            lower "likeness" gives what a higher threshold gives.
        tile: as in `samlet.segment_everything`.
        overlap: as there.
        progress: as there.
        settings: as there, but without those of points.

    Returns:
        one dictionary per object, by falling "likeness", with the keys of
        `samlet.segment_everything`, and "likeness", 0 to 1, to the most similar example (see
        `samlet.everything.likeness`). The examples are not among them.

    Raises:
        UserError: the array is not an image, there is no example, an example is empty or of another
            size, or a setting is out of its range or does not apply.

    Examples:
        >>> predictor = samlet.Predictor(samlet.load("microscopy"))
        >>> objects = samlet.find_similar(predictor, image, label_map)
        >>> very_similar = [one for one in objects if one["likeness"] > 0.8]
    """
    if not 0 <= likeness <= 1:
        raise UserError(f"likeness must be 0 to 1, not {likeness}.")
    if tile is not None:
        check_tiles(tile, overlap_of(tile, overlap))
    chosen = similar_settings(predictor.model, settings)
    rgb = to_rgb(image)
    marked = example_masks(examples, (rgb.shape[0], rgb.shape[1]))
    model_search = None
    if chosen["prompts"] not in POINT_PROMPTS:
        model_search = open_search(predictor, chosen)
    if predictor.model.instance_decoder is not None and model_search is not None:
        plan = model_search.plan(predictor, rgb, tile, overlap)
    else:
        plan = _plan(predictor, rgb, marked, tile, overlap)
    plan, compare = _look_at(marked, plan, rgb)
    mask_filter = mask_filter_of(predictor, chosen)
    generator = RoiMaskGenerator(
        predictor,
        SimilarSearch(rgb, plan, marked, compare, mask_filter, model_search),
        chosen["max_covered"],
        chosen.get("min_mask_region_area", 0),
    )
    found = without_duplicates(generator.generate(rgb, progress=progress))
    found = [record for record in found if record["likeness"] >= likeness]
    return sorted(found, key=lambda record: -record["likeness"])


def segment_similar(
    predictor: Predictor, image: np.ndarray, *, examples: Sequence[Mask], **options: Any
) -> list[dict[str, Any]]:
    """As `find_similar`, with the examples themselves as the first records."""
    found = find_similar(predictor, image, examples, **options)
    return [*map(_example_record, examples), *found]


def _example_record(example: Mask) -> dict[str, Any]:
    cropped = crop_mask(example)
    height, width = cropped.mask.shape
    return {
        "segmentation": cropped.to_rle(),
        "area": area(cropped.mask),
        "bbox": [cropped.x, cropped.y, width - 1, height - 1],
        "predicted_iou": 1.0,
        "likeness": 1.0,
    }


def similar_settings(model: Sam, chosen: EverythingSettings) -> dict[str, Any]:
    """The settings of `find_similar`: the model's, and those that were chosen in their place.

    Raises:
        UserError: a setting does not apply.
    """
    settings = complete_settings(model, chosen)
    is_by_points = settings["prompts"] in POINT_PROMPTS
    if is_by_points and settings["prompts"] != default_settings(model)["prompts"]:
        raise UserError(
            "Similar objects are searched for where they are likely, not at points of a grid or of "
            "regions: leave out prompts and settings of points."
        )
    thresholds = {
        # The distance maps of micro-sam have none, but clicks need them.
        name: settings.get(name) or threshold
        for name, threshold in MASK_THRESHOLDS.items()
    }
    return settings | thresholds | {"max_covered": chosen.get("max_covered", MAX_COVERED)}


def example_masks(
    examples: np.ndarray | Sequence[Mask], size: tuple[int, int]
) -> list[CroppedMask]:
    """The masks of examples, see `find_similar`.

    Args:
        examples: see there.
        size: (H, W) of the image.

    Raises:
        UserError: there is none, or one is empty or of another size.
    """
    masks: Iterable[Mask] = examples
    if isinstance(examples, np.ndarray) and examples.ndim == 2:
        is_map = examples.dtype != bool
        masks = (mask for _, mask in from_label_map(examples)) if is_map else [examples]
    found = [crop_mask(mask) for mask in masks]
    if not found:
        raise UserError("There is no example: mark at least one object of the kind to find.")
    check_masks(found, size, "Example")
    return found


def _plan(
    predictor: Predictor,
    rgb: np.ndarray,
    examples: Sequence[CroppedMask],
    tile: int | None,
    overlap: int | None,
) -> SearchPlan:
    """Search at the scale that suits examples, and proposals of similar sizes."""
    sides = np.sqrt([np.prod(example.mask.shape) for example in examples])
    embeddings: dict[Box, ImageEmbedding] = {}
    if predictor.model.proposal_head is not None:
        proposed, embeddings = first_look(predictor, rgb)
        ratio = MAX_SIZE_RATIO**0.5
        is_similar = (proposed > sides.min() / ratio) & (proposed < sides.max() * ratio)
        sides = np.append(sides, proposed[is_similar])
    side = float(np.median(sides))
    return plan_for_side(predictor, examples[0].size, side, tile, overlap, embeddings)


def _look_at(
    examples: Sequence[CroppedMask], plan: SearchPlan, rgb: np.ndarray
) -> tuple[SearchPlan, Likeness]:
    """See each example in the ROI that shows most of it; embeddings are added to the plan."""
    by_roi: dict[Box, list[CroppedMask]] = defaultdict(list)
    for example in examples:
        by_roi[plan.roi_of(example)].append(example)
    known = dict(plan.embeddings)
    embeddings, total, count = [], np.zeros(1), 0
    colours, contrasts = [], []
    for roi, shown in by_roi.items():
        embedding = plan.encode(rgb, roi)
        if len(known) < MAX_KNOWN_EMBEDDINGS:
            known[roi] = embedding
        grid = EmbeddingGrid.of(embedding, roi)
        total, count = total + grid.vectors.sum(axis=0), count + len(grid.vectors)
        x0, y0, x1, y1 = roi
        contrasts.append(rgb[y0:y1, x0:x1].std(axis=(0, 1)).mean())
        for example in shown:
            embeddings.append(grid.pooled(example.mask, example.x, example.y))
            colours.append(colours_of(rgb, example.mask, example.x, example.y))
    compare = Likeness(
        np.array(embeddings), total / count, np.array(colours), float(np.mean(contrasts))
    )
    return replace(plan, embeddings=known), compare
