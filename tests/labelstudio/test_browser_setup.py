"""Label Studio's dialog *Connect Model* in Chromium."""

import pytest

from tests.labelstudio.backend import Backend
from tests.labelstudio.browser import SHOWS, Browser
from tests.labelstudio.label_studio import LabelStudio
from tests.labelstudio.projects import CONFIGS

IMAGE = '<Image name="image" value="$image"/>'
LABELS = '<Label value="cell"/>'
CLICK = f'<KeyPointLabels name="click" toName="image" smart="true">{LABELS}</KeyPointLabels>'
USELESS = {
    "nothing to draw with": (
        f'{IMAGE}<Choices name="kind" toName="image"><Choice value="cell"/></Choices>',
        "The labeling config has nothing to draw masks with: add BrushLabels,",
    ),
    "points only": (
        f"{IMAGE}{CLICK}",
        "The labeling config has nothing to draw masks with: add BrushLabels,",
    ),
    "other labels": (
        f'{IMAGE}{CLICK}<BrushLabels name="mask" toName="image"><Label value="debris"/>'
        "</BrushLabels>",
        "The labels of the smart tool 'click' (cell) are not those of any BrushLabels,",
    ),
    "lines": (
        f'{IMAGE}{CLICK}<VectorLabels name="mask" toName="image">{LABELS}</VectorLabels>',
        "VectorLabels ('mask') draws lines, not outlines: add closable=",
    ),
}


def connect(browser: Browser, project: int, url: str, outcome: str) -> None:
    """Fill in the dialog until it shows this; on a busy machine it shows first that it waited."""
    while True:
        browser.connect_model(project, "samlet", url, interactive=True)
        browser.wait(f"{SHOWS} || document.body.innerText.includes('timed out')", outcome)
        if browser.driver.execute_script(SHOWS, outcome):
            return


@pytest.mark.parametrize("kind", USELESS)
def test_the_dialog_says_what_is_missing(
    server: LabelStudio, backend: Backend, browser: Browser, kind: str
) -> None:
    config, sentence = USELESS[kind]
    project = server.create_project(kind, f"<View>{config}</View>")
    connect(browser, project, backend.url, sentence)
    assert server.call("GET", "ml/", params={"project": project}).json() == []


def test_the_dialog_connects(server: LabelStudio, backend: Backend, browser: Browser) -> None:
    project = server.create_project("A model", (CONFIGS / "brush.xml").read_text())
    connect(browser, project, backend.url, "Connected")
    (connection,) = server.call("GET", "ml/", params={"project": project}).json()
    assert (connection["url"], connection["state"]) == (backend.url, "CO")
    assert connection["is_interactive"]
