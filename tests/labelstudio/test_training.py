"""Learning from annotations: real trainings of few steps, in real processes."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import samlet
from samlet.datasets.label_studio import brush_rle
from samlet.errors import UserError
from samlet.masks import iou
from samlet.modeling.fingerprint import encoder_fingerprint
from samlet.training.job import RESULT, FinetuneJob, FinetuneResult, Progress
from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings
from samlet_labelstudio.training import run
from samlet_labelstudio.training.annotations import ANNOTATIONS, IMAGES
from samlet_labelstudio.training.run import TrainingRun
from samlet_labelstudio.training.versions import Versions
from tests.labelstudio import payloads
from tests.labelstudio.test_images import Host
from tests.models import nuclei_at

NAMES = ("stained_1", "fluorescence_3")
WAIT_S = 300


def annotated(number: int, name: str, url: str) -> dict[str, Any]:
    """A task as Label Studio exports it, with the bundled labels as its annotation."""
    results = []
    for i, mask in enumerate(payloads.objects(name)[:6]):
        height, width = mask.shape
        results.append(
            {
                "id": f"r{i}",
                "type": "brushlabels",
                "from_name": "answer",
                "to_name": "img",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "format": "rle",
                    "rle": brush_rle.encode(mask),
                    "brushlabels": ["cell"],
                },
            }
        )
    annotation = {"id": number, "was_cancelled": False, "result": results}
    return {"id": number, "data": {"image": url}, "annotations": [annotation]}


def exported(folder: Path) -> Path:
    """The folder of a job, as `export_annotations` leaves it."""
    (folder / IMAGES).mkdir(parents=True)
    tasks = [annotated(number, name, f"{number}.png") for number, name in enumerate(NAMES, 1)]
    for number, name in enumerate(NAMES, 1):
        (folder / IMAGES / f"{number}.png").write_bytes(payloads.image_file(name))
    (folder / ANNOTATIONS).write_text(json.dumps(tasks))
    return folder


def run_in(folder: Path) -> TrainingRun:
    settings = Settings(folder=folder, train_steps=2)
    training = TrainingRun("3", settings, Versions(folder / "projects"))
    training.folder = folder
    return training


def wait(until: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def serve(host: Host, *names: str, number: int = 3) -> None:
    """Put a project where Label Studio has it: its images and its export."""
    tasks = []
    for i, name in enumerate(names):
        path = f"/data/upload/{number}/{name}.png"
        host.respond(path, payloads.image_file(name))
        tasks.append(annotated(i, name, path))
    tasks.append({"id": 100, "data": {"image": "/data/upload/3/a.png"}, "annotations": []})
    # An image that is not there any more.
    tasks.append(annotated(101, NAMES[0], f"/data/upload/{number}/gone.png"))
    serve_tasks(host, tasks, number)


def serve_tasks(host: Host, tasks: list[dict[str, Any]], number: int = 3) -> None:
    """Put the export of a project where Label Studio has it."""
    host.respond("/api/version/", json.dumps({"edition": "Community"}).encode())
    host.respond(f"/api/projects/{number}/export", json.dumps(tasks).encode())
    for path in ("/api/version/", f"/api/projects/{number}/export"):
        host.responses[path][1]["Content-Type"] = "application/json"


def exports(host: Host, number: int = 3) -> int:
    return sum(path.startswith(f"/api/projects/{number}/export") for path, _ in host.received)


@pytest.fixture
def host() -> Iterator[Host]:
    """Stands for Label Studio; tests with a real one are elsewhere."""
    with Host() as host:
        yield host
        host.shutdown()


def service_of(host: Host, folder: Path, **more: Any) -> Service:
    key = "a-key"
    given = {"train_steps": 2, **more}
    url = host.url
    return Service(
        Settings(engine="torch", folder=folder, label_studio_url=url, api_key=key, **given)
    )


def train(service: Service, project: str = "3") -> None:
    TrainingRun(project, service.settings, service.versions).train()


def hook(client: Any, event: str, project: Any = 3) -> Any:
    return client.post("/webhook", json={"action": event, "project": {"id": project}})


def started_job(service: Service) -> FinetuneJob:
    """The process of the training that runs, once there is one."""

    def job() -> FinetuneJob | None:
        run = service.trainer._run
        return None if run is None else run.job

    wait(lambda: (found := job()) is not None and found.is_running)
    found = job()
    assert found is not None
    return found


def shown_version(client: Any, project: str = "3") -> str:
    """The version that Label Studio has of the backend."""
    body = {"project": f"{project}.17", "schema": payloads.config()}
    return str(client.post("/setup", json=body).json["model_version"])


@pytest.mark.slow
def test_from_annotations_to_a_model(tmp_path: Path, host: Host) -> None:
    base = str(tmp_path / "quick.safetensors")
    samlet.save(nuclei_at(256), base)
    serve(host, *NAMES)
    service = service_of(host, tmp_path, model=base)
    client = create_app(service, 4).test_client()
    answer = hook(client, "START_TRAINING").json["status"]
    assert answer.startswith("Training on project 3 has started: the backend's page (/) and its ")
    answer = hook(client, "START_TRAINING", 4).json["status"]
    assert answer.startswith("Training on project 3 is running (")
    assert answer.endswith("): try again when it has finished.")
    started_job(service)
    measuring = "training: checking the labels, and measuring how long a step takes"
    assert shown_version(client) == f"{base} ({measuring})"
    assert shown_version(client, "4") == base
    # Meanwhile annotators go on.
    nucleus = payloads.objects(NAMES[0])[0]
    task = payloads.task(payloads.image_file(NAMES[0]))
    body = payloads.request([task], [payloads.box_around(nucleus)], project="3.17")
    assert service.trainer.running == "3"
    assert client.post("/predict", json=body).json["model_version"] == base
    wait(lambda: service.trainer.running is None)
    outcome = service.trainer.outcome("3")
    assert (
        outcome is not None and not outcome.is_error and "IoU before: click 0." in outcome.message
    )

    (version,) = service.versions.all("3")
    facts = version.facts
    for when in ("before", "after"):
        assert 0.1 < facts[when]["click"] <= 1 and 0.3 < facts[when]["box"] <= 1
    assert (facts["base"], facts["project"], facts["images"]) == (base, "3", 2)
    assert facts["notes"] == ["2 of 2 images have labels."]
    assert version.name.startswith("quick.project-3.2-images.20")
    mean = {when: facts[when]["click"] + facts[when]["box"] for when in ("before", "after")}
    is_better = mean["after"] > mean["before"]
    assert (service.versions.chosen("3") == version) == is_better
    names = client.post("/versions", json={"project": "3"}).json["versions"]
    assert names == [base, version.name]

    # It is a model that answers, and what it was made from is as it was.
    service.versions.choose("3", version.name)
    assert shown_version(client) == version.name
    answer = client.post("/predict", json=body).json
    assert answer["model_version"] == version.name
    assert iou(payloads.mask_of(answer["results"][0]["result"], nucleus.shape), nucleus) > 0.3
    before, after = samlet.load(base), samlet.load(str(version.path))
    assert encoder_fingerprint(after) == encoder_fingerprint(before)
    weights = after.mask_decoder.state_dict()
    assert any(
        not weights[name].equal(value) for name, value in before.mask_decoder.state_dict().items()
    )
    body["project"] = "4.17"
    assert client.post("/predict", json=body).json["model_version"] == base


def test_a_killed_training(tmp_path: Path, host: Host, caplog: pytest.LogCaptureFixture) -> None:
    serve(host, *NAMES)
    service = service_of(host, tmp_path)
    client = create_app(service, 4).test_client()
    hook(client, "START_TRAINING")
    started_job(service).kill()
    wait(lambda: service.trainer.running is None)
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert message.startswith("Training on project 3 failed: It ended with status -9; ")
    assert message.endswith("log.txt may tell why.")
    assert client.get("/health").status_code == 200 and service.versions.all("3") == []
    # Annotators see it, also when the server has started again; and other projects do not.
    assert shown_version(client) == f"microscopy ({message.removesuffix('.')})"
    client = create_app(service_of(host, tmp_path), 4).test_client()
    assert shown_version(client) == f"microscopy ({message.removesuffix('.')})"
    assert shown_version(client, "4") == "microscopy"


def test_a_training_goes_on_at_the_next_start(
    tmp_path: Path, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    serve(host, *NAMES)
    service = service_of(host, tmp_path)
    hook(create_app(service, 4).test_client(), "START_TRAINING")
    process = started_job(service).process
    # A second backend that uses the same folder leaves it alone.
    neighbour = service_of(host, tmp_path)
    neighbour.resume()
    answer = hook(create_app(neighbour, 4).test_client(), "START_TRAINING", 4).json["status"]
    assert "another backend that uses" in answer and neighbour.trainer.running is None
    service.shut_down()
    assert process is not None and process.poll() is not None
    assert any(
        "Project 3: the server stops, and the training with it" in record.getMessage()
        for record in caplog.records
    )
    exported_at = exports(host)

    again = service_of(host, tmp_path)
    assert again.trainer.running is None
    again.resume()
    assert again.trainer.running == "3"
    started_job(again)
    assert exports(host) == exported_at
    # Until somebody stops it for good.
    assert again.trainer.stop() == "The training on project 3 stops after its current step."
    wait(lambda: again.trainer.running is None)
    client = create_app(again, 4).test_client()
    stopped = "microscopy (Training on project 3 was stopped; its model is as it was)"
    assert shown_version(client) == stopped
    last = service_of(host, tmp_path)
    last.resume()
    assert last.trainer.running is None and last.trainer.stop() == "No training is running."


@pytest.mark.parametrize(("minutes", "lengths"), [(1, [200, 20]), (15, [200, 150]), (60, [200])])
def test_fewer_steps_where_they_take_long(
    minutes: int,
    lengths: list[int],
    tmp_path: Path,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that logs 6 s per step: 15 min have 150 of them."""
    started: list[int] = []

    class SlowJob:
        is_stopped = is_running = False

        def __init__(self, folder: Path) -> None:
            self.rows: list[Progress] = []

        def start(self, settings: dict[str, Any]) -> None:
            started.append(settings["steps"])
            self.is_running = self.is_first = len(started) == 1

        def progress(self) -> list[Progress]:
            rows, self.rows = self.rows, [Progress(10, 60.0, 1.0)]
            return rows if self.is_first else self.rows

        def stop(self) -> None:
            self.is_stopped, self.is_running = True, False

        def wait(self) -> FinetuneResult:
            return FinetuneResult(error="Done.", is_stopped=self.is_stopped)

    monkeypatch.setattr(run, "FinetuneJob", SlowJob)
    serve(host, *NAMES)
    service = service_of(host, tmp_path, train_steps=None, train_minutes=minutes)
    hook(create_app(service, 4).test_client(), "START_TRAINING")
    if len(lengths) == 1:
        wait(lambda: (p := service.trainer.progress()) is not None and p.step == 10)
        progress = str(service.trainer.progress())
        service.trainer.stop()
        assert progress == "training, step 10 of 200, 6.00 s per step, about 19 min left"
    wait(lambda: service.trainer.running is None)
    assert started == lengths


