"""The guide's screenshots, from a real run: `python -m tests.labelstudio.screenshots`.

Label Studio and the backend are started for it, a project is made, and a nucleus is clicked on.
"""

import argparse
import tempfile
from pathlib import Path

from samlet.masks import deepest_point
from tests.labelstudio import backend, browser, label_studio, payloads
from tests.labelstudio.browser import Browser
from tests.labelstudio.projects import Project, init_project
from tests.pictures import FOLDER, make_small

SIZE = (1300, 850)
IMAGE = "fluorescence_1"
OTHERS = ("stained_2", "fluorescence_3")
ACCEPTED = (4, 7, 9, 12)
CLICKED = 0
EDIT = """
return [...document.querySelectorAll('.lsf-main-menu__item')]
  .find(item => item.textContent === 'Edit');
"""
STILL = """
return document.body.innerText.includes(arguments[0])
  && document.getAnimations().every(animation => animation.playState !== 'running');
"""


def take(page: Browser, project: Project, folder: Path) -> None:
    """Take all screenshots.

    Args:
        page: logged in.
        project: with `IMAGE`, and a backend that answers.
        folder: made if need be; earlier ones are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    click_on_nuclei(page, project)
    save(page, folder / "labelstudio-click.png")
    page.driver.get(f"{page.server.url}/projects/{project.number}/settings/ml")
    page.press("[aria-label='Machine learning model options']")
    page.wait(STILL, "Start Training")
    page.wait(EDIT).click()
    page.wait(f"return !(() => {{{EDIT}}})()?.checkVisibility({{visibilityProperty: true}})")
    page.wait(STILL, "Interactive preannotations")
    save(page, folder / "labelstudio-model.png")


def click_on_nuclei(page: Browser, project: Project) -> None:
    """Click on some nuclei and accept their masks, and leave the last one's as a suggestion."""
    page.open_task(project.number, project.tasks[IMAGE])
    page.auto_annotate()
    page.choose_smart_tool("KeyPointTool")
    objects = payloads.objects(IMAGE)
    for number in (*ACCEPTED, CLICKED):
        x, y = deepest_point(objects[number])
        height, width = objects[number].shape
        page.choose_label("click", "cell")
        page.click((x + 0.5) / width, (y + 0.5) / height)
        page.wait_for_suggestions()
        if number != CLICKED:
            page.accept_suggestions()


def save(page: Browser, path: Path) -> None:
    """Save what the window shows, in few colours."""
    page.screenshot(path)
    make_small(path)


def main() -> None:
    """Start all that is needed, and take the screenshots."""
    parser = argparse.ArgumentParser(description="Take the guide's screenshots of Label Studio.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder [docs/images]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / name for name in ("server", "backend", "images", "profile")]
        for folder in folders:
            folder.mkdir()
        with (
            label_studio.running(folders[0]) as server,
            backend.running(server, folders[1]) as running,
            browser.opened(server, folders[3]) as page,
        ):
            project = init_project(server, running, "Nuclei", (IMAGE, *OTHERS), folders[2])
            take(page, project, arguments.out)


if __name__ == "__main__":
    main()
