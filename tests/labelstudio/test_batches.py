"""Batches that take longer than Label Studio waits, written to a real one in the background."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from samlet.errors import UserError
from samlet_labelstudio.label_studio.client import connect
from samlet_labelstudio.label_studio.labeling_config import LabelingConfig
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service, batches, preannotation, predictions
from samlet_labelstudio.service.background import BackgroundBatches
from samlet_labelstudio.service.request_context import RequestContext
from samlet_labelstudio.settings import Settings
from tests.labelstudio import payloads
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.quick_backend import (
    COUNT,
    SOON_S,
    Gate,
    counts,
    messages,
    model,
    project,
    service,
    url,
    wait,
)

__all__ = ["model", "project", "service", "url"]


@pytest.fixture
def gate(service: Service, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(service, monkeypatch)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test answers at once may take longer on a busy machine."""
    monkeypatch.setattr(batches, "MANY_WAIT_SECONDS", SOON_S)


def test_each_prediction_is_written_once(
    server: LabelStudio,
    project: int,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(batches, "WAIT_SECONDS", 0.2)
    server.retrieve_predictions(project)
    assert messages(caplog, "3 tasks are processed in the background, and their predictions appear")
    # Annotators who see nothing repeat the request, for all of them and for some.
    server.retrieve_predictions(project)
    server.retrieve_predictions(project, server.task_ids(project)[1:])
    for count in (3, 2):
        assert messages(
            caplog, f"{count} of these tasks are already being processed in the background"
        )
    assert counts(server, project) == [0] * COUNT
    gate.opened.set()
    wait(lambda: messages(caplog, f"Project {project}: 3 of 3 tasks are done."))
    assert counts(server, project) == [1] * COUNT
    assert sorted(gate.processed) == server.task_ids(project)
    monkeypatch.setattr(batches, "WAIT_SECONDS", SOON_S)
    server.retrieve_predictions(project)
    assert counts(server, project) == [1] * COUNT


def test_two_requests_at_the_same_time(
    server: LabelStudio,
    project: int,
    service: Service,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The second came before the first took too long, and would have an answer."""
    first_waits, second_asks = threading.Event(), threading.Event()
    real_take = service.background.deliveries.take

    def wait_for_the_second(batch: batches.Batch, seconds: float) -> bool:
        first_waits.set()
        assert second_asks.wait(SOON_S)
        return False

    @contextmanager
    def take(keys: Any) -> Iterator[list[bool]]:
        with real_take(keys) as taken:
            if first_waits.is_set():
                second_asks.set()
            yield taken

    monkeypatch.setattr(batches.Batch, "_wait", wait_for_the_second)
    monkeypatch.setattr(service.background.deliveries, "take", take)
    first = threading.Thread(target=server.retrieve_predictions, args=[project])
    first.start()
    assert first_waits.wait(SOON_S)
    second = threading.Thread(target=server.retrieve_predictions, args=[project])
    second.start()
    first.join()
    gate.opened.set()
    second.join()
    wait(lambda: messages(caplog, f"Project {project}: 3 of 3 tasks are done."))
    assert counts(server, project) == [1] * COUNT


@pytest.mark.parametrize("error", [UserError("It is odd."), RuntimeError("of a library")])
def test_one_of_the_background_fails(
    error: Exception,
    server: LabelStudio,
    project: int,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(batches, "WAIT_SECONDS", 0.2)
    # In the first, while the request waits, and in the last, in the background.
    first, _, last = server.task_ids(project)
    gate.failing = {first: error, last: error}
    server.retrieve_predictions(project)
    gate.opened.set()
    wait(lambda: messages(caplog, f"Project {project}: 1 of 3 tasks are done."))
    assert counts(server, project) == [0, 1, 0]
    for number in (first, last):
        (record,) = [r for r in caplog.records if f"Task {number} was skipped" in r.getMessage()]
        assert (record.levelno == logging.ERROR) == (record.exc_info is not None)
        assert str(error) in (caplog.text if record.exc_info else record.getMessage())
    # They can be requested again.
    gate.failing.clear()
    monkeypatch.setattr(batches, "WAIT_SECONDS", SOON_S)
    server.retrieve_predictions(project)
    assert counts(server, project) == [1] * COUNT


def test_tasks_that_are_deleted_meanwhile(
    server: LabelStudio,
    project: int,
    service: Service,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(batches, "WAIT_SECONDS", 0.2)
    first, second, third = server.task_ids(project)
    server.retrieve_predictions(project)
    server.call("DELETE", f"tasks/{first}/")
    preannotate = service.preannotator.preannotate

    def delete_then_preannotate(prepared: Any, progress: Any = None) -> Any:
        if prepared.task["id"] == third:
            server.call("DELETE", f"tasks/{third}/")
        return preannotate(prepared, progress=progress)

    monkeypatch.setattr(service.preannotator, "preannotate", delete_then_preannotate)
    gate.opened.set()
    wait(lambda: messages(caplog, f"Project {project}: 1 of 3 tasks are done."))
    assert len(server.predictions(second)) == 1
    for number in (first, third):
        assert messages(caplog, f"Task {number} was skipped: It was deleted in Label Studio.")


def test_one_long_task(
    server: LabelStudio,
    project: int,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(batches, "WAIT_SECONDS", 0.2)
    read: list[Any] = []
    real_completion = preannotation.completion_of

    def completion_of(*arguments: Any) -> Any:
        read.append(arguments)
        return real_completion(*arguments)

    monkeypatch.setattr(preannotation, "completion_of", completion_of)
    task = server.task_ids(project)[0]
    server.retrieve_predictions(project, [task])
    gate.opened.set()
    wait(lambda: messages(caplog, f"Project {project}: 1 of 1 tasks are done."))
    assert counts(server, project) == [1, 0, 0]
    assert len(read) == 1


def test_label_studio_is_gone_for_a_while(
    project: int,
    server: LabelStudio,
    service: Service,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(batches, "WAIT_SECONDS", 0.2)
    server.retrieve_predictions(project)
    nobody = connect(Settings(label_studio_url="http://127.0.0.1:9", api_key="k"))
    with monkeypatch.context() as patch:
        patch.setattr(predictions, "connect", lambda settings: nobody)
        gate.opened.set()
        wait(lambda: messages(caplog, "resumed when the backend is started again"))
    (message,) = messages(caplog, "Label Studio does not answer at")
    assert message.startswith(f"Project {project}: 3 of 3 tasks are left, and resumed when")
    assert service.background.progress() == []

    again = Service(service.settings)
    again.resume()
    wait(lambda: messages(caplog, f"Project {project}: 3 of 3 tasks are done."))
    assert counts(server, project) == [1] * COUNT


def test_a_project_that_is_deleted_meanwhile(
    project: int,
    server: LabelStudio,
    service: Service,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One sentence, nothing computed, and nothing left to be tried again at the next start."""
    monkeypatch.setattr(batches, "WAIT_SECONDS", 0.2)
    service.recent_log.attach()
    server.retrieve_predictions(project)
    server.call("DELETE", f"projects/{project}/")
    gate.opened.set()
    sentence = f"Project {project} was deleted in Label Studio. Its batch ends: 0 of 3 tasks were"
    wait(lambda: messages(caplog, sentence))
    assert len(gate.processed) == 1 and not messages(caplog, "was skipped")
    page = create_app(service, 2).test_client().get("/", headers={"Accept": "text/html"})
    assert f"ERROR {sentence} done." in page.get_data(as_text=True)
    assert service.background.progress() == []
    assert list((service.settings.folder / "batches").iterdir()) == []
    again = Service(service.settings)
    again.resume()
    assert again.background.progress() == [] and not messages(caplog, "are resumed")


def quick_service(folder: Path, model: Path, **more: Any) -> Service:
    return Service(Settings(model=str(model), engine="torch", folder=folder, max_regions=2, **more))


def test_a_stopped_server_goes_on_at_its_next_start(
    server: LabelStudio,
    project: int,
    service: Service,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whether it has answered the request already or not."""
    first, *others = server.task_ids(project)
    gate = Gate(service, monkeypatch)
    monkeypatch.setattr(batches, "MANY_WAIT_SECONDS", 0.2)
    server.retrieve_predictions(project, [first, others[0]])
    (progress,) = service.background.progress()
    assert (progress.project, progress.done, progress.total) == (str(project), 0, 2)
    monkeypatch.setattr(batches, "MANY_WAIT_SECONDS", SOON_S)
    waiting = threading.Thread(target=server.retrieve_predictions, args=[project, others[1:]])
    waiting.start()
    # A second backend that uses the same folder leaves them alone.
    neighbour = Service(service.settings)
    neighbour.resume()
    assert neighbour.background.progress() == []
    gate.failing = dict.fromkeys(server.task_ids(project), batches._UnwantedError())
    service.background.is_shutting_down = True
    gate.opened.set()
    service.shut_down()
    waiting.join()
    assert messages(caplog, "stops before 2 tasks are done; they are resumed at the next start.")
    assert counts(server, project) == [0] * COUNT

    again = Service(service.settings)
    again.resume()
    assert messages(caplog, f"Project {project}: 2 tasks of before are resumed.")
    wait(lambda: messages(caplog, f"Project {project}: 2 of 2 tasks are done."))
    assert counts(server, project) == [1, 1, 0]
    (prediction,) = server.predictions(first)
    # With the settings that the project had.
    assert len(prediction["result"]) <= 5
    assert list((tmp_path / "batches").iterdir()) == [] == again.background.progress()


def test_opening_a_task_asks_twice_for_one_prediction(
    server: LabelStudio,
    project: int,
    service: Service,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.change_project(project, show_collab_predictions=True)
    task = server.task_ids(project)[0]
    asked, real_take = threading.Semaphore(0), service.background.deliveries.take

    @contextmanager
    def take(keys: Any) -> Iterator[list[bool]]:
        with real_take(keys) as taken:
            asked.release()
            yield taken

    monkeypatch.setattr(service.background.deliveries, "take", take)
    opened = [threading.Thread(target=server.task, args=[task]) for _ in range(3)]
    for thread in opened:
        thread.start()
    for _ in opened:
        assert asked.acquire(timeout=SOON_S)
    gate.opened.set()
    for thread in opened:
        thread.join()
    assert len(server.predictions(task)) == 1
    assert gate.processed == [task]


def test_a_task_that_has_a_prediction_of_this_model(model: Path, tmp_path: Path) -> None:
    service = quick_service(tmp_path, model)
    client = create_app(service, 2).test_client()
    version = service.models.version_of("1")
    image = payloads.image_file("fluorescence_2")
    has_one = payloads.task(image, 1, predictions=[{"model_version": version, "result": []}])
    tasks = [has_one, payloads.task(image, 2)]
    first, second = client.post("/predict", json=payloads.request(tasks)).json["results"]
    assert first == [] and second["model_version"] == version and second["result"]


def test_one_of_several_fails_at_a_library(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = quick_service(tmp_path, model)
    gate = Gate(service, monkeypatch)
    gate.opened.set()
    gate.failing = {2: RuntimeError("of a library")}
    client = create_app(service, 2).test_client()
    image = payloads.image_file("fluorescence_2")
    tasks = [payloads.task(image, number) for number in (1, 2, 3)]
    answer = client.post("/predict", json=payloads.request(tasks))
    assert [bool(each["result"]) for each in answer.json["results"]] == [True, False, True]
    assert messages(caplog, "Task 2 was skipped") and "of a library" in caplog.text
    answer = client.post("/predict", json=payloads.request(tasks[1:2]))
    assert answer.status_code == 500 and "(RuntimeError)" in answer.json["error"]


@pytest.mark.parametrize(
    ("known", "number", "sentence"),
    [
        ({}, 1, "Label Studio's address and an API key are needed"),
        (
            {"label_studio_url": "http://127.0.0.1:9", "api_key": "k"},
            None,
            'A task has no number as its "id"',
        ),
    ],
)
def test_what_cannot_be_left_to_the_background(
    known: Any,
    number: Any,
    sentence: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "WAIT_SECONDS", 0.1)
    service = quick_service(tmp_path, model, **known)
    gate = Gate(service, monkeypatch)
    client = create_app(service, 2).test_client()
    tasks = [payloads.task(payloads.image_file("fluorescence_2"), number) for _ in range(5)]
    answer = client.post("/predict", json=payloads.request(tasks))
    assert answer.status_code == 400 and sentence in answer.json["error"]
    gate.opened.set()
    service.background.join()
    # Nobody will ever see the others.
    assert len(gate.processed) == 1


@pytest.mark.parametrize("reason", ["unwanted", "shutdown", "shutdown of the background"])
def test_a_long_task_ends_within_it(
    reason: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody waits for it any more, or the server stops."""
    monkeypatch.setattr(batches, "WAIT_SECONDS", SOON_S if reason == "shutdown" else 0.2)
    known = {"label_studio_url": "http://127.0.0.1:9", "api_key": "k"} if "of" in reason else {}
    service = quick_service(tmp_path, model, **known)
    began, ended = threading.Event(), threading.Event()

    def endless(*args: Any, progress: Callable[[float], None] | None) -> None:
        began.set()
        assert progress is not None
        try:
            while True:
                progress(0.5)
                time.sleep(0.01)
        finally:
            ended.set()

    monkeypatch.setattr(preannotation, "segment_everything", endless)
    body = payloads.request([payloads.task(payloads.image_file("fluorescence_2"))])
    client = create_app(service, 2).test_client()
    answers: list[Any] = []
    request = threading.Thread(target=lambda: answers.append(client.post("/predict", json=body)))
    request.start()
    assert began.wait(SOON_S)
    if reason != "shutdown":
        request.join()
    if reason != "unwanted":
        assert not ended.is_set()
        service.background.is_shutting_down = True
    assert ended.wait(SOON_S)
    request.join()
    if reason == "shutdown of the background":
        assert answers[0].json["results"] == [[]]
        return
    sentence = {
        "unwanted": "address and an API key are needed",
        "shutdown": "The server is stopping",
    }[reason]
    assert answers[0].status_code == 400 and sentence in answers[0].json["error"]


def test_many_boxes_can_be_cancelled(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = quick_service(tmp_path, model)
    boxes = [payloads.box((i, i, i + 50, i + 50), (360, 360)) for i in range(10)]
    theirs = [{"model_version": "yolo", "result": boxes}]
    task = payloads.task(payloads.image_file("fluorescence_2"), predictions=theirs)
    context = service.context("1", payloads.config())
    fractions: list[float] = []
    prepared = service.preannotator.prepare(context, task)
    service.preannotator.preannotate(prepared, progress=fractions.append)
    assert fractions == [0.8, 1]

    def cancel(fraction: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        service.preannotator.preannotate(prepared, progress=cancel)


def test_the_end_waits_for_the_model(tmp_path: Path) -> None:
    """A server that is stopped as soon as it is started loads its model at that time."""
    code = f"""
from pathlib import Path
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
Service(Settings(engine="torch", folder=Path({str(tmp_path)!r}))).warm_up()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_end_of_the_server(tmp_path: Path) -> None:
    """It tells what is left, and waits: PyTorch aborts a process that ends while it computes."""
    code = """
import sys, threading, time, torch
from pathlib import Path
from samlet_labelstudio.label_studio.labeling_config import LabelingConfig
from samlet_labelstudio.service import background
from samlet_labelstudio.service.request_context import RequestContext
from samlet_labelstudio.settings import Settings
batches, began = background.BackgroundBatches(Path(sys.argv[1])), threading.Event()
context = RequestContext("3", LabelingConfig((), {}), Settings())
tasks = [{"id": 1}, {"id": 2}, {"id": 5}]
with batches.claim("3", tasks) as claim:
    batches.take_over(claim, context, tasks)
batches.release("3", 2)
def work():
    matrix = torch.ones(300, 300)
    began.set()
    while not batches.is_shutting_down:
        matrix @ matrix
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        matrix @ matrix
    print("Its batch is done.", flush=True)
batches.start(work)
began.wait()
batches.shut_down(0)
batches.join()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "Its batch is done.\n"
    assert done.stderr == (
        "Project 3: the server stops before 2 tasks are done; they are resumed at the next start.\n"
    )


def test_who_is_answered(tmp_path: Path) -> None:
    """A prediction that was written while a request waited must not be its answer, too."""
    owed = BackgroundBatches(tmp_path)
    context = RequestContext("3", LabelingConfig((), {}), Settings())
    odd: list[Any] = [{"id": {}}, {}, {"id": "1"}]
    tasks: list[Any] = [{"id": 1}, {"id": 2}]
    with (
        owed.claim("4", [*tasks, *odd]),
        pytest.raises(UserError, match="1 of these tasks are already"),
        owed.claim("3", [{"id": 2}, {"id": 3}]) as second,
    ):
        with owed.claim("3", tasks) as first:
            owed.take_over(first, context, tasks)
        for number in (1, 2):
            owed.release("3", number)
        with pytest.raises(UserError, match="1 of these"):
            owed.take_over(second, context, tasks)
    with owed.claim("3", tasks):
        pass


def test_shut_down_while_a_batch_is_being_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    background = BackgroundBatches(tmp_path)
    starting, done = threading.Event(), threading.Event()
    request = threading.Thread(target=background.start, args=[done.set])
    real_start = threading.Thread.start

    def start_slowly(thread: threading.Thread) -> None:
        if threading.current_thread() is request:
            starting.set()
            time.sleep(0.3)
        real_start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_slowly)
    request.start()
    assert starting.wait(SOON_S)
    background.shut_down(SOON_S)
    assert done.is_set()
