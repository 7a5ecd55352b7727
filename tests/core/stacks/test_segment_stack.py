"""Stacks from image to files: what is found in slices is linked, written, and resumed."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner, Result

import samlet
from samlet import images
from samlet.cli.main import app
from samlet.errors import UserError
from samlet.masks import crop_mask, to_rle
from samlet.stacks import batch
from samlet.stacks.files import write_label_stack, write_res_track
from samlet.stacks.journal import SliceJournal
from samlet.stacks.linking import SliceLinker, Track
from samlet.stacks.segment import records_to_label_map
from tests.core.conftest import sample
from tests.models import nuclei_at

SLICES, HEIGHT, WIDTH = 3, 110, 140
SHIFT = (3, 2)
"""Columns and rows by which the nuclei move from slice to slice."""


def moving() -> np.ndarray:
    """Crops of a real image, each further to the lower right, so that all moves the other way."""
    image = sample("fluorescence_1").image[300:, 120:]
    return np.stack(
        [
            image[SHIFT[1] * t : SHIFT[1] * t + HEIGHT, SHIFT[0] * t : SHIFT[0] * t + WIDTH]
            for t in range(SLICES)
        ]
    )


@pytest.fixture(scope="module")
def predictor() -> samlet.Predictor:
    return samlet.Predictor(nuclei_at(256))


@pytest.fixture(scope="module")
def objects(predictor: samlet.Predictor) -> samlet.StackObjects:
    return samlet.segment_stack(predictor, moving()[..., 0])


@pytest.fixture
def stack_file(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "film.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, moving()[..., 0], imagej=True, metadata={"axes": "TYX"})
    return path


Run = Callable[..., Result]


@pytest.fixture
def everything(nuclei_file: Path, tmp_path: Path) -> Run:
    def run(*arguments: str | Path) -> Result:
        options = ["--out", tmp_path / "out", "--model", nuclei_file]
        return CliRunner().invoke(app, ["everything", *map(str, [*arguments, *options])])

    return run


def table(path: Path) -> list[Track]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [Track(**{name: int(text) for name, text in row.items()}) for row in rows]


def check_ctc(labels: np.ndarray, text: str) -> None:
    """The rules of the Cell Tracking Challenge for res_track.txt and its label images."""
    lines = [[int(word) for word in line.split(" ")] for line in text.splitlines()]
    tracks = {label: (begin, end, parent) for label, begin, end, parent in lines}
    assert len(tracks) == len(lines) and all(label > 0 for label in tracks)
    assert set(tracks) == set(np.unique(labels[labels > 0]))
    for label, (begin, end, parent) in tracks.items():
        there = np.flatnonzero((labels == label).any((1, 2)))
        assert there.tolist() == list(range(begin, end + 1))
        if parent:
            assert tracks[parent][1] < begin
    parents = [parent for _, _, parent in tracks.values() if parent]
    assert all(parents.count(parent) > 1 for parent in parents)


def test_what_stays_keeps_its_number(predictor: samlet.Predictor) -> None:
    """Two slices of the same image, here of 16 bits, have the same objects."""
    image = moving()[0, ..., 0].astype(np.uint16) * 9
    labels, tracks = samlet.segment_stack(predictor, np.stack([image, image]))
    assert labels.shape == (2, HEIGHT, WIDTH) and labels.dtype == np.uint16
    np.testing.assert_array_equal(labels[0], labels[1])
    assert tracks
    assert all((track.begin, track.end, track.parent) == (0, 1, 0) for track in tracks)


def test_slices_are_those_of_segment_everything(
    predictor: samlet.Predictor, objects: samlet.StackObjects
) -> None:
    """Nothing but numbers and filled gaps differs from segmenting each slice by itself."""
    maps = [
        records_to_label_map(samlet.segment_everything(predictor, image), image.shape[:2])
        for image in moving()
    ]
    linked = np.stack(list(SliceLinker().link(maps)))
    np.testing.assert_array_equal(objects.labels, linked)
    for plane, labels in zip(maps, objects.labels, strict=True):
        assert (labels[plane > 0] > 0).all()


def test_progress_and_stops(predictor: samlet.Predictor) -> None:
    seen: list[float] = []

    def stop(share: float) -> None:
        seen.append(share)
        if share > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        samlet.segment_stack(predictor, moving()[..., 0], progress=stop)
    assert seen == sorted(seen) and 0 < seen[0] <= 1 / 3 and seen[-1] > 0.6


def test_stacks_of_nothing(predictor: samlet.Predictor) -> None:
    labels, tracks = samlet.segment_stack(predictor, np.full((3, 40, 50), 900, np.uint16))
    assert labels.shape == (3, 40, 50) and not labels.any() and tracks == []
    labels, _ = samlet.segment_stack(predictor, np.zeros((2, 1, 2), np.uint8))
    assert labels.shape == (2, 1, 2)
    for slices, message in (
        ([], "has no slice"),
        (np.zeros((0, 4, 4), np.uint8), "not empty"),
        (np.zeros((4, 4), np.uint8), r"of shape \(4, 4\): give N x H x W"),
        ([np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8)], "slices of a stack are of one"),
    ):
        with pytest.raises(UserError, match=message):
            samlet.segment_stack(predictor, slices)
    with pytest.raises(UserError, match="is z or time, not 'x'"):
        samlet.segment_stack(predictor, moving(), axis="x")  # type: ignore[arg-type]


def test_a_time_lapse_from_file_to_files(
    everything: Run, stack_file: Path, objects: samlet.StackObjects, tmp_path: Path
) -> None:
    result = everything(stack_file)
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    names = ["labels.tif", "res_track.txt", "slices.jsonl", "tracks.csv"]
    assert sorted(path.name for path in out.iterdir()) == [f"film.tif.{name}" for name in names]
    labels = tifffile.imread(out / "film.tif.labels.tif")
    with samlet.images.open_stack(stack_file) as stack:
        found, tracks = samlet.segment_stack(samlet.Predictor(nuclei_at(256)), stack)
    np.testing.assert_array_equal(labels, found)
    assert labels.dtype == np.uint16
    assert table(out / "film.tif.tracks.csv") == tracks
    check_ctc(labels, (out / "film.tif.res_track.txt").read_text())
    with tifffile.TiffFile(out / "film.tif.labels.tif") as tiff:
        assert tiff.series[0].axes == "TYX"
    # All that the model has found, and how, is in the lines of the slices.
    header, *lines = (out / "film.tif.slices.jsonl").read_text().splitlines()
    assert json.loads(header)["samlet"]["file"] == str(stack_file)
    assert json.loads(lines[-1]) == {"linked": "time"} and len(lines) == SLICES + 1
    for line, plane in zip(lines, labels, strict=False):
        for annotation in json.loads(line)["annotations"]:
            mask = crop_mask(annotation["segmentation"])
            assert annotation["area"] == mask.mask.sum()
            assert (plane[mask.slices][mask.mask] > 0).all()
            assert 0 < annotation["predicted_iou"] <= 1

    # Done is done; linking along z needs no model, and leaves no tracks of time behind.
    again = everything(stack_file)
    assert "1 of 1 were finished before and skipped" in again.output
    (tmp_path / "out" / "film.tif.tracks.csv").unlink()
    journal = (out / "film.tif.slices.jsonl").read_text()
    assert "skipped" not in everything(stack_file).output
    assert (out / "film.tif.tracks.csv").exists()
    result = everything(stack_file, "--axis", "z")
    assert "slices along z" in result.output
    assert (out / "film.tif.slices.jsonl").read_text().startswith(journal)
    assert not (out / "film.tif.res_track.txt").exists()
    # Results are no images, and other settings start anew.
    assert images.find(tmp_path / "in") == [stack_file]
    assert all(images.is_result(path) for path in out.glob("*.tif"))
    assert "skipped" not in everything(stack_file, "--axis", "z", "--min-area", "3").output


def test_a_folder_of_images_and_stacks(everything: Run, stack_file: Path, tmp_path: Path) -> None:
    folder = stack_file.parent
    Image.fromarray(moving()[0]).save(folder / "one.png")
    tifffile.imwrite(
        folder / "several.tif", np.zeros((2, 30, 40), np.uint16), photometric="minisblack"
    )
    tifffile.imwrite(folder / "hyper.tif", np.zeros((2, 3, 2, 30, 40), np.uint16), imagej=True)
    (folder / "cut.tif").write_bytes(stack_file.read_bytes()[:2000])
    result = everything(folder)
    assert result.exit_code == 1
    told = result.output + str(result.exception)
    assert "1 of 6 images failed" in told
    # Each time point is a stack along z.
    for time in range(2):
        assert f"hyper.tif.t{time}: 0 objects in 3 slices along z" in told
        assert tifffile.imread(tmp_path / f"out/hyper.tif.t{time}.labels.tif").shape == (3, 30, 40)
    assert "cut.tif cannot be decoded" in told
    assert "several.tif: does not tell what its 2 pages are: taken as slices along z" in told
    assert "several.tif: 0 objects in 2 slices along z" in told
    assert "film.tif: does not tell" not in told
    assert (tmp_path / "out" / "one.png.coco.json").exists()
    assert not tifffile.imread(tmp_path / "out" / "several.tif.labels.tif").any()
    # Pages that are channels are an image, as ever.
    assert everything(folder / "several.tif", "--channels", "0,1").exit_code == 0
    assert (tmp_path / "out" / "several.tif.coco.json").exists()


def test_a_stopped_run_resumes_at_the_slice_where_it_was(
    everything: Run, stack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samlet.cli.everything_work.segment_everything", one_object)
    everything(stack_file)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    calls: list[int] = []

    def stop_at_third(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return one_object(*arguments, **options)

    monkeypatch.setattr("samlet.cli.everything_work.segment_everything", stop_at_third)
    result = everything(stack_file, "--replace")
    assert result.exit_code == 130 and "run the same command again to resume" in result.output
    journal = tmp_path / "out" / "film.tif.slices.jsonl"
    # A power failure may leave a part of a line.
    with journal.open("a") as file:
        file.write('{"annotations": [{"segm')
    result = everything(stack_file)
    assert result.exit_code == 0 and "film.tif: resumed at slice 1 of 3" in result.output
    assert len(calls) == 2 + 2
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == expected[path.name], path


def one_object(_: Any, image: np.ndarray, **options: Any) -> list[dict[str, Any]]:
    """A square whose place depends on the slice."""
    mask = np.zeros(image.shape[:2], bool)
    left = int(image[::7, ::7].sum() % 20)
    mask[20:60, left : left + 50] = True
    options["progress"](1.0)
    return [{"segmentation": to_rle(mask), "predicted_iou": 0.9}]


def test_another_stack_of_the_same_name(
    everything: Run, stack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samlet.cli.everything_work.segment_everything", one_object)
    assert everything(stack_file).exit_code == 0
    other = tmp_path / "other" / "film.tif"
    other.parent.mkdir()
    tifffile.imwrite(other, moving()[::-1, ..., 0], imagej=True, metadata={"axes": "TYX"})
    result = everything(other)
    assert result.exit_code == 1 and "has the name of" in str(result.exception)
    assert everything(other, "--replace").exit_code == 0
    journal = tmp_path / "out" / "film.tif.slices.jsonl"
    journal.write_text('{"other": 1}\n')
    result = everything(other)
    assert "is not what samlet writes for a stack: move it away" in str(result.exception)
    assert journal.read_text() == '{"other": 1}\n'


def test_labels_beyond_16_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planes = [np.full((3, 4), number, np.uint32) for number in (1, 70_000)]
    for axis, letters in (("z", "ZYX"), ("time", "TYX")):
        write_label_stack(tmp_path / "a.tif", iter(planes), (2, 3, 4), axis, 70_000)  # type: ignore[arg-type]
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            assert tiff.series[0].axes == letters
            np.testing.assert_array_equal(tiff.asarray(), np.stack(planes))
    # One column is the hardest for tifffile.
    write_label_stack(tmp_path / "a.tif", [np.ones((3, 1), int)] * 5, (5, 3, 1), "z", 1)
    stored = tifffile.imread(tmp_path / "a.tif")
    assert stored.shape == (5, 3, 1) and stored.dtype == np.uint16
    monkeypatch.setattr("samlet.stacks.files._BIG_TIFF_BYTES", 10)
    write_label_stack(tmp_path / "a.tif", planes, (2, 3, 4), "z", 70_000)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_bigtiff and tiff.asarray().max() == 70_000


def test_many_objects_in_few_tracks_need_16_bits(
    everything: Run, stack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samlet.cli.everything_work.segment_everything", one_object)
    monkeypatch.setattr(batch, "MAX_SHORT", 2)
    assert everything(stack_file).exit_code == 0
    labels = tifffile.imread(tmp_path / "out" / "film.tif.labels.tif")
    assert labels.dtype == np.uint16 and labels.max() == 1


def test_the_format_of_the_challenge(tmp_path: Path) -> None:
    tracks = [Track(1, 0, 3, 0, 9), Track(2, 4, 5, 1, 9), Track(3, 4, 4, 1, 9)]
    write_res_track(tmp_path / "a.txt", tracks)
    assert (tmp_path / "a.txt").read_bytes() == b"1 0 3 0\n2 4 5 1\n3 4 4 1\n"


def test_a_journal_keeps_only_whole_lines(tmp_path: Path) -> None:
    journal = SliceJournal(tmp_path / "a.jsonl")
    assert journal.read() is None
    journal.start({"model": "a"})
    record = {"segmentation": to_rle(np.ones((2, 3), bool)), "predicted_iou": 0.5}
    journal.append([record, record], (2, 3))
    journal.append([], (2, 3))
    state = journal.read()
    assert state is not None and (state.slices, state.objects, state.linked) == (2, 2, None)
    whole = journal.path.read_bytes()
    assert state.size == len(whole)
    journal.set_linked("z")
    linked = journal.read()
    assert linked is not None and linked.linked == "z"
    for rest in (b'{"annotations": []}', b"\0" * 30, b"\0\n", b"[]\n"):
        journal.path.write_bytes(whole + rest)
        state = journal.read()
        assert state is not None and (state.slices, state.size) == (2, len(whole))
        journal.resume(state)
        assert journal.path.read_bytes() == whole
    with pytest.raises(UserError, match="does not belong to an image"):
        journal.append([record], (3, 3))
