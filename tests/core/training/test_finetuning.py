"""Finetuning and measuring on labels: which are used, what is told, and what a full disk leaves."""

import csv
import json
import random
import resource
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

import samlet
from samlet import samples
from samlet.cli.main import app
from samlet.datasets import find_labelled_images
from samlet.datasets.checking import check_labels
from samlet.datasets.examples import Example, object_boxes
from samlet.masks import to_rle as rle_of
from samlet.training import run_state, train_logger
from samlet.training.finetuning.crops import Crops
from samlet.training.finetuning.finetune import finetune
from samlet.training.finetuning.proposal_losses import proposal_targets
from samlet.training.held_out import hash_position, held_out_names, held_out_slices
from samlet.training.loop import UnsavedError, train
from samlet.training.run_files import PARTIAL_MODEL, SKIPPED
from samlet.training.run_state import PREVIOUS_STATE, STATE
from samlet.training.settings import FinetuneSettings, LoopSettings
from tests.core.training.test_training import Line, numbers

RUNNER = CliRunner()


def settings(data: Path, model: Path, **more: object) -> FinetuneSettings:
    chosen = FinetuneSettings(
        images=str(data / "images"), labels=str(data / "labels"), model=str(model), steps=2,
        batch_size=1, objects=2, train="decoder", precision="no", threads=1,
    )  # fmt: skip
    return chosen.model_copy(update=more)


def command(data: Path, model: Path, *more: str) -> list[str]:
    given = ["finetune", str(data / "images"), str(data / "labels"), "--model", str(model)]
    return [*given, "--steps", "1", "--batch-size", "1", "--out", str(data / "run"), *more]


def change_labels(data: Path, change: object) -> None:
    for path in (data / "labels").iterdir():
        changed = change(np.asarray(Image.open(path)).astype(np.int64))  # type: ignore[operator]
        Image.fromarray(changed.astype(np.uint8)).save(path)


def test_none_that_was_learnt_from_is_judged_by_later() -> None:
    names = [f"{random.Random(3).random()}-{i}.png" for i in range(400)]
    order = random.Random(1)
    for _ in range(30):
        shuffled = order.sample(names, len(names))
        learnt: set[str] = set()
        for count in (2, 3, 5, 10, 60, 150, 400):
            there = shuffled[:count]
            held = set(held_out_names(there, 0.1))
            assert held and held < set(there)
            # The exception that is told: all images there were of the tenth.
            if any(hash_position(name) >= 0.1 for name in shuffled[:2]):
                assert not held & learnt
            learnt |= set(there) - held
            if count >= 150:
                assert held == {name for name in there if hash_position(name) < 0.1}
    assert held_out_names(["a.png"], 0.1) == []
    assert 25 < len(held_out_names(names, 0.1)) < 55


def test_slices_of_a_stack_are_on_one_side() -> None:
    singles = {f"{n}.png": Path(f"{n}.png") for n in range(40)}
    assert held_out_slices(singles, 0.1) == held_out_names([*singles], 0.1)
    slices = {f"a/{n}.tif.z{z}": Path(f"a/{n}.tif.z{z}") for n in range(40) for z in range(3)}
    held = held_out_slices(slices, 0.1)
    assert [name[:-3] for name in held[::3]] == held_out_names(
        [f"a/{n}.tif" for n in range(40)], 0.1
    )
    assert len(held) == 3 * len({name[:-3] for name in held})
    # Of a single stack, some of its slices.
    single = {name: path for name, path in slices.items() if name.startswith("a/7.tif")}
    assert len(held_out_slices(single, 0.1)) == 1
    composed = unicodedata.normalize("NFC", "Zelle ü.png")
    assert hash_position(composed) == hash_position(unicodedata.normalize("NFD", composed))


def test_a_second_round_is_judged_by_what_the_first_has_not_seen(
    data: Path, small_file: Path
) -> None:
    few = data / "few"
    for kind in ("images", "labels"):
        (few / kind).mkdir(parents=True)
        for name in ("1.png", "3.png", "6.png", "9.png"):
            shutil.copy(data / kind / name, few / kind)
    first = finetune(settings(few, small_file), data / "one")
    second = finetune(settings(data, first.path), data / "two")
    judged = [{item.path.name for item in made.held_out.labelled} for made in (first, second)]
    assert judged == [{"6.png"}, {"0.png", "6.png", "8.png"}]


def test_names_in_many_folders_are_told_apart(data: Path, small_file: Path) -> None:
    for kind in ("images", "labels"):
        for path in list((data / kind).iterdir()):
            (data / kind / path.stem).mkdir()
            path.rename(data / kind / path.stem / "picture.png")
    made = finetune(settings(data, small_file), data / "run")
    assert len(made.held_out) >= 1


