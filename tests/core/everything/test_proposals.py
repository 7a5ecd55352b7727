"""The proposal head's output is read right, and objects are searched at the right scale."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy import ndimage

import samlet
from samlet.datasets.layers import iter_objects
from samlet.errors import UserError
from samlet.everything import proposal_search, working_scale
from samlet.everything.proposals import Proposals, find_proposals
from samlet.everything.settings import complete_settings
from samlet.everything.working_scale import plan_search
from samlet.masks import from_rle, iou_matrix, to_rle
from samlet.modeling.proposal_head import CELL, VERSION, ProposalHead, ProposalHeadConfig
from samlet.modeling.sam import Sam, SamConfig
from samlet.modeling.sam_vit import SamViTConfig
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.runner import Runner
from samlet.predict.window_decoder import decode_windows
from samlet.predict.zoom import smaller_input_model
from samlet.training.distillation.batches import normalize_images
from samlet.training.distillation.decoupled import attach_decoder
from samlet.training.finetuning.crops import CropBatch
from samlet.training.finetuning.prompt_trainer import PromptPlan, PromptTrainer
from samlet.training.finetuning.proposal_losses import proposal_targets
from tests.core.conftest import SMALL, sample

INPUT = 256


@pytest.fixture(scope="module")
def model() -> Sam:
    torch.manual_seed(0)
    model = Sam(replace(SMALL, image_size=INPUT))
    model.add_proposal_head()
    return model.eval()


@pytest.fixture(scope="module")
def predictor(model: Sam) -> samlet.Predictor:
    return samlet.Predictor(model, "torch")


def perfect_head(labels: np.ndarray) -> np.ndarray:
    """What a head that makes no mistake predicts for a label map of the model's input."""
    targets = proposal_targets(torch.from_numpy(labels.astype(np.int64))[None, None])
    logits = 20 * (targets.weight > 0).float() - 10
    return torch.cat([logits, targets.geometry], dim=1)[0].numpy()


def ellipses(*placed: tuple[int, int, int, int], size: tuple[int, int] = (256, 256)) -> np.ndarray:
    """Label map of ellipses, each a centre (x, y) and two radii; later ones lie above."""
    labels = np.zeros(size, np.int32)
    y, x = np.mgrid[: size[0], : size[1]]
    for number, (cx, cy, rx, ry) in enumerate(placed, start=1):
        labels[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1] = number
    return labels


def check(labels: np.ndarray) -> None:
    """Each object is proposed once, with a point on it and its box."""
    found = find_proposals(perfect_head(labels), labels.shape)
    columns, rows = found.points.astype(int).T
    numbers = labels[rows, columns]
    assert sorted(numbers.tolist()) == [n for n in np.unique(labels) if n]
    boxes = ndimage.find_objects(labels)
    for number, box in zip(numbers, found.boxes, strict=True):
        rows_of, columns_of = boxes[number - 1]
        expected = columns_of.start, rows_of.start, columns_of.stop, rows_of.stop
        assert np.abs(box - expected).max() <= CELL
    assert (found.completeness > proposal_search.MIN_COMPLETENESS).all()


def test_every_object_is_proposed_once() -> None:
    check(ellipses((50, 60, 30, 30), (150, 150, 12, 25), (220, 40, 6, 6)))
    check(ellipses((60, 60, 20, 20), (100, 60, 20, 20), (80, 95, 20, 20)))  # they touch
    check(ellipses((128, 128, 400, 400)))  # all of the image
    check(ellipses((3, 3, 6, 6), (250, 128, 12, 30)))  # cut by the image's border
    check(ellipses((100, 3, 30, 8), size=(8, 256)))


def test_many_small_objects() -> None:
    labels = np.zeros((1024, 1024), np.int32)
    number = 0
    for y in range(4, 1020, 12):
        for x in range(4, 1020, 12):
            number += 1
            labels[y : y + 8, x : x + 8] = number
    found = find_proposals(perfect_head(labels), labels.shape)
    assert number == len(found) > 7000


def test_nothing_is_proposed_where_nothing_is() -> None:
    assert len(find_proposals(perfect_head(np.zeros((64, 64), np.int32)), (64, 64))) == 0
    # Padding does not count.
    labels = ellipses((50, 200, 30, 30))
    assert len(find_proposals(perfect_head(labels), (100, 256))) == 0


