"""A user's clicks, from the prompt to the labels, with the bundled model and no window."""

import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels

from samlet import Predictor, images, samples
from samlet.errors import UserError
from samlet.masks import area, iou
from samlet.modeling.sam import Sam
from samlet.outputs import read_label_map
from samlet.predict.embedding import ImageEmbedding
from samlet.predict.embedding_cache import EmbeddingCache
from samlet.predict.predictor import MaskPrediction
from samlet_napari.inference.embeddings import EmbeddingProvider
from samlet_napari.inference.objects import FoundObject
from samlet_napari.inference.prompts import Step
from samlet_napari.inference.requests import Request, Response
from samlet_napari.inference.roi import Roi
from samlet_napari.inference.worker import InferenceWorker
from samlet_napari.labels.label_store import LabelStore
from samlet_napari.layers.layer_reader import Channel, LayerSnapshot
from samlet_napari.layers.plane import Plane
from samlet_napari.session.session import Session
from tests.models import nuclei_at

FLAT = Plane((0, 1), (0, 0))
FIRST, SECOND = Plane((1, 2), (0, 0, 0)), Plane((1, 2), (1, 0, 0))
LARGE = 1 << 40
SIDE = 512


class Gated(Predictor):
    """Waits before it encodes a black image, and before it decodes anything, if told so."""

    def __init__(self, model: Sam) -> None:
        super().__init__(model, "torch")
        self.reached, self.may_encode = threading.Event(), threading.Event()
        self.asked, self.may_decode = threading.Event(), threading.Event()
        self.may_decode.set()

    def encode(self, image: np.ndarray) -> ImageEmbedding:
        if not image.any():
            self.reached.set()
            assert self.may_encode.wait(60)
        return super().encode(image)

    def segment(self, *args: Any, **options: Any) -> MaskPrediction:
        self.asked.set()
        assert self.may_decode.wait(60)
        return super().segment(*args, **options)


class Bench:
    """A session on an image, with the answerer that it asks; answers come when they are pumped."""

    def __init__(self, pixels: np.ndarray, predictor: Predictor, folder: Path) -> None:
        self.predictor = predictor
        self.snapshot = LayerSnapshot.of([Image(pixels, contrast_limits=(0, 255))])
        self.cache = EmbeddingCache(folder, LARGE, LARGE)
        self.embeddings = EmbeddingProvider(predictor, self.snapshot, self.cache)
        self.responses: queue.Queue[Response] = queue.Queue()
        self.worker = InferenceWorker(self.responses.put, lambda _: None)
        self.worker.set_image(self.embeddings)
        self.session = Session(self.worker, self.snapshot.size, SIDE)
        self.labels = Labels(np.zeros(pixels.shape, np.uint16))
        self.session.labels.set_store(LabelStore(self.labels, pixels.shape, is_empty=True))

    @property
    def store(self) -> LabelStore:
        assert self.session.labels.store is not None
        return self.session.labels.store

    def pump(self, until: Callable[[], bool] | None = None) -> None:
        """Hand answers over, until nothing is waited for, or something else holds."""
        while not (until() if until else not self.session.waiting):
            self.session.receive(self.responses.get(timeout=60))

    def click(self, x: float, y: float, positive: bool = True, plane: Plane = FLAT) -> None:
        self.session.click(plane, x, y, positive)

    def mask(self) -> np.ndarray:
        """What is seen of the open object, once all of it is answered."""
        self.pump()
        draft = self.session.draft
        assert draft is not None and draft.response is not None and draft.response.mask is not None
        return draft.response.mask

    def roi(self) -> Roi:
        self.pump()
        draft = self.session.draft
        assert draft is not None and draft.response is not None
        return draft.response.request.roi

    def masks(self, *clicks: tuple[float, float, bool]) -> MaskPrediction:
        """What the predictor says, each click going on from the best mask before."""
        embedding = self.predictor.encode(self.snapshot.read(FLAT, whole(self.snapshot)))
        previous: np.ndarray | None = None
        for count in range(1, len(clicks) + 1):
            points = [[x, y] for x, y, _ in clicks[:count]]
            kinds = [int(positive) for _, _, positive in clicks[:count]]
            masks = self.predictor.segment(
                embedding, points, kinds, None, previous, multimask_output=count == 1
            )
            previous = masks.low_res_masks[masks.best_index]
        return masks


