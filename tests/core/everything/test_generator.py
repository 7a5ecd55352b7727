"""Everything mode on its own: geometry, invariants, and images on which nothing is found."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import samlet
from samlet import masks, samples
from samlet.engines import DecoderTokens, ImageState
from samlet.errors import UserError
from samlet.everything.crops import crop_boxes, is_cut_off, layer_grids, point_grid
from samlet.everything.generator import SamAutomaticMaskGenerator
from samlet.everything.point_prompts import coarse_to_fine, region_points
from samlet.masks import from_label_map
from samlet.modeling.sam import Sam
from samlet.outputs import read_label_map
from samlet.predict.mask_upsampler import MaskUpsampler
from samlet.predict.transforms import ResizeLongestSide
from tests.core.everything.scripted_engines import Scripted

Discovery = Callable[..., SamAutomaticMaskGenerator]

ALL: dict[str, Any] = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1}


class Discs(Scripted):
    """Around each point discs of three radii, the more trusted the larger."""

    def __init__(self, model: Sam) -> None:
        super().__init__(model)
        self.asked = 0

    def run_prompts(
        self, image: ImageState, points: Any = None, *rest: Any
    ) -> Iterator[DecoderTokens]:
        self.asked += len(points[0])
        radii = torch.tensor([0.0, 2.0, 4.0, 6.0]).view(1, 4, 1).repeat(len(points[0]), 1, 1)
        yield DecoderTokens(
            points[0], radii, torch.tensor([[0, 0.7, 0.8, 0.9]]).repeat(len(radii), 1)
        )

    def upscale(self, tokens: Tensor, kernels: Tensor) -> Tensor:
        y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
        centre = ((tokens + 0.5) / 4 - 0.5).unsqueeze(1)
        distance = torch.hypot(x - centre[..., :1], y - centre[..., 1:])
        return 2 * (kernels.unsqueeze(-1) - distance)


@pytest.fixture(scope="module")
def discs(model: Sam) -> Discovery:
    return partial(SamAutomaticMaskGenerator, model, engine=Discs(model))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_grid_is_at_the_centres_of_cells_row_by_row() -> None:
    assert np.allclose(point_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    assert [len(grid) for grid in layer_grids(8, None, 2, 2)] == [64, 16, 4]


def test_crops_cover_the_image_and_hold_pixels() -> None:
    for size in ((100, 100), (5, 40), (1, 1), (333, 17)):
        covered = np.zeros((4, *size), int)
        for (x0, y0, x1, y1), layer in crop_boxes(size, 3, 512 / 1500):
            assert 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]
            covered[layer, y0:y1, x0:x1] += 1
        assert covered.all()
    boxes = [box for box, _ in crop_boxes((300, 600), 1, 0.2)]
    assert boxes == [
        (0, 0, 600, 300),
        (0, 0, 330, 180),
        (0, 120, 330, 300),
        (270, 0, 600, 180),
        (270, 120, 600, 300),
    ]


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((0, 0, 50, 50), False),  # at the image's own edges
        ((30, 30, 90, 50), True),  # within 20 pixels of the crop's right edge
        ((30, 30, 79, 50), False),
        ((30, 30, 50, 80), True),
    ],
)
def test_masks_at_a_crops_inner_edges_are_cut_off(box: Any, cut: bool) -> None:
    assert is_cut_off(box, (0, 0, 100, 100), (300, 300)) is cut


@pytest.mark.parametrize("size", [(256, 256), (700, 500), (40, 90), (5, 40), (1, 1), (200, 3)])
def test_enlarged_window_equals_the_enlarged_whole(model: Sam, size: tuple[int, int]) -> None:
    resized = ResizeLongestSide.get_preprocess_shape(*size, 256)
    enlarger = MaskUpsampler(256, resized, size)
    torch.manual_seed(0)
    for level in (-1.0, 2.5, 3.9, 9.0):
        logits = torch.randn(64, 64)
        whole = model.postprocess_masks(logits[None, None], resized, size)[0, 0].numpy()
        window, left, top = enlarger(logits.numpy(), level)
        height, width = window.shape
        inside = whole[top : top + height, left : left + width]
        assert np.allclose(window, inside, rtol=0, atol=1e-5)
        assert np.count_nonzero(whole > level) == np.count_nonzero(inside > level)


@pytest.mark.parametrize("size", [(200, 300), (5, 40), (1, 1), (30, 400)])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_records_are_consistent(discs: Discovery, size: tuple[int, int], layers: int) -> None:
    generator = discs(3, crop_n_layers=layers, **ALL)
    records = generator.generate(noise(*size))
    assert records
    for record in records:
        mask = record["segmentation"]
        assert mask.shape == size and mask.dtype == bool and mask.any()
        x0, y0, x1, y1 = masks.box_xyxy(mask)
        assert record["bbox"] == [x0, y0, x1 - x0 - 1, y1 - y0 - 1]
        assert record["area"] == mask.sum() and isinstance(record["area"], int)
        assert 0 <= record["stability_score"] <= 1
        ((x, y),) = record["point_coords"]
        assert mask[min(int(y), size[0] - 1), min(int(x), size[1] - 1)]
        left, top, width, height = record["crop_box"]
        assert left <= x <= left + width and top <= y <= top + height


def test_each_filter_does_its_part(discs: Discovery) -> None:
    image = noise(256, 256)

    def count(**options: Any) -> int:
        return len(discs(4, **{**ALL, **options}).generate(image))

    assert count() == 48
    assert count(pred_iou_thresh=0.75) == 32
    assert count(pred_iou_thresh=0.9) == 0  # float32 of 0.9 is not above it
    # Radii move by half: ((r - 0.5) / (r + 0.5))^2 is 0.36, 0.60 and 0.72.
    assert count(stability_score_thresh=0.66) == 16
    assert count(stability_score_thresh=0.5) == 32
    # Boxes of one point's neighbouring discs have an IoU of 0.25 and 0.44.
    assert count(box_nms_thresh=0.4) == 32
    # The two smaller discs of a point lie within the largest.
    assert count(max_covered=0.99) == 16


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.8])
def test_what_lies_under_better_masks_goes(discs: Discovery, share: float, layers: int) -> None:
    image = noise(90, 130)
    options = {**ALL, "crop_n_layers": layers, "points_per_side": 6}
    everything = discs(**options).generate(image)
    kept = discs(**options, max_covered=share).generate(image)
    assert 0 < len(kept) < len(everything)

    def identity(record: dict[str, Any]) -> tuple[Any, ...]:
        return record["predicted_iou"], *record["point_coords"][0], *record["crop_box"]

    order = [identity(record) for record in everything]
    positions = [order.index(identity(record)) for record in kept]
    assert positions == sorted(positions)
    covered = np.zeros(image.shape[:2], bool)
    for i in sorted(range(len(order)), key=lambda i: -everything[i]["predicted_iou"]):
        mask = everything[i]["segmentation"]
        assert (i in positions) is bool(covered[mask].mean() <= share)
        if i in positions:
            covered |= mask


def test_better_masks_come_first_and_smaller_crops_before(discs: Discovery) -> None:
    records = discs(3, **ALL).generate(noise(200, 200))
    assert all(a["predicted_iou"] >= b["predicted_iou"] for a, b in pairwise(records))
    records = discs(3, crop_n_layers=1, **ALL).generate(noise(200, 200))
    areas = [r["crop_box"][2] * r["crop_box"][3] for r in records]
    assert areas == sorted(areas) and len(set(areas)) > 1


def test_output_modes_hold_the_same_mask(discs: Discovery) -> None:
    image = noise(60, 90)
    plain, runs, coco = (
        discs(3, output_mode=mode, **ALL).generate(image)
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle")
    )
    for a, b, c in zip(plain, runs, coco, strict=True):
        assert np.array_equal(masks.from_rle(b["segmentation"]), a["segmentation"])
        assert c["segmentation"] == masks.to_rle(a["segmentation"])
        assert all(isinstance(n, int) for n in b["segmentation"]["counts"])


def test_small_regions_go(discs: Discovery) -> None:
    # All background is a hole of fewer than 40 pixels, so that all masks become the same.
    options = {**ALL, "box_nms_thresh": 0.7}
    generator = discs(2, min_mask_region_area=40, **options)
    assert [r["area"] for r in generator.generate(noise(6, 6))] == [36]


def test_nothing_found_gives_an_empty_list(discs: Discovery) -> None:
    image = noise(120, 80)
    filters: list[dict[str, Any]] = [
        {"pred_iou_thresh": 2.0},
        {"stability_score_thresh": 2.0},
        {"pred_iou_thresh": 2.0, "crop_n_layers": 1, "min_mask_region_area": 50},
    ]
    for options in filters:
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle"):
            generator = discs(3, output_mode=mode, **options)
            assert generator.generate(image) == []


def test_any_image_that_to_rgb_takes(discs: Discovery) -> None:
    grey = noise(70, 50)[..., 0]
    generator = discs(2, crop_n_layers=1, **ALL)
    sets = [
        generator.generate(image)
        for image in (grey, np.repeat(grey[..., None], 3, axis=2), grey.astype(np.uint16) * 257)
    ]
    assert len({len(records) for records in sets}) == 1
    with pytest.raises(UserError):
        generator.generate(np.zeros((4, 4, 9), np.uint8))


def test_default_filters_on_an_untrained_model_without_warnings(model: Sam) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert SamAutomaticMaskGenerator(model, 3).generate(noise(50, 200)) == []


def test_progress_rises_to_one_and_can_cancel(discs: Discovery) -> None:
    fractions: list[float] = []
    generator = discs(3, points_per_batch=4, crop_n_layers=1)
    generator.generate(noise(100, 100), progress=fractions.append)
    shares = np.array([4 / 9, 8 / 9, 1])
    assert np.allclose(fractions, np.concatenate([shares + crop for crop in range(5)]) / 5)

    def cancel(fraction: float) -> None:
        fractions.append(fraction)
        raise InterruptedError

    fractions.clear()
    with pytest.raises(InterruptedError):
        generator.generate(noise(100, 100), progress=cancel)
    assert len(fractions) == 1


def test_a_grid_is_gone_through_from_coarse_to_fine() -> None:
    for side in (1, 2, 3, 5, 8, 24):
        rounds = coarse_to_fine(side)
        together = np.concatenate(rounds)
        assert sorted(map(tuple, together)) == sorted(map(tuple, point_grid(side)))
        assert list(map(len, rounds)) == sorted(map(len, rounds))
    assert np.allclose(coarse_to_fine(4)[0], [[0.625, 0.625]])


def test_what_is_covered_is_not_asked_for_again(model: Sam) -> None:
    """Discs of a radius of 24 pixels around every fourth of 16 x 16 points cover most others."""
    engine = Discs(model)
    options = {"engine": engine, **ALL, "pred_iou_thresh": 0.65}
    whole = SamAutomaticMaskGenerator(model, 16, **options).generate(noise(256, 256))
    engine.asked = 0
    fractions: list[float] = []
    generator = SamAutomaticMaskGenerator(model, 16, prompts="hierarchical", **options)
    found = generator.generate(noise(256, 256), progress=fractions.append)
    assert 16 <= engine.asked <= 256 / 2
    assert len(found) == 3 * engine.asked < len(whole) == 3 * 256
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_each_region_is_clicked_at_its_deepest_point(model: Sam) -> None:
    image = np.zeros((120, 200, 3), np.uint8)
    image[20:61, 30:71] = 200
    image[70:111, 130:171] = (200, 20, 20)
    points = region_points(image) * (200, 120)
    assert 3 <= len(points) < 10
    for centre in ((50.5, 40.5), (150.5, 90.5)):
        assert np.abs(points - centre).max(axis=1).min() < 1.5
    engine = Discs(model)
    SamAutomaticMaskGenerator(model, prompts="regions", engine=engine, **ALL).generate(image)
    assert engine.asked == len(points)


def test_noise_has_no_more_points_than_a_grid() -> None:
    image = noise(256, 256)
    # Uniform noise has thousands of regions; one large object among it must not be lost.
    image[100:140, 60:120] = 128
    points = region_points(image) * (256, 256)
    assert len(points) == 32 * 32
    assert np.abs(points - (90, 120)).max(axis=1).min() < 20


@pytest.mark.parametrize("size", [(1, 1), (2, 400), (300, 1)])
@pytest.mark.parametrize("prompts", ["regions", "hierarchical"])
def test_the_thinnest_image_is_clicked_on(
    discs: Discovery, size: tuple[int, int], prompts: str
) -> None:
    assert discs(3, prompts=prompts, **ALL).generate(noise(*size))


def test_one_encode_a_crop(model: Sam) -> None:
    engine = Discs(model)
    SamAutomaticMaskGenerator(
        model, 4, points_per_batch=5, crop_n_layers=1, engine=engine
    ).generate(noise(90, 90))
    assert engine.encoded == 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"points_per_side": None}, "Give either"),
        ({"prompts": "random"}, "prompts must be grid, hierarchical, regions"),
        (
            {"prompts": "hierarchical", "points_per_side": None, "point_grids": [point_grid(2)]},
            "need points_per_side",
        ),
        ({"point_grids": [point_grid(2)]}, "Give either"),
        ({"points_per_side": 0}, "leaves a layer without points"),
        (
            {"points_per_side": 2, "crop_n_layers": 2, "crop_n_points_downscale_factor": 2},
            "leaves a layer without points",
        ),
        ({"points_per_side": None, "point_grids": [point_grid(2)], "crop_n_layers": 1}, "need 2"),
        ({"points_per_side": None, "point_grids": [np.zeros((3, 3))]}, "two columns"),
        ({"points_per_side": None, "point_grids": [np.zeros((0, 2))]}, "two columns"),
        ({"points_per_side": None, "point_grids": [np.full((1, 2), 7)]}, "fractions"),
        ({"points_per_batch": 0}, "points_per_batch must be at least 1"),
        ({"crop_n_layers": -1}, "crop_n_layers must be at least 0"),
        ({"stability_score_offset": -1.0}, "stability_score_offset must"),
        ({"crop_n_points_downscale_factor": 0}, "downscale_factor must"),
        ({"min_mask_region_area": -5}, "min_mask_region_area must"),
        ({"crop_overlap_ratio": 1.0}, "crop_overlap_ratio must"),
        ({"max_covered": 1.2}, "max_covered must be 0 to 1, not 1.2"),
        ({"output_mode": "png"}, "output_mode must be binary_mask, uncompressed_rle, coco_rle"),
    ],
)
def test_wrong_arguments_are_told(discs: Discovery, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        discs(**options)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("fluorescence_2", 15),
        pytest.param("stained_2", 15, marks=pytest.mark.slow),
        pytest.param("brightfield_1", 1, marks=pytest.mark.slow),
    ],
)
def test_what_a_user_types_first_finds_objects(name: str, least: int) -> None:
    """No threshold given: those of the model's card, since segment_anything's reject all masks.

    The grid is coarser than a user's, which only takes time.
    """
    image = samlet.images.read(samples.IMAGES / f"{name}.png")
    truth = [m for _, m in from_label_map(read_label_map(samples.LABELS / f"{name}.png"))]
    generator = SamAutomaticMaskGenerator(samlet.load("microscopy"), points_per_side=8)
    found = [record["segmentation"] for record in generator.generate(image)]
    assert sum(any(masks.iou(mask, one) >= 0.5 for one in found) for mask in truth) >= least


def test_thresholds_come_from_the_card_and_are_segment_anythings_without(
    nuclei: Sam, small_model: Sam
) -> None:
    import segment_anything

    own = SamAutomaticMaskGenerator(nuclei)
    names = ("pred_iou_thresh", "stability_score_thresh", "max_covered")
    assert {name: getattr(own, name) for name in names} == {
        name: nuclei.card["everything"][name] for name in names
    }
    theirs = inspect.signature(segment_anything.SamAutomaticMaskGenerator).parameters
    official = SamAutomaticMaskGenerator(small_model)
    for name in names[:2]:
        assert getattr(official, name) == theirs[name].default
    assert official.max_covered == 1
    assert SamAutomaticMaskGenerator(nuclei, pred_iou_thresh=0.0).pred_iou_thresh == 0


def test_nothing_found_is_said_where_thresholds_may_be_why(small_model: Sam) -> None:
    generator = SamAutomaticMaskGenerator(small_model, points_per_side=2)
    with pytest.warns(UserWarning, match="lower pred_iou_thresh and stability_score_thresh"):
        assert generator.generate(noise(100, 100)) == []
    with pytest.warns(UserWarning, match="lower pred_iou_thresh") as told:
        assert samlet.TiledMaskGenerator(generator, 64, 16).generate(noise(100, 100)) == []
    assert len(told) == 1
