"""`samlet distill`, `embed`, `finetune` and `evaluate`, as a user runs them."""

import dataclasses
import errno
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from PIL import Image
from typer.testing import CliRunner

import samlet
from samlet import samples
from samlet.cli.main import app
from samlet.everything.settings import default_settings
from samlet.modeling.instance_decoder import InstanceDecoderConfig
from samlet.modeling.sam import Sam
from samlet.outputs import write_label_map, write_mask
from samlet.training.distillation import decoupled
from samlet.training.distillation import distill as distillation
from samlet.training.distillation import embed as embed_module
from samlet.training.distillation import embedding_store as embeddings
from samlet.training.distillation.batches import DistillStream, SkippedImages
from samlet.training.distillation.distill import distill
from samlet.training.distillation.embed import embed, open_store
from samlet.training.distillation.embedding_store import Entry, content_hash
from samlet.training.distillation.report import write_report
from samlet.training.distillation.sources import open_source
from samlet.training.finetuning.finetune import finetune
from samlet.training.settings import DistillSettings, FinetuneSettings, resolve_settings
from tests.core.conftest import SMALL

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _few_batches_for_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """BatchNorm's statistics take longer than all training steps here."""
    monkeypatch.setattr(decoupled, "RECALIBRATION_BATCHES", 4)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    samlet.save(Sam(SMALL), path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight small pieces of the sample images."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(8):
        whole = samlet.images.read(samples.IMAGES / f"{samples.NAMES[i % 6]}.png")
        Image.fromarray(whole[10 * i : 10 * i + 60, 20:110]).save(folder / f"{i}.png")
    return folder


def settings(pictures: Path, by: Path, **more: object) -> DistillSettings:
    given: dict[str, object] = {"images": str(pictures), "teacher": str(by), "student": str(by)}
    given |= {"steps": 4, "batch_size": 2, "threads": 1, "precision": "no"}
    return resolve_settings(DistillSettings, None, given | more)


def embedded(pictures: Path, teacher: Path, folder: Path) -> tuple[int, SkippedImages]:
    model = samlet.load(teacher)
    source = open_source(str(pictures))
    skipped = SkippedImages(source.count())
    store = open_store(folder, model)
    return embed(source, model, store, skipped, Accelerator(cpu=True), 3, 1), skipped


def test_embeddings_are_the_teachers(pictures: Path, teacher: Path, tmp_path: Path) -> None:
    assert embedded(pictures, teacher, tmp_path)[0] == 8
    model = samlet.load(teacher)
    store = open_store(tmp_path, model)
    predictor = samlet.Predictor(model)
    for path in pictures.iterdir():
        own = predictor.encode(samlet.images.read(path)).features.numpy()
        kept = store.read(content_hash(path.read_bytes()))
        assert kept.dtype == np.float16
        assert np.abs(kept - own).max() < 5e-3


def test_only_what_is_missing_or_changed_is_embedded(
    pictures: Path, teacher: Path, tmp_path: Path
) -> None:
    embedded(pictures, teacher, tmp_path)
    assert embedded(pictures, teacher, tmp_path)[0] == 0
    Image.new("RGB", (50, 40), (200, 10, 10)).save(pictures / "3.png")
    shutil.copy(pictures / "1.png", pictures / "copy.png")
    assert embedded(pictures, teacher, tmp_path)[0] == 1
    torch.manual_seed(2)
    other = tmp_path / "other.safetensors"
    samlet.save(Sam(SMALL), other)
    assert embedded(pictures, other, tmp_path)[0] == 8


def test_an_interrupted_embedding_keeps_what_was_done(
    pictures: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach, calls = embed_module.compute_embeddings, 0

    def interrupted(*arguments: object) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return teach(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(embed_module, "compute_embeddings", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embedded(pictures, teacher, tmp_path)
    assert embedded(pictures, teacher, tmp_path)[0] == 5


def test_shards_are_whole_and_of_limited_size(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, samlet.load(teacher))
    monkeypatch.setattr(embeddings, "SHARD_BYTES", 3 * store.bytes_per_image)
    arrays = np.random.default_rng(0).normal(size=(7, *store.shape)).astype(np.float16)
    entries = [Entry(f"{i}", f"hash {i}", "") for i in range(7)]
    list(store.write(zip(entries, arrays, strict=True)))
    assert len(list(store.folder.glob("*.npy"))) == 3
    assert not list(store.folder.glob(".*"))
    store.scan()
    assert all(np.array_equal(store.read(f"hash {i}"), arrays[i]) for i in range(7))
    (store.folder / "000-00001.json").unlink()
    fresh = open_store(tmp_path, samlet.load(teacher))
    assert len(fresh) == 4
    # As a power cut leaves an index, or the embeddings themselves.
    (store.folder / "000-00002.json").write_bytes(b"\0" * 40)
    with (store.folder / "000-00000.npy").open("r+b") as file:
        file.truncate(1000)
    fresh = open_store(tmp_path, samlet.load(teacher))
    assert len(fresh) == 0 and not list(store.folder.glob("*.json"))
    list(fresh.write(zip(entries, arrays, strict=True)))
    assert len(open_store(tmp_path, samlet.load(teacher))) == 7


def test_a_small_disk_is_told_before_the_start(
    pictures: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 90, 10))
    with pytest.raises(samlet.UserError, match=r"8 images need .* GB .*--on-the-fly"):
        embedded(pictures, teacher, tmp_path)
    assert not list(tmp_path.rglob("*.npy"))


def test_a_full_disk_leaves_nothing_half_written(
    pictures: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, array: np.ndarray) -> None:
        path.write_bytes(array.tobytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(samlet.UserError, match=r"No space left on device.*free space"):
        embedded(pictures, teacher, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if ".npy" in path.name]


def test_training_from_tar_shards(pictures: Path, teacher: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(2):
        with tarfile.open(shards / f"sa_{number:06d}.tar", "w") as tar:
            for i in range(4 * number, 4 * number + 4):
                tar.add(pictures / f"{i}.png", f"sa_{i}.png")
    made = distill(settings(shards, teacher, student="tiny_vit_2m"), tmp_path / "run")
    assert [item.key for item in made.validation] == ["sa_000000.tar/sa_0.png"]
    arrays = list((tmp_path / "run" / "embeddings").rglob("*.npy"))
    assert sum(len(np.load(path)) for path in arrays) == 8
    distill(settings(shards, teacher, student="tiny_vit_2m", steps=5), tmp_path / "run")
    assert list((tmp_path / "run" / "embeddings").rglob("*.npy")) == arrays


def test_batches_pair_each_image_with_its_embedding(
    pictures: Path, teacher: Path, tmp_path: Path
) -> None:
    embedded(pictures, teacher, tmp_path)
    model = samlet.load(teacher)
    store = open_store(tmp_path, model)
    batches = DistillStream(
        open_source(str(pictures)),
        SMALL.image_size,
        3,
        store,
        frozenset({"2.png"}),
        SkippedImages(None),
    )
    stream = batches({})
    for _ in range(4):
        batch, _ = next(stream)
        assert batch.embeddings is not None
        pixels = (batch.images.float() - model.pixel_mean) / model.pixel_std
        with torch.no_grad():
            own = model.image_encoder(pixels * batch.valid.unsqueeze(1))
        assert (own - batch.embeddings.float()).abs().max() < 5e-3
    held = samlet.images.resize_longest(samlet.images.read(pictures / "2.png"), SMALL.image_size)
    seen = torch.cat([next(stream)[0].images for _ in range(6)])[:, :, : held.shape[0]]
    assert not (seen == torch.from_numpy(held).permute(2, 0, 1)).flatten(1).all(1).any()


def test_broken_images_are_skipped_or_stop_the_run(
    pictures: Path, teacher: Path, tmp_path: Path
) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(samlet.UserError, match=r"1 of 9 images .* more than 1 %.*broken\.png"):
        embedded(pictures, teacher, tmp_path)
    for i in range(110):
        Image.new("RGB", (8, 8), (i, 2 * i, 50)).save(pictures / f"plain{i}.png")
    written, skipped = embedded(pictures, teacher, tmp_path)
    assert list(skipped.reasons) == ["broken.png"]
    assert written == 110


@pytest.mark.parametrize("mode", ["decoupled", "semi-coupled", "coupled"])
def test_each_mode_gives_a_model(pictures: Path, teacher: Path, tmp_path: Path, mode: str) -> None:
    made = distill(settings(pictures, teacher, mode=mode, student="tiny_vit_2m"), tmp_path / "run")
    student, original = samlet.load(made.path), samlet.load(teacher)
    same = all(
        torch.equal(student.mask_decoder.state_dict()[k], v)
        for k, v in original.mask_decoder.state_dict().items()
    )
    assert same is (mode != "coupled")
    image = samlet.images.read(pictures / "0.png")
    predictor = samlet.Predictor(student)
    answer = predictor.segment(predictor.encode(image), [[20, 20]], [1])
    assert answer.masks.shape == (3, 60, 90)
    assert mode in student.card["recipe"]


def test_on_the_fly_teaches_the_same(pictures: Path, teacher: Path, tmp_path: Path) -> None:
    results = [
        distill(settings(pictures, teacher, student="tiny_vit_2m", on_the_fly=fly), tmp_path / name)
        for fly, name in ((False, "stored"), (True, "asked"))
    ]
    assert not (tmp_path / "asked" / "embeddings").exists()
    logs = [(tmp_path / n / "train" / "log.csv").read_text() for n in ("stored", "asked")]
    last = [float(log.splitlines()[-1].split(",")[-1]) for log in logs]
    assert last[0] == pytest.approx(last[1], rel=1e-3)
    assert len(results[0].validation) == 1


@pytest.mark.parametrize("on_the_fly", [False, True])
def test_an_epoch_is_the_images_that_are_learnt_from(
    pictures: Path, teacher: Path, tmp_path: Path, on_the_fly: bool
) -> None:
    """Eight images less the one held out, whatever else a shared folder of embeddings holds."""
    others = tmp_path / "others"
    others.mkdir()
    for i in range(5):
        Image.new("RGB", (40, 30), (40 * i, 10, 10)).save(others / f"other{i}.png")
    embedded(others, teacher, tmp_path / "shared")
    shared = None if on_the_fly else str(tmp_path / "shared")
    chosen = settings(pictures, teacher, steps=None, epochs=2, batch_size=1, embeddings=shared)
    made = distill(chosen.model_copy(update={"on_the_fly": on_the_fly}), tmp_path / "run")
    assert "14 steps" in made.student.card["recipe"]
    assert "7 images" in made.student.card["data"]


def test_the_command_goes_on_and_reports(pictures: Path, teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["distill", str(pictures), "--teacher", str(teacher), "--student", "tiny_vit_2m"]
    command += ["--batch-size", "2", "--precision", "no", "--out", str(out)]
    first = RUNNER.invoke(app, [*command, "--steps", "3"])
    assert first.exit_code == 0, first.output
    written = {p: p.stat().st_mtime_ns for p in (out / "embeddings").rglob("*.npy")}
    assert len(written) == 1
    second = RUNNER.invoke(app, [*command, "--steps", "5"])
    assert second.exit_code == 0, second.output
    assert "0 images need" in second.output
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert torch.load(out / "train" / "state.pt", weights_only=True)["step"] == 5

    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["steps"] == 5
    assert config["teacher"] == str(teacher)
    page = (out / "report.html").read_text()
    assert page.count("data:image/") == 4  # the loss, and one image three times
    assert 'src="http' not in page
    assert "tiny_vit_2m" in page
    assert re.search(r"a mean IoU with the teacher's of 0\.\d\d for a click", page)
    assert (out / "evaluation" / "agreement.csv").stat().st_size > 200

    labels = tmp_path / "labels"
    labels.mkdir()
    for path in pictures.iterdir():
        Image.fromarray(np.arange(60 * 90, dtype=np.uint16).reshape(60, 90) // 1500).save(
            labels / path.name
        )
    third = RUNNER.invoke(app, [*command, "--steps", "5", "--labels", str(labels)])
    assert third.exit_code == 0, third.output
    page = (out / "report.html").read_text()
    assert page.count("data:image/") == 5
    assert "Mean IoU with the labelled objects of 1 image." in page

    # Labels that do not fit are told before anything is learnt, not by the report.
    for path in labels.iterdir():
        Image.new("L", (9, 9), 1).save(path)
    fourth = RUNNER.invoke(app, [*command, "--steps", "7", "--labels", str(labels)])
    assert "is for 9 x 9 pixels" in str(fourth.exception)
    assert torch.load(out / "train" / "state.pt", weights_only=True)["step"] == 5

    other = RUNNER.invoke(app, [*command, "--mode", "coupled"])
    assert isinstance(other.exception, samlet.UserError)
    assert "holds a run with mode = decoupled" in str(other.exception)


def test_the_teachers_second_decoder_goes_along_and_is_reported(
    pictures: Path, tmp_path: Path
) -> None:
    by = tmp_path / "cells.safetensors"
    torch.manual_seed(1)
    teacher = Sam(dataclasses.replace(SMALL, instance_decoder=InstanceDecoderConfig()))
    watershed = {"prompts": "watershed", "watershed": {"min_size": 5}}
    samlet.save(teacher, by, watershed | {"summary": "cells"})
    chosen = settings(pictures, by, student="tiny_vit_2m", steps=1)
    made = distill(chosen, tmp_path / "run")
    student = samlet.load(made.path)
    assert student.instance_decoder is not None and teacher.instance_decoder is not None
    for name, weight in teacher.instance_decoder.state_dict().items():
        assert torch.equal(student.instance_decoder.state_dict()[name], weight)
    everything = default_settings(student)
    assert everything["prompts"] == "watershed" and everything["min_size"] == 5
    assert "distilled from cells" in student.card["summary"]

    page = write_report(made, chosen, tmp_path / "run").read_text()
    assert "Everything mode beside the teacher" in page
    figures = json.loads((tmp_path / "run" / "evaluation" / "figures.json").read_text())
    assert figures["same_objects"]["all"]["objects"] > 0


def test_a_file_and_flags_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("images: here\nteacher: nuclei\nlearning-rate: 1\nbatch_size: 16\n")
    chosen = resolve_settings(DistillSettings, path, {"batch_size": 32, "seed": None})
    assert (chosen.images, chosen.learning_rate, chosen.batch_size, chosen.seed) == (
        "here",
        1,
        32,
        0,
    )


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("learning_rate: 1e-4", 1e-4),
        ("learning_rate: '1_000.5'", 1000.5),
        ("learning_rate: 2", 2.0),
        ("weight_decay: 0", 0.0),
        ("steps: 1e3", 1000),
        ("steps: '1_000'", 1000),
        ("batch_size: 8.0", 8),
        ("seed: 9007199254740993", 9007199254740993),
        ("image_size: 512", 512),
        ("precision: no", "no"),
        ("on_the_fly: yes", True),
    ],
)
def test_numbers_as_people_write_them(tmp_path: Path, line: str, value: object) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + f"images: a\nteacher: b\n{line}\n".encode())
    read = getattr(resolve_settings(DistillSettings, path, {}), line.partition(":")[0])
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("images: a\nteacher: b\nlerning_rate: 1\n", "There is no setting 'lerning_rate'"),
        ("images: a\nteacher: b\nsteps: many\n", "steps should be a valid integer, not 'many'"),
        ("images: a\nteacher: b\nmode: loose\n", "mode should be 'decoupled', 'semi-coupled' or"),
        ("images: a\nteacher: b\nbatch_size: true\n", "batch_size should be a valid integer"),
        ("images: a\nteacher: b\nepochs: 0\n", "epochs should be greater than 0, not 0"),
        ("images: a\nteacher: b\nema: -1\n", "ema should be greater than or equal to 0, not -1"),
        ("images: a\nteacher: b\nclip: .nan\n", "clip should be a finite number, not nan"),
        ("images: a\nteacher: b\nsteps: 1.5\n", "steps should be a valid integer, not 1.5"),
        ("images: 7\nteacher: b\n", r"should be text \(in quotes if it is a number\), not 7"),
        ("images: a\nteacher: b\nclip: [1]\n", r"clip should be a valid number, not \[1\]"),
        ("teacher: b\n", "images is missing"),
        ("- a\n", "has no settings"),
        ("a: [\n", "cannot be read as YAML"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(samlet.UserError, match=told):
        resolve_settings(DistillSettings, path, {})


def test_flags_before_the_file_before_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[DistillSettings, Path]] = []

    def run(settings: DistillSettings, out: Path) -> None:
        given.append((settings, out))
        raise KeyboardInterrupt

    monkeypatch.setattr(distillation, "distill", run)
    path = tmp_path / "run.yaml"
    lines = "steps: 7\nlearning-rate: 1e-3\non_the_fly: yes\nepochs: 3\n"
    path.write_text(f"teacher: microscopy\n{lines}")
    flags = ["--steps", "1e1", "--learning-rate", "1e-4", "--no-on-the-fly", "--out", "run"]
    result = RUNNER.invoke(app, ["distill", "here", "--config", str(path), *flags])
    assert "run the same command again to resume" in result.output and result.exit_code == 130
    ((chosen, out),) = given
    assert out == Path("run") and (chosen.images, chosen.teacher) == ("here", "microscopy")
    assert (chosen.steps, chosen.learning_rate, chosen.epochs) == (10, 1e-4, 3)
    assert not chosen.on_the_fly and chosen.batch_size == 8


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--clip", "0"], "clip should be greater than 0, not '0'."),
        (["--clip", "big"], "clip should be a valid number, not 'big'."),
        (["--steps", "1.5"], "steps should be a valid integer, not '1.5'."),
        (["--mode", "loose"], "mode should be 'decoupled', 'semi-coupled' or 'coupled', not 'l"),
        (["--lerning-rate", "1"], "No such option: --lerning-rate"),
        ([], "images is missing: give it as an argument or in --config."),
    ],
)
def test_wrong_flags_are_explained(flags: list[str], told: str) -> None:
    images = ["here", "--teacher", "microscopy"] if flags else []
    result = RUNNER.invoke(app, ["distill", *images, "--out", "run", *flags])
    words = " ".join(f"{result.output} {result.exception}".replace("│", " ").split())
    assert result.exit_code != 0 and told in words
    assert not result.exception or isinstance(result.exception, samlet.UserError | SystemExit)


@pytest.mark.parametrize("command", ["distill", "finetune"])
def test_help_is_made_of_the_settings(command: str) -> None:
    result = RUNNER.invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    text = " ".join(re.sub(r"[│\x1b]|\[\d+m", " ", result.output).split())
    kind = DistillSettings if command == "distill" else FinetuneSettings
    for name, field in kind.model_fields.items():
        assert field.description and " ".join(field.description.split()) in text
        assert name in ("images", "labels") or f"--{name.replace('_', '-')}" in text
    rate = {"distill": "0.001", "finetune": "0.0001"}[command]
    assert f"Peak learning rate (cosine schedule). [default: {rate}]" in text


def test_help_needs_no_torch() -> None:
    code = "import sys, samlet.cli.main; assert not {'torch', 'accelerate'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"student": "tiny_vit_9m"}, "There is no student tiny_vit_9m: choose one of tiny_vit_5m"),
        ({"student": "microscopy"}, "64 x 64 tokens and the teacher .* 128 px as 8 x 8"),
        ({"teacher": "sam_vit_z"}, "There is no model sam_vit_z"),
        ({"image_size": 100}, "multiple of 32, not 100"),
        ({"batch_size": 3, "accumulate": 2}, "cannot be shared evenly"),
        ({"images": "nowhere"}, "nowhere is not a source of images"),
    ],
)
def test_what_does_not_fit_is_explained(
    pictures: Path, teacher: Path, tmp_path: Path, more: dict, told: str
) -> None:
    with pytest.raises(samlet.UserError, match=told):
        distill(settings(pictures, teacher, **more), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_finetuning_learns_and_keeps_the_encoder_if_asked(tmp_path: Path) -> None:
    given: dict[str, object] = {"images": str(samples.IMAGES), "labels": str(samples.LABELS)}
    given |= {"batch_size": 1}
    given |= {"steps": 2, "train": "decoder", "precision": "no", "objects": 2}
    made = finetune(resolve_settings(FinetuneSettings, None, given), tmp_path)
    assert len(made.held_out) == 1
    before, after = samlet.load("microscopy"), samlet.load(made.path)
    assert samlet.Predictor(before).model_id == samlet.Predictor(after).model_id
    changed = [
        not torch.equal(a, b)
        for a, b in zip(
            before.mask_decoder.parameters(), after.mask_decoder.parameters(), strict=True
        )
    ]
    assert any(changed)
    assert after.card["finetuned from"] == "microscopy"
    assert after.card["everything"] == before.card["everything"]


def test_finetuning_says_that_nothing_could_be_measured(small_file: Path, tmp_path: Path) -> None:
    labels = np.zeros((64, 64), np.uint16)
    # Of fewer pixels than what is measured.
    labels[30:33, 30:33] = 1
    for name in ("a.png", "b.png"):
        write_label_map(tmp_path / "labels" / name, labels)
        write_mask(tmp_path / "images" / name, labels)
    command = ["finetune", str(tmp_path / "images"), str(tmp_path / "labels")]
    more = ["--model", str(small_file), "--steps", "1", "--batch-size", "1"]
    result = RUNNER.invoke(app, [*command, *more, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "the held-out images have no objects" in result.output
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_evaluate_prints_tables_and_writes_files(tmp_path: Path, nuclei_file: Path) -> None:
    data = tmp_path / "data"
    for kind, folder in (("images", samples.IMAGES), ("labels", samples.LABELS)):
        (data / kind).mkdir(parents=True)
        shutil.copy(folder / "stained_1.png", data / kind)
    command = ["evaluate", str(nuclei_file), str(data), "--only", "prompts"]
    result = RUNNER.invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "random click" in result.output
    assert (tmp_path / "out" / "prompts.csv").read_text().startswith("image,")
    absent = RUNNER.invoke(app, ["evaluate", "microscopy", str(tmp_path / "absent")])
    assert "absent is not a folder: give one that holds images" in str(absent.exception)
    unknown = RUNNER.invoke(app, [*command, "--teacher", "nope"])
    assert "There is no model nope" in str(unknown.exception)
    assert "labels" not in unknown.output
    lone = RUNNER.invoke(app, ["evaluate", "microscopy", str(samples.IMAGES)])
    assert "Nothing to compare with: add --labels" in str(lone.exception)
    asked = RUNNER.invoke(app, ["evaluate", "microscopy", str(samples.IMAGES), "--only", "clicks"])
    assert "clicks needs --labels" in str(asked.exception)


def test_embed_alone(pictures: Path, teacher: Path, tmp_path: Path) -> None:
    command = ["embed", str(pictures), "--teacher", str(teacher), "--out", str(tmp_path / "e")]
    result = RUNNER.invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "8 embeddings are in" in result.output
    shared = settings(pictures, teacher, embeddings=str(tmp_path / "e"), student="tiny_vit_2m")
    distill(shared, tmp_path / "run")
    assert not (tmp_path / "run" / "embeddings").exists()
    assert json.loads((tmp_path / "run" / distillation.SKIPPED).read_text()) == {}