def whole(picture: LayerSnapshot) -> tuple[int, int, int, int]:
    height, width = picture.size(FLAT)
    return 0, 0, width, height


@pytest.fixture(scope="module")
def cut() -> np.ndarray:
    return images.read(samples.IMAGES / "fluorescence_1.png")[:256, :256, 0]


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return read_label_map(samples.LABELS / "fluorescence_1.png")[:256, :256]


@pytest.fixture(scope="module")
def nuclei(truth: np.ndarray) -> list[tuple[float, float]]:
    """Where to click: the middles of the large ones."""
    large = [label for label in np.unique(truth[truth > 0]) if area(truth == label) > 1000]
    rows_columns = [np.argwhere(truth == label).mean(axis=0) for label in large]
    middles = [(float(column), float(row)) for row, column in rows_columns]
    assert len(middles) == 6 and all(truth[round(y), round(x)] for x, y in middles)
    return middles


@pytest.fixture(scope="module")
def model() -> Sam:
    return nuclei_at(512)


@pytest.fixture(scope="module")
def predictor(model: Sam) -> Predictor:
    return Predictor(model, "torch")


@pytest.fixture
def bench(cut: np.ndarray, predictor: Predictor, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(cut, predictor, tmp_path)
    yield bench
    bench.worker.close()


@pytest.fixture
def large_bench(cut: np.ndarray, predictor: Predictor, tmp_path: Path) -> Iterator[Bench]:
    """Of an image that the model sees in windows."""
    bench = Bench(np.tile(cut, (4, 5)), predictor, tmp_path)
    yield bench
    bench.worker.close()


@pytest.fixture
def gated(cut: np.ndarray, model: Sam, tmp_path: Path) -> Iterator[Bench]:
    """Of a stack, whose second slice is black, and cannot be encoded yet."""
    predictor = Gated(model)
    bench = Bench(np.stack([cut, np.zeros_like(cut)]), predictor, tmp_path)
    yield bench
    predictor.may_encode.set()
    predictor.may_decode.set()
    bench.worker.close()


def gates(bench: Bench) -> Gated:
    assert isinstance(bench.predictor, Gated)
    return bench.predictor


def test_a_click_gives_the_predictors_mask(
    bench: Bench, truth: np.ndarray, nuclei: list[tuple[float, float]]
) -> None:
    ious, labels = [], np.unique(truth[truth > 0])
    for x, y in nuclei:
        bench.click(x, y)
        mask = bench.mask()
        assert np.array_equal(mask, bench.masks((x, y, True)).best)
        ious.append([iou(mask, truth == label) for label in labels])
        bench.session.cancel()
    # At 512 px, for speed: the model is made for 1024 px, where these have a mean of 0.9.
    assert np.mean(np.max(ious, axis=1)) > 0.4
    assert [labels[best] for best in np.argmax(ious, axis=1)] == [
        truth[round(y), round(x)] for x, y in nuclei
    ]


@pytest.mark.parametrize("at_once", [False, True])
def test_a_second_click_goes_on_from_the_first_mask(
    bench: Bench, nuclei: list[tuple[float, float]], at_once: bool
) -> None:
    (x, y), (other_x, other_y) = nuclei[:2]
    clicks = [(x, y, True), (other_x, other_y, True), (x + 40, y, False)]
    for click in clicks:
        bench.click(*click)
        if not at_once:
            bench.pump()
    expected = bench.masks(*clicks).best
    assert np.array_equal(bench.mask(), expected)
    assert not np.array_equal(expected, bench.masks(*clicks[:1]).best)


def test_undo_gives_exactly_the_earlier_mask(
    bench: Bench, nuclei: list[tuple[float, float]]
) -> None:
    x, y = nuclei[0]
    seen = []
    for click in ((x, y, True), (x + 30, y, True), (x, y + 40, False)):
        bench.click(*click)
        seen.append(bench.mask())
    assert not np.array_equal(seen[0], seen[1])
    for expected in reversed(seen[:-1]):
        assert bench.session.undo() == "the last prompt"
        assert np.array_equal(bench.mask(), expected)
    assert bench.session.undo() == "the object" and bench.session.draft is None
    assert bench.session.undo() == ""


def test_clicks_at_once_are_looked_at_as_slow_ones_are(large_bench: Bench) -> None:
    found = []
    for is_slow in (True, False):
        large_bench.click(300, 300)
        if is_slow:
            large_bench.pump()
        large_bench.click(500, 500)
        large_bench.click(400, 310, False)
        found.append((large_bench.roi(), large_bench.mask()))
        large_bench.session.cancel()
    assert found[0][0] == found[1][0]
    assert np.array_equal(found[0][1], found[1][1])


def test_undo_looks_where_the_earlier_mask_was_seen(large_bench: Bench) -> None:
    large_bench.click(300, 300)
    roi, mask = large_bench.roi(), large_bench.mask()
    large_bench.click(900, 600)
    assert not roi.contains((300, 300, 900, 600))
    assert large_bench.roi() != roi
    large_bench.session.undo()
    assert large_bench.roi() == roi
    assert np.array_equal(large_bench.mask(), mask)


def test_zooming_does_not_change_what_the_model_sees_of_an_object(large_bench: Bench) -> None:
    large_bench.click(300, 300)
    roi = large_bench.roi()
    large_bench.session.visible_size = 1100.0
    large_bench.click(310, 300)
    assert large_bench.roi() == roi
    # Of the next object it sees as much as the user.
    large_bench.session.cancel()
    large_bench.click(300, 300)
    assert large_bench.roi().size == (1024, 1024)


def test_candidates_are_the_models_three_masks(
    bench: Bench, nuclei: list[tuple[float, float]]
) -> None:
    x, y = nuclei[0]
    bench.click(x, y)
    three = bench.masks((x, y, True))
    best = three.best_index
    assert np.array_equal(bench.mask(), three.masks[best])
    for turn in (1, 2, 3, 4):
        bench.session.next_candidate()
        assert np.array_equal(bench.mask(), three.masks[(best + turn) % 3])
    bench.click(x + 30, y)
    embedding = bench.predictor.encode(bench.snapshot.read(FLAT, whole(bench.snapshot)))
    expected = bench.predictor.segment(
        embedding,
        [[x, y], [x + 30, y]],
        [1, 1],
        mask_input=three.low_res_masks[(best + 4) % 3],
        multimask_output=False,
    )
    assert np.array_equal(bench.mask(), expected.best)


def test_candidates_of_a_box(bench: Bench) -> None:
    bench.session.draw_box(FLAT, (60, 60, 20, 20))
    one = bench.mask()
    seen = []
    for _ in range(4):
        bench.session.next_candidate()
        seen.append(bench.mask())
    assert np.array_equal(seen[0], seen[3]) and one.shape == seen[0].shape
    assert len({mask.tobytes() for mask in seen}) > 1


def test_a_candidate_needs_a_mask(bench: Bench) -> None:
    for prepare in (lambda: None, lambda: bench.click(40, 40)):
        prepare()
        with pytest.raises(UserError, match="no mask yet"):
            bench.session.next_candidate()


def test_boxes_without_pixels_are_refused(bench: Bench) -> None:
    for box in ((10, 10, 10.5, 40), (-30, 5, 0, 20), (300, 5, 400, 20)):
        with pytest.raises(UserError, match="box contains no pixel"):
            bench.session.draw_box(FLAT, box)
    assert bench.session.draft is None


def test_a_commit_before_the_answer_is_written_when_it_arrives(
    bench: Bench, nuclei: list[tuple[float, float]]
) -> None:
    x, y = nuclei[0]
    bench.click(x, y)
    bench.session.commit()
    assert bench.session.draft is None and not bench.labels.data.any()
    bench.click(*nuclei[1])
    bench.pump()
    assert np.array_equal(bench.labels.data == 1, bench.masks((x, y, True)).best)
    assert bench.session.draft is not None and not (bench.labels.data > 1).any()


def test_a_commit_needs_an_object_and_labels(bench: Bench) -> None:
    with pytest.raises(UserError, match="no object yet"):
        bench.session.commit()
    bench.session.labels.set_store(None)
    bench.click(40, 40)
    with pytest.raises(UserError, match="no labels"):
        bench.session.commit()
    assert bench.session.draft is not None


def test_each_of_five_fast_clicks_is_an_object(
    bench: Bench, truth: np.ndarray, nuclei: list[tuple[float, float]]
) -> None:
    bench.session.auto_commit = True
    for x, y in nuclei[:5]:
        bench.click(x, y)
    assert bench.session.waiting == 5
    bench.pump()
    for label, (x, y) in enumerate(nuclei[:5], start=1):
        # Low, as the model is made for larger inputs.
        assert iou(bench.labels.data == label, truth == truth[round(y), round(x)]) > 0.25
        assert [each.plane for each in bench.store.metadata.objects(label)] == [FLAT]
    for left in (4, 3):
        assert bench.session.undo() == "the last commit"
        assert np.unique(bench.labels.data).tolist() == list(range(left + 1))


def test_undo_takes_back_what_still_waits_first(
    bench: Bench, nuclei: list[tuple[float, float]]
) -> None:
    bench.session.auto_commit = True
    bench.click(*nuclei[0])
    bench.pump()
    bench.click(*nuclei[1])
    assert bench.session.undo() == "the last object"
    assert not bench.session.waiting
    assert bench.session.undo() == "the last commit"
    assert not bench.labels.data.any()


def test_an_object_is_taken_up_again_with_its_steps(
    bench: Bench, nuclei: list[tuple[float, float]]
) -> None:
    x, y = nuclei[0]
    bench.click(x, y)
    bench.mask()
    bench.session.next_candidate()
    bench.click(x + 20, y)
    mask = bench.mask()
    draft = bench.session.draft
    assert draft is not None
    bench.session.commit()
    bench.click(*nuclei[1])
    bench.pump()
    bench.session.commit()
    row, column = np.argwhere(mask)[0]
    assert bench.session.edit(FLAT, column, row) == 1
    again = bench.session.draft
    assert again is not None and again.steps == draft.steps and again.label == 1
    assert np.array_equal(bench.mask(), mask)
    bench.click(x, y - 30, False)
    refined = bench.mask()
    assert not np.array_equal(refined, mask)
    bench.session.commit()
    assert np.array_equal(bench.labels.data == 1, refined & (bench.labels.data != 2))
    assert bench.store.next_label() == 3
    bench.session.undo()
    assert np.array_equal(bench.labels.data == 1, mask)


def test_an_object_that_nobody_prompted_is_taken_up_by_its_box(bench: Bench) -> None:
    bench.labels.data_setitem(tuple(np.mgrid[30:50, 60:80].reshape(2, -1)), 8)
    assert bench.session.edit(FLAT, 70, 40) == 8
    draft = bench.session.draft
    assert draft is not None and draft.steps == (Step(box=(60.0, 30.0, 80.0, 50.0)),)
    with pytest.raises(UserError, match="no object here"):
        bench.session.edit(FLAT, 200, 200)


def put_boxes(*boxes: tuple[int, int, int, int]) -> list[FoundObject]:
    return [
        FoundObject(FLAT, (), box, np.ones((box[3] - box[1], box[2] - box[0]), bool))
        for box in boxes
    ]


def test_objects_found_at_once_skip_taken_ground(bench: Bench) -> None:
    assert bench.session.labels.write_objects(put_boxes((0, 0, 20, 20))) == 1
    before = bench.labels.data.copy()
    found = put_boxes((0, 0, 20, 10), (0, 9, 20, 20), (15, 0, 40, 20), (100, 100, 120, 120))
    assert bench.session.labels.write_objects(found[:2]) == 0
    assert np.array_equal(bench.labels.data, before)
    assert bench.session.labels.write_objects(found) == 2
    assert np.unique(bench.labels.data).tolist() == [0, 1, 2, 3]
    assert bench.session.labels.write_objects(put_boxes((200, 200, 210, 210)), continues=True) == 1
    assert bench.session.undo() == "the last commit"
    assert np.array_equal(bench.labels.data, before)
    assert bench.session.undo() == "the last commit"
    assert not bench.labels.data.any()
    assert bench.session.undo() == ""


def test_undo_says_when_nothing_was_left_of_a_commit(bench: Bench) -> None:
    bench.session.labels.write_objects(put_boxes((0, 0, 20, 20)))
    bench.labels.fill((5, 5), 9)
    assert bench.session.undo() == "the last commit, of which no pixel was left"
    assert (bench.labels.data[:20, :20] == 9).all()
    assert bench.session.undo() == ""


def test_an_undo_that_is_refused_can_be_done_later(bench: Bench) -> None:
    bench.session.labels.write_objects(put_boxes((0, 0, 20, 20)))
    labels = bench.labels.data
    bench.labels.data = np.zeros((9, 9), np.uint16)
    with pytest.raises(UserError, match="9 x 9"):
        bench.session.undo()
    bench.labels.data = labels
    assert bench.session.undo() == "the last commit"
    assert not bench.labels.data.any()


def test_what_is_committed_between_two_parts_of_a_propagation_is_taken_back_alone(
    bench: Bench,
) -> None:
    session = bench.session

    def numbers() -> list[int]:
        return np.unique(bench.labels.data).tolist()

    session.labels.write_objects(put_boxes((0, 0, 9, 9)))
    bench.click(128, 128)
    bench.mask()
    session.commit()
    session.labels.write_objects(put_boxes((0, 240, 9, 249)), continues=True)
    assert numbers() == [0, 1, 2, 3]
    assert session.undo() == "the last commit" and numbers() == [0, 1, 3]
    assert session.undo() == "the last commit" and numbers() == [0]
    # Taken back while it goes on, its rest is a part of nothing else.
    session.labels.write_objects(put_boxes((200, 0, 209, 9)))
    session.labels.write_objects(put_boxes((240, 240, 249, 249)))
    session.undo()
    session.labels.write_objects(put_boxes((240, 0, 249, 9)), continues=True)
    assert session.undo() == "the last commit" and numbers() == [0, 1]


def test_objects_found_at_once_take_ground_if_they_may(bench: Bench) -> None:
    bench.session.labels.write_objects(put_boxes((0, 0, 20, 20)))
    bench.session.labels.overwrite = True
    assert bench.session.labels.write_objects(put_boxes((5, 5, 10, 10))) == 1
    assert (bench.labels.data[5:10, 5:10] == 2).all()


def test_when_numbers_run_out_what_was_written_can_be_taken_back(bench: Bench) -> None:
    labels = Labels(np.zeros((256, 256), np.uint8))
    labels.data[255, 255] = 253
    bench.session.labels.set_store(LabelStore(labels, (256, 256)))
    with pytest.raises(UserError, match="no free number"):
        bench.session.labels.write_objects(put_boxes((0, 0, 9, 9), (20, 0, 29, 9), (40, 0, 49, 9)))
    assert np.unique(labels.data).tolist() == [0, 253, 254, 255]
    assert bench.session.undo() == "the last commit"
    assert np.unique(labels.data).tolist() == [0, 253]


def test_no_number_left_is_told_and_nothing_is_lost(
    bench: Bench, nuclei: list[tuple[float, float]]
) -> None:
    full = Labels(np.zeros((256, 256), np.uint8))
    full.data[255, 255] = 255
    bench.session.labels.set_store(LabelStore(full, (256, 256)))
    bench.click(*nuclei[0])
    mask = bench.mask()
    with pytest.raises(UserError, match="no free number"):
        bench.session.commit()
    # The object is still there, to be committed elsewhere.
    assert np.array_equal(bench.mask(), mask)
    bench.session.cancel()
    bench.click(*nuclei[0])
    bench.session.commit()
    bench.pump()
    assert "no free number" in bench.session.error


def test_labels_that_go_away_before_the_answer(
    bench: Bench, nuclei: list[tuple[float, float]]
) -> None:
    bench.click(*nuclei[0])
    bench.session.commit()
    bench.session.labels.set_store(None)
    bench.pump()
    assert "no labels" in bench.session.error


def test_what_lies_under_the_cursor(bench: Bench, nuclei: list[tuple[float, float]]) -> None:
    x, y = nuclei[0]
    bench.session.hover(FLAT, x, y)
    bench.pump(lambda: bench.session.hover_response is not None)
    hover = bench.session.hover_response
    assert hover is not None and hover.mask is not None and hover.request.kind == "hover"
    embedding = bench.predictor.encode(bench.snapshot.read(FLAT, whole(bench.snapshot)))
    glance = bench.predictor.segment(embedding, [[x, y]], [1], zoom=False)
    assert np.array_equal(hover.mask, glance.best)
    # The cursor rests there, so the model looks closer.
    bench.pump(lambda: bench.session.hover_response is not hover)
    assert bench.session.hover_response.mask is not None  # type: ignore[union-attr]
    assert np.array_equal(bench.session.hover_response.mask, bench.masks((x, y, True)).best)  # type: ignore
    bench.session.hover(FLAT, 300, 40)
    assert bench.session.hover_response is None


@pytest.mark.parametrize("is_click", [True, False])
def test_answers_about_the_cursor_are_old_once_it_clicks_or_leaves(
    bench: Bench, nuclei: list[tuple[float, float]], is_click: bool
) -> None:
    bench.session.hover(FLAT, *nuclei[0])
    response = bench.responses.get(timeout=60)
    assert response.request.kind == "hover" and response.mask is not None
    if is_click:
        bench.click(*nuclei[1])
    else:
        bench.session.clear_hover()
    assert not bench.session.receive(response)
    assert bench.session.hover_response is None


def test_cancel_drops_what_is_on_its_way(gated: Bench) -> None:
    gated.click(40, 40, plane=FIRST)
    response = gated.responses.get(timeout=60)
    gated.session.cancel()
    assert not gated.session.receive(response)
    gated.click(40, 40, plane=SECOND)
    assert gates(gated).reached.wait(60)
    gated.session.cancel()
    gates(gated).may_encode.set()
    gated.click(50, 50, plane=SECOND)
    only = gated.responses.get(timeout=60)
    assert only.request.steps == (Step(((50, 50, True),)),) and gated.session.receive(only)
    assert not gated.session.waiting


def test_a_click_in_another_plane_begins_anew(gated: Bench) -> None:
    gates(gated).may_encode.set()
    gated.click(40, 40, plane=FIRST)
    gated.click(45, 45, plane=SECOND)
    draft = gated.session.draft
    assert draft is not None and draft.plane == SECOND and len(draft.steps) == 1


class Failing:
    """An array that cannot be read, until it can."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.error: Exception | None = None

    def __getitem__(self, where: Any) -> np.ndarray:
        if self.error is not None:
            raise self.error
        values: np.ndarray = self._values[where]
        return values


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("the disk is gone"), "The image cannot be read: the disk is gone"),
        (UserError("It is of no use."), "It is of no use."),
    ],
)
def test_errors_are_told_and_the_session_goes_on(
    bench: Bench, cut: np.ndarray, error: Exception, told: str
) -> None:
    array = Failing(cut)
    picture = LayerSnapshot((Channel((array,), (0.0, 255.0), None),), cut.shape, False)
    bench.worker.set_image(EmbeddingProvider(bench.predictor, picture, bench.cache))
    array.error = error
    bench.click(40, 40)
    bench.session.commit()
    bench.pump()
    assert bench.session.error == told
    bench.click(40, 40)
    bench.pump()
    assert bench.session.draft is None and bench.session.error == told
    array.error = None
    bench.click(40, 40)
    assert bench.mask().any() and bench.session.error == ""


def test_an_encoder_that_fails_is_told_too(bench: Bench, model: Sam) -> None:
    class Failing(Predictor):
        def segment(self, *args: Any, **options: Any) -> MaskPrediction:
            raise RuntimeError("out of memory")

    bench.worker.set_image(EmbeddingProvider(Failing(model, "torch"), bench.snapshot, bench.cache))
    bench.click(40, 40)
    bench.pump()
    assert "out of memory" in bench.session.error
    bench.worker.set_image(bench.embeddings)
    bench.click(40, 40)
    assert bench.mask().any()


def test_an_encoded_window_is_answered_while_another_is_encoded(gated: Bench) -> None:
    gated.click(40, 40, plane=FIRST)
    gated.pump()
    gated.session.commit()
    gated.click(40, 40, plane=SECOND)
    gated.session.commit()
    assert gates(gated).reached.wait(60)
    gated.click(60, 60, plane=FIRST)
    gated.pump(lambda: gated.session.draft is not None and gated.session.draft.is_complete)
    assert gated.session.waiting == 1 and not gates(gated).may_encode.is_set()
    gates(gated).may_encode.set()
    gated.pump()


def test_windows_are_encoded_ahead(gated: Bench) -> None:
    rois = [gated.session.roi_for(plane, (9, 9, 9, 9)) for plane in (FIRST, SECOND)]
    gated.worker.encode_ahead(rois)
    assert gates(gated).reached.wait(60)
    assert [gated.embeddings.is_ready(roi) for roi in rois] == [True, False]


def test_encoding_is_told_from_its_beginning_to_its_end(
    cut: np.ndarray, predictor: Predictor, tmp_path: Path
) -> None:
    told: queue.Queue[bool] = queue.Queue()
    worker = InferenceWorker(lambda _: None, told.put)
    picture = LayerSnapshot.of([Image(np.stack([cut, cut[::-1]]), contrast_limits=(0, 255))])
    embeddings = EmbeddingProvider(predictor, picture, EmbeddingCache(tmp_path, LARGE, LARGE))
    worker.set_image(embeddings)
    rois = [Roi(plane, (0, 0, 256, 256)) for plane in (FIRST, SECOND)]
    worker.encode_ahead(rois)
    assert [told.get(timeout=60) for _ in range(2)] == [True, False]
    assert all(embeddings.is_ready(roi) for roi in rois)
    worker.close()


def test_close_ends_both_threads(cut: np.ndarray, predictor: Predictor, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    bench = Bench(cut, predictor, tmp_path)
    bench.click(40, 40)
    bench.pump()
    threads = set(threading.enumerate()) - before
    assert len(threads) == 2
    bench.worker.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_the_end_waits_for_what_is_being_encoded() -> None:
    """PyTorch aborts a process that ends while a thread is in it."""
    code = """
import threading, time, torch
from samlet_napari.inference.worker import InferenceWorker
began = threading.Event()
class Embeddings:
    def is_ready(self, roi):
        return False
    def get(self, roi):
        matrix, end = torch.ones(300, 300), time.monotonic() + 0.5
        began.set()
        while time.monotonic() < end:
            matrix @ matrix
        print("It is encoded.", flush=True)
worker = InferenceWorker(print, lambda _: None)
worker.set_image(Embeddings())
worker.encode_ahead(["an ROI"])
began.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("It is encoded.\n", "")


def test_showing_nothing_drops_everything(gated: Bench) -> None:
    gated.click(40, 40, plane=SECOND)
    gated.session.commit()
    gated.session.hover(SECOND, 9, 9)
    gated.worker.encode_ahead([gated.session.roi_for(FIRST, (9, 9, 9, 9))])
    assert gates(gated).reached.wait(60)
    gated.worker.set_image(None)
    gates(gated).may_encode.set()
    gated.worker.set_image(gated.embeddings)
    gated.click(60, 60, plane=SECOND)
    response = gated.responses.get(timeout=60)
    assert response.request.steps == (Step(((60, 60, True),)),)
    assert not gated.embeddings.is_ready(gated.session.roi_for(FIRST, (9, 9, 9, 9)))


def test_answers_of_an_earlier_image_are_not_taken_for_those_of_a_later(
    gated: Bench, cut: np.ndarray, predictor: Predictor, tmp_path: Path
) -> None:
    roi = gated.session.roi_for(FIRST, (40, 40, 40, 40))
    request = Request("object", 1, roi, (Step(((40, 40, True),)),))
    gates(gated).may_decode.clear()
    gated.worker.submit(request)
    assert gates(gated).asked.wait(60)
    other = LayerSnapshot.of([Image(np.stack([cut.T, cut]), contrast_limits=(0, 255))])
    embeddings = EmbeddingProvider(predictor, other, gated.cache)
    gated.worker.set_image(embeddings)
    gated.worker.submit(request)
    gates(gated).may_decode.set()
    response = gated.responses.get(timeout=60)
    expected = predictor.segment(embeddings.get(roi), [[40, 40]], [1])
    assert response.mask is not None and np.array_equal(response.mask, expected.best)


def test_an_image_that_fails_late_does_not_refuse_questions_about_the_next(
    bench: Bench, cut: np.ndarray
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    class Late(Failing):
        def __getitem__(self, where: Any) -> np.ndarray:
            reached.set()
            assert go_on.wait(60)
            raise OSError("the disk is gone")

    picture = LayerSnapshot((Channel((Late(cut),), (0.0, 255.0), None),), cut.shape, False)
    bench.worker.set_image(EmbeddingProvider(bench.predictor, picture, bench.cache))
    bench.click(40, 40)
    assert reached.wait(60)
    bench.worker.set_image(bench.embeddings)
    bench.session.resubmit()
    go_on.set()
    assert bench.mask().any() and bench.session.error == ""


def test_open_objects_are_asked_about_again(
    bench: Bench, cut: np.ndarray, nuclei: list[tuple[float, float]]
) -> None:
    x, y = nuclei[0]
    bench.click(x, y)
    before = bench.mask()
    other = LayerSnapshot.of([Image(cut, contrast_limits=(0, 40))])
    embeddings = EmbeddingProvider(bench.predictor, other, bench.cache)
    bench.worker.set_image(embeddings)
    bench.session.resubmit()
    assert bench.session.waiting
    expected = bench.predictor.segment(embeddings.get(bench.roi()), [[x, y]], [1])
    assert np.array_equal(bench.mask(), expected.best)
    assert not np.array_equal(bench.mask(), before)


def test_embeddings_are_found_again_on_disk(
    bench: Bench, cut: np.ndarray, model: Sam, tmp_path: Path
) -> None:
    bench.click(40, 40)
    mask = bench.mask()

    class Lazy(Predictor):
        def encode(self, image: np.ndarray) -> ImageEmbedding:
            raise UserError("Nobody should encode.")

    again = Bench(cut, Lazy(model, "torch"), tmp_path)
    again.click(40, 40)
    assert np.array_equal(again.mask(), mask)
    again.worker.close()
