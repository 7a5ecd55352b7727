"""The guide from its first to its last line, in a real Label Studio and a browser.

    pytest -m slow tests/labelstudio/test_guide.py

`guide.says` and `guide.command` name the line that the next steps perform. What other tests perform
is left to them: tags (test_browser_tags), finding all like this (test_browser), exports
(test_exports), access and other servers (test_access, test_container, test_ml_backend_2), training
to a better click (test_guide_training).
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from selenium.webdriver.support.ui import WebDriverWait

from samlet.masks import deepest_point, iou
from samlet.samples import IMAGES
from tests.labelstudio import payloads
from tests.labelstudio.backend import COMMAND, COMMAND_S, Backend
from tests.labelstudio.browser import LABEL_CHOSEN, SHOWS, SUGGESTIONS, WAIT_S, Browser
from tests.labelstudio.guide import Guide
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.projects import brush_mask, tasks_by_name
from tests.labelstudio.test_browser import at

NAMES = ("fluorescence_2", "fluorescence_3")
NUCLEI = payloads.objects(NAMES[0])
REGION_COUNT = "return window.Htx.annotationStore.selected.regions.length === arguments[0]"
KEY = """
return window.Htx.annotationStore.selected.names.get(arguments[0])
  .children.find(label => label.value === arguments[1]).hotkey;
"""
CHECKED = "return document.querySelector('input[name=is_interactive]')?.checked === true"


class Terminal:
    """Where a user runs commands: a folder with their images, and variables."""

    def __init__(self, backend: Backend, folder: Path) -> None:
        self._backend, self._folder = backend, folder

    def run(self, command: list[str], *more: str, status: int = 0) -> str:
        """Run a command of the guide, and give what it wrote."""
        assert command[0] == COMMAND.name
        done = subprocess.run(
            [str(COMMAND), *command[1:], *more],
            env={**self._backend.environment, "COLUMNS": "200"},
            cwd=self._folder,
            text=True,
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == status, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr


def with_project(command: list[str], project: int) -> list[str]:
    """The guide's project is 3."""
    return [str(project) if before == "--project" else word
            for before, word in zip(["", *command], command, strict=False)]  # fmt: skip


def wait(browser: Browser, until: Callable[[], Any]) -> None:
    WebDriverWait(browser.driver, WAIT_S).until(lambda _: until())


def shown(browser: Browser) -> np.ndarray:
    (region,) = browser.suggestions()
    return brush_mask(region)


def submitted(server: LabelStudio, task: int) -> list[dict[str, Any]]:
    (annotation,) = server.task(task)["annotations"]
    return list(annotation["result"])


