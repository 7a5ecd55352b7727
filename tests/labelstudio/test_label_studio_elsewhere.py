"""A real Label Studio that browsers see below a path of another host, and its uploads and files."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from samlet.masks import iou
from samlet.samples import IMAGES
from tests.labelstudio import backend as backends
from tests.labelstudio import label_studio, payloads
from tests.labelstudio.backend import Backend
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.projects import Project, connect_project

NAME = "fluorescence_2"
PUBLIC = "https://labels.example.org/label-studio"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "cells").mkdir()
    shutil.copy(IMAGES / f"{NAME}.png", folder / "cells")
    return folder


@pytest.fixture(scope="module")
def elsewhere(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    with label_studio.running(
        tmp_path_factory.mktemp("elsewhere"),
        LABEL_STUDIO_HOST=PUBLIC,
        LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED="true",
        LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=str(files),
    ) as started:
        yield started


@pytest.fixture(scope="module")
def its_backend(
    elsewhere: LabelStudio, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("backend")
    with backends.running(elsewhere, folder, LABEL_STUDIO_HOST=PUBLIC) as started:
        yield started


@pytest.mark.slow
def test_uploads_and_local_files(elsewhere: LabelStudio, its_backend: Backend, files: Path) -> None:
    project = connect_project(elsewhere, its_backend, "brush.xml", [NAME])
    uploaded = project.tasks[NAME]
    storage = elsewhere.call(
        "POST",
        "storages/localfiles/",
        json={"project": project.number, "path": str(files / "cells"), "use_blob_urls": True},
    ).json()["id"]
    elsewhere.call("POST", f"storages/localfiles/{storage}/sync", json={})
    (local,) = set(elsewhere.task_ids(project.number)) - {uploaded}
    # These are how Label Studio names them; the first one begins with the path of `PUBLIC`.
    addresses = {task: elsewhere.task(task)["data"] for task in (uploaded, local)}
    assert str(addresses[uploaded]).count("/label-studio/data/upload/"), addresses
    assert str(addresses[local]).count(f"{PUBLIC}/data/local-files/?d=cells"), addresses
    (mask, *_) = payloads.objects(NAME)
    for task in (uploaded, local):
        both = Project(elsewhere, project.number, project.backend, {NAME: task})
        found = both.mask(NAME, [payloads.click_in(mask, "object")])
        assert iou(found, mask) > 0.7, its_backend.log_text()