def test_labels_that_do_not_match_are_told(data: Path, small_file: Path) -> None:
    for image, label_map in (("1", "one"), ("2", "two")):
        (data / "labels" / f"{image}.png").rename(data / "labels" / f"{label_map}.png")
    for kind, name in (("images", "Zelle \u00fc.png"), ("labels", "Zelle u\u0308.png")):
        (data / kind / "3.png").rename(data / kind / name)
    nowhere = RUNNER.invoke(app, command(data, Path("nope")))
    assert "There is no model nope" in str(nowhere.exception)
    assert "have labels" not in nowhere.output

    told = "8 of 10 images have labels. Without labels: 1.png, 2.png. "
    told += "Labels without an image: one.png, two.png."
    result = RUNNER.invoke(app, command(data, small_file))
    assert result.exit_code == 0, result.output
    assert told in result.output
    assert result.output.index(told) < result.output.index("Wrote")
    assert "5 images for training, 3 held out: 6.png, 0.png, 8.png." in result.output
    assert "Mean IoU on 3 held-out images:" in result.output

    measured = ["evaluate", str(small_file), str(data), "--only", "prompts"]
    result = RUNNER.invoke(app, [*measured, "--out", str(data / "out")])
    assert result.exit_code == 0, result.output
    assert told in result.output and told in (data / "out" / "report.md").read_text()


def parts_of(values: np.ndarray) -> int:
    return int(ndimage.label(values > 0, np.ones((3, 3)))[1])


def test_masks_are_no_label_maps(data: Path, small_file: Path) -> None:
    change_labels(data, lambda values: (values > 0) * 255)
    refused = r"The labels look like class masks .*, as 10 objects are in \d+ separate parts.*255"
    refused += r".*add --split .* or --no-split"
    with pytest.raises(samlet.UserError, match=refused):
        finetune(settings(data, small_file), data / "run")
    assert not (data / "run").exists()
    result = RUNNER.invoke(app, ["evaluate", str(small_file), str(data), "--only", "prompts"])
    assert isinstance(result.exception, samlet.UserError) and "--split" in str(result.exception)

    result = RUNNER.invoke(app, command(data, small_file, "--no-split"))
    assert result.exit_code == 0, result.output
    assert "Warning: The labels look like class masks" in result.output

    for item in check_labels(
        find_labelled_images(data / "images", data / "labels"), split=True
    ).usable:
        truth = np.asarray(Image.open(data / "labels" / item.path.name))
        layers = item.read_layers()
        assert layers.max() == parts_of(truth) and np.array_equal(layers[0] > 0, truth > 0)


def test_class_maps_are_no_label_maps(tmp_path: Path) -> None:
    for path in samples.LABELS.glob("*.png"):
        truth = np.asarray(Image.open(path)).astype(np.uint8)
        Image.fromarray(np.where(truth, truth % 3 + 1, 0).astype(np.uint8)).save(
            tmp_path / path.name
        )
    found = find_labelled_images(samples.IMAGES, tmp_path)
    with pytest.raises(samlet.UserError, match=r"as 24 objects are in \d+ .*numbers 1, 2, 3 in"):
        check_labels(found, split=None)
    assert "class masks" in check_labels(found, split=False).warnings[0]
    objects = check_labels(find_labelled_images(samples.IMAGES, samples.LABELS), split=None)
    assert len(objects.usable) == len(samples.NAMES) and not objects.warnings


@pytest.mark.parametrize("kind", ["void", "inverted", "objects", "one object"])
def test_label_maps_that_look_wrong(data: Path, small_file: Path, kind: str) -> None:
    def change(values: np.ndarray) -> np.ndarray:
        if kind == "inverted":
            small = np.zeros_like(values)
            small[10:40:10, 10:100:20] = 1
            return np.where(ndimage.binary_dilation(small, iterations=3), 0, 255)
        if kind == "one object":
            return (values == values.max()) * 1
        ranks = np.unique(values, return_inverse=True)[1].reshape(values.shape)
        if kind == "void":
            border = ndimage.binary_dilation(ranks > 0) & (ranks == 0)
            return np.where(border, 255, ranks)
        return ranks

    change_labels(data, change)
    made = finetune(settings(data, small_file, steps=1), data / "run")
    told = {"void": "number 255 or 65535 beside small ones", "inverted": "invert the labels"}
    warnings = [note for note in made.notes if note.startswith("Warning: ")]
    assert len(warnings) == (kind in told)
    assert told.get(kind, "") in "".join(warnings)