@pytest.mark.slow
def test_the_guide(server: LabelStudio, backend: Backend, browser: Browser, tmp_path: Path) -> None:
    guide, terminal = Guide(), Terminal(backend, tmp_path)
    (tmp_path / "cells").mkdir()
    for name in NAMES:
        shutil.copy(IMAGES / f"{name}.png", tmp_path / "cells")

    # Start.
    guide.says(
        "export LABEL_STUDIO_API_KEY=... # Label Studio: Account & Settings, Personal Access"
    )
    browser.driver.get(f"{server.url}/user/account")
    for words in ("Personal Access Token", "Legacy Token"):
        browser.wait(SHOWS, words)
    assert guide.command("samlet-labelstudio --port") == [COMMAND.name, "--port", "9090"]
    guide.says("create a project that is ready for clicking, and upload a folder of images")
    command = guide.command("samlet-labelstudio init-project")
    guide.says("If the backend has another port, add `--backend-url http://localhost:9191`.")
    output = terminal.run(command, "--backend-url", backend.url)
    project = int(output.partition("/projects/")[2].partition(",")[0])
    tasks = tasks_by_name(server, project)
    assert tasks.keys() == set(NAMES)
    guide.says("quotes its reason and leaves no project behind")
    before = server.call("GET", "projects/").json()["count"]
    refused = terminal.run(
        [*command, "--title", "Other"], "--backend-url", "http://127.0.0.1:9", status=1
    )
    assert "Connection refused" in refused
    assert server.call("GET", "projects/").json()["count"] == before
    guide.says("it uses the project of the same title and labels, and uploads only the images that")
    assert f"/projects/{project}," in terminal.run(command, "--backend-url", backend.url)
    assert tasks_by_name(server, project) == tasks
    guide.says("shown by a page of its own, at its address")
    browser.driver.get(backend.url)
    for words in ("Training", "Pre-annotation in the background", "Last error", "Log"):
        browser.wait(SHOWS, words)
    assert f"{project} microscopy" in browser.driver.find_element("tag name", "table").text

    # Two settings that are easy to miss.
    guide.says("under *Model*, behind the three dots of the backend, *Edit*: *Interactive")
    browser.open_model_settings(project)
    browser.press("[aria-label='Machine learning model options']")
    browser.press_named("Edit", ".lsf-main-menu__item")
    browser.wait(CHECKED)
    guide.says("Without the second one, smart tools only draw a point or a box.")
    browser.open_task(project, tasks[NAMES[0]])
    browser.keep_label_selected(False)
    browser.switch("Auto-Annotation", False)
    browser.choose_label("click", "cell")
    drawn = deepest_point(NUCLEI[3])
    browser.click(*at(drawn, NUCLEI[3]))
    browser.wait(REGION_COUNT, 1)
    assert browser.driver.execute_script(f"return {SUGGESTIONS}") == 0

    # Click.
    guide.says("switch on *Auto-Annotation* below the image. Leave *Auto-Accept Suggestions* off")
    browser.switch("Auto-Annotation")
    browser.switch("Auto-Accept Suggestions", False)
    guide.says("Select a label of the smart keypoint or rectangle, by mouse or by its key (1, 2")
    browser.choose_smart_tool("KeyPointTool")
    browser.choose_label("click", "cell")
    guide.says("Label Studio deselects the label after each click")
    nucleus = NUCLEI[1]
    browser.click(*at(deepest_point(nucleus), nucleus))
    guide.says("Click on an object; its mask appears.")
    browser.wait_for_suggestions()
    first = shown(browser)
    assert iou(first, nucleus) > 0.7
    assert not browser.driver.execute_script(LABEL_CHOSEN, "click", "cell")
    guide.says("Alt-click on parts that do not belong to it. Each click refines the mask.")
    browser.choose_label("click", "cell")
    browser.click(*at(deepest_point(first), nucleus), negative=True)
    browser.wait_for_suggestions()
    second = shown(browser)
    assert (second != first).any()
    guide.says("*Undo* takes the click back, but leaves the suggested mask as it is")
    count = len(browser.regions())
    browser.press("[aria-label='Undo']")
    wait(browser, lambda: len(browser.regions()) < count)
    assert (shown(browser) == second).all()
    guide.says("Accept the mask (tick), and go on with the next object.")
    browser.accept_suggestions()
    guide.says("Points that were drawn while *Auto-Annotation* was off do not count as clicks, and")
    browser.submit()
    kinds = sorted(region["from_name"] for region in submitted(server, tasks[NAMES[0]]))
    assert kinds == ["click", "mask"]
    (mask,) = [r for r in submitted(server, tasks[NAMES[0]]) if r["from_name"] == "mask"]
    assert (brush_mask(mask) == second).all() and not second[drawn[1], drawn[0]]

    # "If you submit without accepting", and the label by its key, on the other image.
    browser.open_task(project, tasks[NAMES[1]])
    browser.auto_annotate()
    browser.choose_smart_tool("KeyPointTool")
    key = browser.driver.execute_script(KEY, "click", "cell")
    other = payloads.objects(NAMES[1])[2]
    browser.driver.find_element("tag name", "body").send_keys(key)
    browser.wait(LABEL_CHOSEN, "click", "cell")
    browser.click(*at(deepest_point(other), other))
    browser.wait_for_suggestions()
    browser.submit()
    assert [r["from_name"] for r in submitted(server, tasks[NAMES[1]])] == ["click"]

    # Pre-annotate.
    guide.says("Use *Retrieve Predictions* in the *Actions* menu of the data manager")
    browser.retrieve_predictions(project)
    wait(browser, lambda: all(len(server.predictions(task)) == 1 for task in tasks.values()))
    command = with_project(guide.command("samlet-labelstudio preannotate --project"), project)
    assert "0 tasks pre-annotated, 2 were done before." in terminal.run(command)
    assert "tasks.json holds 2 tasks" in terminal.run(
        guide.command("samlet-labelstudio preannotate --images")
    )
    assert len(json.loads((tmp_path / "tasks.json").read_text())) == 2
    guide.says("tasks that have one already are not answered again")
    server.retrieve_predictions(project)
    assert all(len(server.predictions(task)) == 1 for task in tasks.values())

    # The least certain tasks first.
    guide.says('-d \'{"sampling": "Uncertainty sampling", "model_version": "microscopy"}\'')
    changed = server.change_project(
        project, sampling="Uncertainty sampling", model_version="microscopy"
    )
    assert changed["sampling"] == "Uncertainty sampling"

    # Train.
    guide.says("*Start Training* (project settings, *Model*, behind the three dots)")
    browser.start_training(project)
    guide.says("Label Studio's dialog answers `Response: {}`")
    browser.wait(SHOWS, "Response: {}")
    guide.says("with the figures before and after, or the reason of a failure")
    # Of the other image there are only clicks.
    browser.driver.get(backend.url)
    reason = "the project has 1 annotated images: submit at least 2"
    browser.wait(SHOWS, f"Training on project {project} failed: {reason}")
    command = with_project(guide.command("samlet-labelstudio versions --project"), project)
    assert "* the model that the backend starts with" in terminal.run(command)

    # Export.
    command = with_project(guide.command("samlet-labelstudio export --project"), project)
    assert "annotations.json holds 1 objects" in terminal.run(command)
    assert len(json.loads((tmp_path / "annotations.json").read_text())["annotations"]) == 1

    # Troubleshooting.
    guide.says("`curl http://localhost:9090/health` must succeed")
    assert requests.get(f"{backend.url}/health", timeout=60).ok
    guide.says("the backend's page and log explain what to do")