def test_a_window_is_decoded_as_by_a_model_of_its_size(model: Sam) -> None:
    """The independent reference: the whole decoder, on the part of the embedding by itself."""
    small = smaller_input_model(model, 128)
    runner = Runner(model, "torch")
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    embedding = runner.encode(image)
    points = np.array([[40.0, 70.0], [200.0, 130.0], [128.0, 128.0]])
    boxes = np.array([[20.0, 50, 70, 90], [180, 110, 240, 160], [100, 100, 160, 150]])
    decoded = list(decode_windows(Runner(small, "torch"), embedding, points, boxes, -np.inf))
    assert [one.prompt for one in decoded] == [0, 1, 2]
    for one, point, box, corner in zip(
        decoded, points, boxes, ((0, 0), (8, 4), (4, 4)), strict=True
    ):
        x, y = corner
        part = embedding.features[None, :, y : y + 8, x : x + 8]
        moved = torch.tensor(point - 16 * np.array(corner), dtype=torch.float).view(1, 1, 2)
        moved_box = torch.tensor(box - 16 * np.tile(corner, 2), dtype=torch.float)[None]
        with torch.no_grad():
            logits, iou = small.decode(part, (moved, torch.ones(1, 1)), moved_box, None, False)
        window = one.logits[4 * y : 4 * y + 32, 4 * x : 4 * x + 32]
        assert np.allclose(window, logits[0, 0].numpy(), atol=1e-4)
        assert one.iou == pytest.approx(float(iou), abs=1e-5)


SIDES: dict[str, tuple[tuple[int, int], float, int, int]] = {
    "objects are large enough at half the size": ((100, 120), 100, 128, 1),
    "or in the whole image": ((200, 200), 60, 256, 1),
    "or only in parts of it": ((200, 200), 20, 256, 16),
}


@pytest.mark.parametrize("case", SIDES)
def test_the_scale_follows_the_objects(
    predictor: samlet.Predictor, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    size, side, input_size, least = SIDES[case]
    scale = 128 / max(size)
    box = scale * side * np.array([[0, 0, 1, 1]])
    known = Proposals(np.zeros((1, 2)), box, np.ones(1))
    monkeypatch.setattr(working_scale, "proposals_of", lambda *_: known)
    monkeypatch.setattr(working_scale, "OBJECT_SIDE", 80.0)
    plan = plan_search(predictor, np.zeros((*size, 3), np.uint8), None, None)
    assert plan.runner.model.config.image_size == input_size
    assert len(plan.rois) >= least and (least > 1 or len(plan.rois) == 1)
    covered = np.zeros(size, bool)
    for x0, y0, x1, y1 in plan.rois:
        covered[y0:y1, x0:x1] = True
    assert covered.all()


def test_a_model_without_a_head_says_so(small_model: Sam) -> None:
    predictor = samlet.Predictor(small_model, "torch")
    with pytest.raises(UserError, match="no proposal head: choose other prompts"):
        samlet.segment_everything(predictor, np.zeros((9, 9, 3), np.uint8), prompts="proposals")
    assert complete_settings(small_model, {})["prompts"] == "regions"


def test_settings_of_points_are_refused_with_proposals(model: Sam) -> None:
    assert complete_settings(model, {})["prompts"] == "proposals"
    assert complete_settings(model, {"points_per_side": 4})["prompts"] == "grid"
    with pytest.raises(
        UserError, match="zoom does not apply to prompts by proposals: leave it out"
    ):
        complete_settings(model, {"prompts": "proposals", "zoom": False})
    with pytest.raises(UserError, match="prompts must be proposals, distances"):
        complete_settings(model, {"prompts": "all"})
    with pytest.raises(UserError, match="prompts must be grid"):
        samlet.SamAutomaticMaskGenerator(model, prompts="proposals", engine="torch")


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (64, 64)])
@pytest.mark.parametrize("value", [0, 255])
def test_images_without_anything(
    predictor: samlet.Predictor, size: tuple[int, int], value: int
) -> None:
    image = np.full((*size, 3), value, np.uint8)
    for record in samlet.segment_everything(predictor, image, pred_iou_thresh=0):
        assert from_rle(record["segmentation"]).shape == size