def test_faulty_labels_are_left_out_and_listed(data: Path, small_file: Path) -> None:
    # A training image, and one that is held out.
    (data / "labels" / "3.png").write_bytes(b"nothing")
    Image.new("L", (9, 9), 1).save(data / "labels" / "6.png")
    colours = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    Image.fromarray(colours).save(data / "labels" / "5.png")
    result = RUNNER.invoke(app, command(data, small_file))
    assert result.exit_code == 0, result.output
    assert "Left out of the labels, 3 whole images among them:" in result.output
    for fault in ("3.png is not an image", "6.png is for 9 x 9 pixels", "5.png is no label map"):
        assert fault in result.output
    listed = json.loads((data / "run" / SKIPPED).read_text())
    assert {Path(path).name for path in listed} == {"3.png", "5.png", "6.png"}
    assert "Mean IoU on 2 held-out images" in result.output
    for path in (data / "labels").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(samlet.UserError, match=r"None of the labels can be used:(\n- .*){10}$"):
        finetune(settings(data, small_file), data / "other")
    change = np.zeros((128, 128), np.uint8)
    for path in (data / "labels").iterdir():
        Image.fromarray(change).save(path)
    with pytest.raises(samlet.UserError, match="There is no object to train on in"):
        finetune(settings(data, small_file), data / "other")


def test_faulty_objects_among_good_ones(data: Path, small_file: Path) -> None:
    """A run sees each image several times, and none of what is faulty ends it."""
    images, annotations = [], []
    for i in range(10):
        images.append({"id": i, "file_name": f"..\\upload\\0a1b2c3d-{i}.png"})
        truth = np.asarray(Image.open(data / "labels" / f"{i}.png"))
        for number in np.unique(truth[truth > 0]):
            rle = rle_of(truth == number)
            annotations.append({"image_id": i, "segmentation": rle})
        for faulty in ([], [[1, 2, 3, 4]], {"size": [9, 9], "counts": [81]}, "text", [[1, "x"]]):
            annotations.append({"image_id": i, "segmentation": faulty, "bbox": [1, 2, 3, 4]})
    (data / "coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    given = command(data, small_file, "--steps", "10")
    given[2] = str(data / "coco.json")
    result = RUNNER.invoke(app, given)
    assert result.exit_code == 0, result.output
    assert "10 of 10 images have labels." in result.output
    assert "0 whole images among them" in result.output and "- and 30 more" in result.output
    assert "Mean IoU on 3 held-out images" in result.output
    listed = json.loads((data / "run" / SKIPPED).read_text())
    assert [len(faults) for faults in listed.values()] == [5] * 10
    measured = ["evaluate", str(small_file), str(data / "images"), "--labels", given[2]]
    result = RUNNER.invoke(app, [*measured, "--only", "prompts", "--out", str(data / "out")])
    assert result.exit_code == 0, result.output
    assert 'has no "segmentation"' in (data / "out" / "report.md").read_text()


@pytest.mark.parametrize("kind", ["float32", "lzw", "grey as RGB", "grey with opacity", "int64"])
def test_label_maps_as_other_programs_save_them(tmp_path: Path, kind: str) -> None:
    truth = np.asarray(Image.open(samples.LABELS / "stained_1.png")).astype(np.uint8)
    path = tmp_path / ("a.tif" if kind in ("float32", "lzw", "int64") else "a.png")
    if kind == "float32":
        tifffile.imwrite(path, np.where(truth, truth, np.nan).astype(np.float32))
    elif kind == "lzw":
        Image.fromarray(truth.astype(np.float32)).save(path, compression="tiff_lzw")
    elif kind == "int64":
        tifffile.imwrite(path, truth.astype(np.int64))
    else:
        Image.fromarray(truth).convert("RGB" if kind == "grey as RGB" else "LA").save(path)
    assert np.array_equal(samlet.outputs.read_label_map(path), truth)


def test_numbers_in_the_millions_cost_no_more() -> None:
    few = np.zeros((2, 64, 64), np.int32)
    few[0, 4:20, 5:30], few[0, 30:50, 8:40], few[1, 10:15, 10:18] = 1, 2, 3
    large = few * 700_000_000
    assert np.array_equal(object_boxes(large), object_boxes(few))
    assert object_boxes(few).tolist() == [[5, 4, 30, 20], [8, 30, 40, 50], [10, 10, 18, 15]]
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    batches = [Crops([Example("a", image, v)], 64, 64, 2).batch(0) for v in (few, large)]
    assert torch.equal(batches[0].labels.clamp(min=0) * 700_000_000, batches[1].labels.clamp(min=0))
    small, same = (vars(proposal_targets(batch.labels)) for batch in batches)
    assert all(torch.equal(value, same[name]) for name, value in small.items())


def saved(folder: Path, steps: int) -> float:
    settings = LoopSettings(steps=steps, learning_rate=1e-2, warmup=0, save_minutes=0)
    return train(Line(), numbers(4), settings, folder).get_parameter("weight").item()


@pytest.fixture
def each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_logger, "LOG_INTERVAL", 1)