def test_what_the_job_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = exported(tmp_path / "job")
    # Where people work there may be a folder of this name, such as a clone of the repository.
    (tmp_path / "samlet").mkdir()
    (tmp_path / "samlet" / "__init__.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    (folder / ANNOTATIONS).write_text("[]")
    with pytest.raises(UserError, match=r"annotations\.json has no annotation"):
        run_in(folder)._finetune("microscopy")
    assert FinetuneResult.read(folder / RESULT).error is not None


def test_too_few_annotations(tmp_path: Path, host: Host) -> None:
    serve(host, NAMES[0])
    with pytest.raises(UserError, match="the project has 1 annotated images: submit at least 2"):
        train(service_of(host, tmp_path))
    assert host.received[-1][0] == "/data/upload/3/gone.png"


def test_a_project_that_is_not_there(tmp_path: Path, host: Host) -> None:
    service = service_of(host, tmp_path)
    serve(host, NAMES[0])
    with pytest.raises(UserError, match="has no such project or task"):
        train(service, "7")
    host.respond("/api/projects/7/export", b"no", 401)
    with pytest.raises(UserError, match="refuses the API key: copy a valid one"):
        train(service, "7")


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    serve(host, *NAMES)
    (tmp_path / "file").touch()
    service = service_of(host, tmp_path / "file" / "samlet")
    hook(create_app(service, 4).test_client(), "START_TRAINING")
    wait(lambda: service.trainer.running is None)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is None
    assert record.getMessage().startswith("Training on project 3 failed: cannot write ")
    assert record.getMessage().endswith("or set SAMLET_FOLDER to another folder.")


def test_a_task_whose_image_is_no_address(tmp_path: Path, host: Host) -> None:
    serve(host, *NAMES)
    tasks = json.loads(host.responses["/api/projects/3/export"][2])
    tasks[0]["data"]["image"] = ["/data/upload/3/a.png"]
    host.responses["/api/projects/3/export"] = (
        200,
        {"Content-Type": "application/json"},
        json.dumps(tasks).encode(),
    )
    with pytest.raises(UserError, match="the project has 1 annotated images"):
        train(service_of(host, tmp_path))


def test_annotations_start_one_training(tmp_path: Path, host: Host) -> None:
    serve(host)
    serve(host, number=4)
    service = service_of(host, tmp_path, train_on_annotations=True, train_pause=3600.0)
    client = create_app(service, 4).test_client()
    timers = []
    for event in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"):
        answer = hook(client, event).json
        assert answer == {"status": "Training starts 3600 s after the last annotation."}
        timers.append(service.trainer._timers["3"])
    # Each project waits for itself.
    hook(client, "ANNOTATION_CREATED", 4)
    for timer in timers[:-1]:
        timer.join(WAIT_S)
    assert [timer.is_alive() for timer in timers] == [False, False, True]
    assert service.trainer._timers["4"].is_alive() and exports(host) == exports(host, 4) == 0
    service.shut_down()

    # The pause is over.
    service = service_of(host, tmp_path, train_on_annotations=True, train_pause=0.0)
    hook(create_app(service, 4).test_client(), "ANNOTATION_CREATED")
    wait(lambda: exports(host) and service.trainer.running is None)
    assert exports(host) == 1 and exports(host, 4) == 0


@pytest.mark.parametrize("event", ["ANNOTATION_CREATED", "PROJECT_UPDATED", "", "start_training"])
def test_events_that_start_nothing(tmp_path: Path, host: Host, event: str) -> None:
    service = service_of(host, tmp_path, train_pause=0.0)
    client = create_app(service, 4).test_client()
    assert hook(client, event).json == {"status": "Nothing to do."}
    assert service.trainer.running is None and not service.trainer._timers


@pytest.mark.parametrize("event", ["START_TRAINING", "ANNOTATION_CREATED"])
def test_a_project_cannot_name_a_folder(tmp_path: Path, host: Host, event: str) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    service = service_of(host, tmp_path / "backend", train_on_annotations=True, train_pause=0.0)
    client = create_app(service, 4).test_client()
    for project in (str(precious), "../../precious", {"a": 1}):
        answer = hook(client, event, project)
        assert answer.status_code == 400 and "is no project" in answer.json["error"]
    assert precious.is_dir() and host.received == [] and not service.trainer._timers