@pytest.mark.parametrize(
    "wrong",
    [{"tile": 8}, {"tile": 64, "overlap": 60}, {"max_covered": 2}, {"min_mask_region_area": -1}],
)
def test_wrong_settings(predictor: samlet.Predictor, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        samlet.segment_everything(predictor, np.zeros((9, 9, 3), np.uint8), **wrong)


def test_progress_rises_to_the_end(predictor: samlet.Predictor) -> None:
    shares: list[float] = []
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    samlet.segment_everything(predictor, image, tile=150, progress=shares.append)
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1 and len(shares) > 4


def test_an_encoder_that_is_tied_to_its_size() -> None:
    config = SamConfig("sam_vit", 128, None, SamViTConfig(32, 2, 2, (1,)))
    model = Sam(replace(config, proposal_head=ProposalHeadConfig())).eval()
    with torch.no_grad():
        # Foreground everywhere, so that there is something to decode.
        model.get_parameter("proposal_head.predict.bias")[0] = 5
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    predictor = samlet.Predictor(model, "torch")
    records = samlet.segment_everything(
        predictor, image, pred_iou_thresh=0, stability_score_thresh=0
    )
    assert all(from_rle(record["segmentation"]).shape == (60, 80) for record in records)


def test_a_large_image_is_searched_in_parts(
    predictor: samlet.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its samples are seen pixel by pixel, and so tell how large objects are."""
    seen: list[tuple[int, ...]] = []

    def known(runner: Runner, embedding: ImageEmbedding) -> Proposals:
        seen.append(embedding.original_size)
        return Proposals(np.zeros((1, 2)), np.array([[0, 0, 80, 80]]), np.ones(1))

    monkeypatch.setattr(working_scale, "proposals_of", known)
    plan = plan_search(predictor, np.zeros((700, 900, 3), np.uint8), None, None)
    assert set(seen) == {(128, 128)} and len(seen) == working_scale.SAMPLES_PER_SIDE**2
    x0, y0, x1, y1 = plan.rois[0]
    # 80 px become as many as are aimed at.
    assert x1 - x0 == y1 - y0 == round(256 / working_scale.OBJECT_SIDE * 80)
    assert plan.overlap >= (x1 - x0) // 4 and len(plan.rois) > 9


def test_the_head_is_of_the_size_that_it_says() -> None:
    head = ProposalHead(ProposalHeadConfig(width=8), 256)
    assert head(torch.zeros(2, 256, 5, 6)).shape == (2, 7, 20, 24)


def test_the_head_is_kept_in_our_format_only(model: Sam, tmp_path: Path) -> None:
    ours, official = tmp_path / "a.safetensors", tmp_path / "a.pt"
    samlet.save(model, ours)
    samlet.save(model, official)
    again = samlet.load(ours)
    assert again.config == model.config
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    assert not any("proposal" in name for name in torch.load(official, weights_only=True))


@pytest.mark.parametrize("with_head", [False, True])
def test_only_files_with_a_head_need_this_version(
    model: Sam, small_model: Sam, tmp_path: Path, with_head: bool
) -> None:
    path = tmp_path / "a.safetensors"
    samlet.save(model if with_head else small_model, path)
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["samlet"])
    assert facts["format"] == 1 + with_head and ("proposal_head" in facts["config"]) == with_head


def test_a_head_of_a_later_version_is_refused(model: Sam, tmp_path: Path) -> None:
    later = Sam(replace(model.config, proposal_head=ProposalHeadConfig(version=VERSION + 1)))
    path = tmp_path / "a.safetensors"
    samlet.save(later, path)
    with pytest.raises(UserError, match="newer version of samlet; upgrade"):
        samlet.load(path)


def test_a_student_gets_the_head_of_its_teacher(model: Sam) -> None:
    student = attach_decoder(model, Sam(replace(SMALL, image_size=INPUT)))
    assert student.config.proposal_head == model.config.proposal_head
    assert student.proposal_head is not None and model.proposal_head is not None
    for name, value in model.proposal_head.state_dict().items():
        assert torch.equal(student.proposal_head.state_dict()[name], value)


def test_the_head_learns_by_itself(model: Sam) -> None:
    """Nothing else changes, and what it finds becomes right."""
    torch.manual_seed(0)
    learner = PromptTrainer(deepcopy(model), PromptPlan(), "head").train()
    head = learner.model.proposal_head
    assert head is not None
    before = {k: v.clone() for k, v in learner.model.state_dict().items()}
    pixels = torch.zeros(1, 3, 128, 128)
    labels = torch.zeros(1, 1, 128, 128, dtype=torch.long)
    for number, (x, y) in enumerate(((20, 20), (80, 30), (50, 90)), start=1):
        labels[..., y : y + 32, x : x + 32] = number
        pixels[..., y : y + 32, x : x + 32] = 255
    batch = CropBatch(pixels, labels)
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], 5e-3)
    for _ in range(150):
        losses = learner(batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    assert set(losses) == {"foreground", "offsets", "boxes"}
    after = learner.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("proposal_head.") for name in changed)
    with torch.no_grad():
        embeddings = learner.model.image_encoder(normalize_images(model, pixels, batch.valid))
        predicted = head(embeddings)[0].numpy()
    found = find_proposals(predicted, (128, 128))
    columns, rows = found.points.astype(int).T
    assert sorted(labels[0, 0, rows, columns].tolist()) == [1, 2, 3]


@pytest.mark.parametrize("name", ["fluorescence_1", "stained_2"])
def test_real_images(name: str) -> None:
    """At the size that the bundled model is made for."""
    example = sample(name)
    predictor = samlet.Predictor(samlet.load("microscopy"))
    masks = [one["segmentation"] for one in samlet.segment_everything(predictor, example.image)]
    truth = [to_rle(mask) for _, mask in iter_objects(example.labels)]
    found = int((iou_matrix(masks, truth) > 0.5).any(axis=0).sum())
    assert 2 * found / (len(masks) + len(truth)) > 0.75


def test_tiles_find_what_the_whole_image_shows() -> None:
    example = sample("fluorescence_2")
    predictor = samlet.Predictor(samlet.load("microscopy"))
    whole = samlet.segment_everything(predictor, example.image)
    tiled = samlet.segment_everything(predictor, example.image, tile=280, overlap=110)
    same = iou_matrix(*([one["segmentation"] for one in found] for found in (whole, tiled))) > 0.5
    assert same.any(axis=1).mean() > 0.8 and same.any(axis=0).mean() > 0.8