@pytest.mark.parametrize("left", ["nothing", "half", "zeros at the end", "zeros within"])
def test_a_power_cut_costs_no_more_than_the_newest_state(
    tmp_path: Path, each_step: None, left: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "cut", 4)
    path = tmp_path / "cut" / STATE
    (tmp_path / "whole").mkdir()
    shutil.copy(path.with_name(PREVIOUS_STATE), tmp_path / "whole" / STATE)
    whole = saved(tmp_path / "whole", 6)
    content = path.read_bytes()
    step = torch.load(path.with_name(PREVIOUS_STATE), weights_only=True)["step"]
    assert step == 3
    # Where the weights are, which torch reads without a look at their checksum.
    place = content.index(b"data/0") + 64
    cut = {
        "nothing": b"",
        "half": content[: len(content) // 2],
        "zeros at the end": content[:-600] + bytes(600),
        "zeros within": content[:place] + bytes(8) + content[place + 8 :],
    }
    assert cut[left] != content
    path.write_bytes(cut[left])
    with (tmp_path / "cut" / "log.csv").open("ab") as log:
        log.write(b"5,0.\0\0\0\0")
    assert saved(tmp_path / "cut", 6) == whole
    assert f"{path} is damaged, as a power cut or a full disk leaves it" in capsys.readouterr().out
    with (tmp_path / "cut" / "log.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [1, 2, 3, 4, 5, 6]

    for name in (STATE, PREVIOUS_STATE):
        (tmp_path / "cut" / name).write_bytes(b"")
    with pytest.raises(samlet.UserError, match=r"state.pt and .*state-before.pt cannot be read"):
        saved(tmp_path / "cut", 8)


def test_a_damaged_state_never_takes_the_place_of_a_good_one(
    tmp_path: Path, each_step: None
) -> None:
    saved(tmp_path, 3)
    (tmp_path / STATE).write_bytes(b"")
    with file_size_limit(500), pytest.raises(UnsavedError, match="resumes from step 2"):
        try:
            saved(tmp_path, 4)
        except UnsavedError as error:
            raise UnsavedError(
                str(error.with_partial_model(no_room)), error.averaged, error._state
            ) from error
    assert torch.load(tmp_path / PREVIOUS_STATE, weights_only=True)["step"] == 2


def no_room(learnt: torch.nn.Module) -> Path:
    raise samlet.UserError("There is no room for this either.")


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing beyond fails in the middle of a file, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_what_was_learnt_is_kept(
    data: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_file.stat().st_size
    before = set(data.rglob("*"))
    # The model fits, its state does not.
    with file_size_limit(int(1.3 * model)):
        result = RUNNER.invoke(app, command(data, small_file, "--no-split"))
    assert result.exit_code == 0, result.output
    assert "state.pt: File too large. Choose another folder or free" in result.output
    assert "Wrote" in result.output
    samlet.load(data / "run" / "model.safetensors")
    left = {path.name for path in set(data.rglob("*")) - before}
    assert STATE not in left and not any(name.startswith(".") for name in left)

    monkeypatch.setattr(train_logger, "LOG_INTERVAL", 1)
    chosen = settings(data, small_file, save_minutes=1e-9)
    told = rf"File too large.*model up to step 1 is in .*{PARTIAL_MODEL}.*same command starts again"
    with file_size_limit(int(1.3 * model)), pytest.raises(samlet.UserError, match=told):
        finetune(chosen, data / "stopped")
    samlet.load(data / "stopped" / PARTIAL_MODEL)
    assert finetune(chosen, data / "stopped").path.exists()


def test_on_a_full_disk_the_state_before_gives_way(
    tmp_path: Path, each_step: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 3)
    write = torch.save

    def while_there_is_room(state: dict, file: object) -> None:
        if (tmp_path / PREVIOUS_STATE).exists():
            raise OSError(28, "No space left on device")
        write(state, file)  # type: ignore[arg-type]

    monkeypatch.setattr(run_state.torch, "save", while_there_is_room)
    saved(tmp_path, 4)
    assert torch.load(tmp_path / STATE, weights_only=True)["step"] == 4


def test_the_room_for_states_is_compared_before_the_first_step(
    data: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    told = r"The states of the run need 0\.\d+ GB in .*train, and 0.001 GB are free: free some"
    with pytest.raises(samlet.UserError, match=told):
        finetune(settings(data, small_file), data / "run")
    assert not (data / "run" / "train" / "log.csv").exists()
