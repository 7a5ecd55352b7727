"""An annotator at work: Label Studio's pages in a real, headless Chromium.

Everything is done with the mouse and the keyboard on what the page shows; the page's own store
(`window.Htx`) is only read, to know when something has happened.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from selenium.common.exceptions import (
    ElementClickInterceptedException,
    StaleElementReferenceException,
)
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.labelstudio.label_studio import LabelStudio

CHROMIUM = "/usr/bin/chromium"
CHROMEDRIVER = "/usr/bin/chromedriver"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1050",
)
WAIT_S = 180
"""For pages and answers; everything usually takes far less, but the machine may have other work."""

PASSING = (ElementClickInterceptedException, StaleElementReferenceException)
"""While a page is still being drawn."""

IMAGE_READY = """
const image = window.Htx?.annotationStore?.selected?.objects.find(o => o.type === 'image');
return Boolean(image && image.imageIsLoaded !== false && image.stageWidth > 1
  && document.querySelector('.konvajs-content canvas'));
"""
IMAGE_BOX = """
const image = window.Htx.annotationStore.selected.objects.find(o => o.type === 'image');
const content = document.querySelector('.konvajs-content');
content.scrollIntoView({block: 'center'});
const stage = content.getBoundingClientRect();
const offset = image.alignmentOffset ?? {x: 0, y: 0};
const shown = image.stageComponentSize;
const zoom = image.zoomScale ?? 1;
return [stage.left + offset.x + (image.zoomingPositionX || 0) * 1,
        stage.top + offset.y + (image.zoomingPositionY || 0) * 1,
        shown.width * zoom, shown.height * zoom];
"""
ANNOTATION = "return window.Htx.annotationStore.selected.id"
SUBMITTED = """
const selected = window.Htx.annotationStore.selected;
return !selected || selected.id !== arguments[0] || Boolean(Number(selected.pk));
"""
REGIONS = """
return window.Htx.annotationStore.selected.serializeAnnotation().map(r => {
  const value = {...r.value}; if (value.rle) value.rle = Array.from(value.rle);
  return {...r, value};
});
"""
SUGGESTED = """
return [...window.Htx.annotationStore.selected.suggestions.values()].map(region => {
  const {value, ...rest} = region.serialize();
  if (value.rle) value.rle = Array.from(value.rle);
  return {...rest, value};
});
"""
SWITCH = """
const label = [...document.querySelectorAll('.lsf-bottombar label')]
  .find(l => l.textContent.includes(arguments[0]));
return label?.querySelector('input');
"""
TOOL = """
const image = window.Htx.annotationStore.selected.objects.find(o => o.type === 'image');
return image.getToolsManager().findSelectedTool()?.fullName;
"""
LABEL = """
const controls = [...window.Htx.annotationStore.selected.names.values()]
  .filter(control => control.isLabeling && control.children?.length);
const number = controls.findIndex(control => control.name === arguments[0]);
const labels = [...document.querySelectorAll('.lsf-labels')].filter(list => list.offsetParent);
const label = [...labels[number]?.querySelectorAll('.lsf-label') ?? []]
  .find(label => label.querySelector('.lsf-label__text').textContent === arguments[1]);
label?.scrollIntoView({block: 'center'});
return label;
"""
KEEP_LABEL = """
const settings = window.Htx.settings;
if (settings.continuousLabeling !== arguments[0]) settings.toggleContinuousLabeling();
"""
LABEL_CHOSEN = """
return window.Htx.annotationStore.selected.names.get(arguments[0]).selectedValues()
  .includes(arguments[1]);
"""
SUGGESTIONS = "window.Htx.annotationStore.selected.suggestions.size"
REQUEST = "return window.Htx.suggestionsRequest ?? null"
ANSWERED = f"""
return (window.Htx.suggestionsRequest ?? null) !== arguments[0]
  && !window.Htx.awaitingSuggestions && {SUGGESTIONS} >= arguments[1];
"""
NAMED = """
return [...document.querySelectorAll(arguments[0])]
  .find(each => each.textContent.trim() === arguments[1] && each.checkVisibility());
"""
ALL_ROWS = "return document.querySelector('[aria-label=\"Select all rows\"]')"
SHOWS = "return document.body.innerText.includes(arguments[0])"


class Browser:
    """One window, logged in."""

    def __init__(self, driver: Chrome, server: LabelStudio) -> None:
        self.driver = driver
        self.server = server
        self.request: str | None = None
        """Label Studio's own name for the last request to the backend before the latest click."""

    def wait(self, script: str, *arguments: Any) -> Any:
        """Wait until a script returns something true, and that."""
        return WebDriverWait(self.driver, WAIT_S, 0.1).until(
            lambda driver: driver.execute_script(script, *arguments), f"never true: {script}"
        )

    def find(self, selector: str) -> WebElement:
        """Wait for an element, by its CSS selector, that can be seen."""

        def seen(driver: Chrome) -> WebElement | Literal[False]:
            found = driver.find_elements(By.CSS_SELECTOR, selector)
            return next((element for element in found if element.is_displayed()), False)

        wait = WebDriverWait(self.driver, WAIT_S, 0.1)
        return wait.until(seen, f"never shown: {selector}")

    def press(self, selector: str) -> None:
        """Click on an element as soon as nothing, such as a passing message, lies over it."""

        def pressed(driver: Chrome) -> bool:
            self.find(selector).click()
            return True

        WebDriverWait(self.driver, WAIT_S, 0.1, ignored_exceptions=PASSING).until(
            pressed, f"always covered: {selector}"
        )

    def press_named(self, text: str, selector: str = "button") -> None:
        """Click on what has this text and no other, as soon as it is shown and uncovered."""

        def pressed(driver: Chrome) -> bool:
            self.wait(NAMED, selector, text).click()
            return True

        WebDriverWait(self.driver, WAIT_S, 0.1, ignored_exceptions=PASSING).until(
            pressed, f"always covered: {text}"
        )

    def log_in(self) -> None:
        self.driver.get(f"{self.server.url}/user/login/")
        self.find("input[name=email]").send_keys(self.server.email)
        self.find("input[name=password]").send_keys(self.server.password + Keys.ENTER)
        self.wait("return location.pathname.startsWith('/projects') || location.pathname === '/'")

    def open_task(self, project: int, task: int) -> None:
        """Open a task from the data manager, and wait for its picture."""
        self.driver.get(f"{self.server.url}/projects/{project}/data?task={task}")
        self.wait(IMAGE_READY)

    def open_model_settings(self, project: int) -> None:
        """Open the project's settings, Model, and wait for the backend to be listed."""
        self.driver.get(f"{self.server.url}/projects/{project}/settings/ml")
        self.find("[aria-label='Machine learning model options']")

    def start_training(self, project: int) -> None:
        """Choose *Start Training* of the backend, and press the button of the dialog."""
        self.open_model_settings(project)
        self.press("[aria-label='Machine learning model options']")
        self.press_named("Start Training", ".lsf-main-menu__item")
        self.press_named("Start Training")
        self.wait(SHOWS, "Request Sent!")

    def connect_model(self, project: int, title: str, url: str, interactive: bool = False) -> None:
        """Fill in the dialog *Connect Model* of the project settings, and press its button."""
        self.driver.get(f"{self.server.url}/projects/{project}/settings/ml")
        self.press_named("Connect Model")
        self.find("input[name=title]").send_keys(title)
        self.find("input[name=url]").send_keys(url)
        if interactive:
            box = self.driver.find_element(By.CSS_SELECTOR, "input[name=is_interactive]")
            # The box itself is invisible: a drawing of it is shown.
            self.driver.execute_script("arguments[0].click()", box)
        self.press_named("Validate and Save")

    def retrieve_predictions(self, project: int) -> None:
        """Choose all tasks in the data manager, then *Actions*, *Retrieve Predictions*, and OK."""
        self.driver.get(f"{self.server.url}/projects/{project}/data")
        # The box itself is invisible: a drawing of it is shown.
        self.driver.execute_script("arguments[0].click()", self.wait(ALL_ROWS))
        self.press("[aria-label='Tasks Actions']")
        self.press_named("Retrieve Predictions", "*")
        self.press_named("OK")
        self.wait(f"return !(() => {{{NAMED}}})(...arguments)", "button", "OK")

    def open_label_stream(self, project: int) -> None:
        """Press "Label All Tasks": the next task that has no annotation."""
        self.driver.get(f"{self.server.url}/projects/{project}/data?labeling=1")
        self.wait(IMAGE_READY)

    def switch(self, name: str, on: bool = True) -> None:
        """Put a switch of the bottom bar, "Auto-Annotation" for one, on or off."""

        def switched(driver: Chrome) -> bool:
            box = driver.execute_script(SWITCH, name)
            if box is not None and box.is_selected() != on:
                driver.execute_script("arguments[0].click()", box)
                return False
            return box is not None

        # The bar is drawn anew while the page loads.
        wait = WebDriverWait(
            self.driver, WAIT_S, 0.1, ignored_exceptions=(StaleElementReferenceException,)
        )
        wait.until(switched, f"never switched: {name}")

    def auto_annotate(self, accept: bool = False) -> None:
        """Switch smart tools on; `accept`: keep what the backend suggests without payloads."""
        self.switch("Auto-Annotation")
        self.switch("Auto-Accept", accept)

    def keep_label_selected(self, on: bool = True) -> None:
        """Put *Keep label selected* on or off, as in the settings of the labeling page."""
        self.driver.execute_script(KEEP_LABEL, on)

    def choose_smart_tool(self, name: str) -> None:
        """Press Auto-Detect, which goes round the smart tools, until `KeyPointTool`, say, is on."""
        for _ in range(8):
            if self.driver.execute_script(TOOL) == f"{name}-dynamic":
                return
            self.press(".lsf-tool_smart")
        raise LookupError(f"{name} is not among the smart tools")

    def choose_label(self, control: str, label: str) -> None:
        """Choose a label of a control by a click on it."""

        def clicked(driver: Chrome) -> bool:
            element = driver.execute_script(LABEL, control, label)
            if element is not None and not driver.execute_script(LABEL_CHOSEN, control, label):
                element.click()
            return element is not None

        # Labels that come with the task are drawn anew once it is there.
        wait = WebDriverWait(
            self.driver, WAIT_S, 0.1, ignored_exceptions=(StaleElementReferenceException,)
        )
        wait.until(clicked, f"never shown: {label} of {control}")
        self.wait(LABEL_CHOSEN, control, label)

    def position(self, x: float, y: float) -> tuple[int, int]:
        """Where in the window a fraction of the shown image is."""
        left, top, width, height = self.driver.execute_script(IMAGE_BOX)
        return round(left + x * width), round(top + y * height)

    def click(self, x: float, y: float, negative: bool = False) -> None:
        """Click at a fraction of the shown image; `negative`: with Alt, for what is not wanted."""
        self.drag([(x, y)], Keys.ALT if negative else None)

    def drag(self, path: Sequence[tuple[float, float]], key: str | None = None) -> None:
        """Press the button at the first fraction of the image and let it go at the last one."""
        self.request = self.driver.execute_script(REQUEST)
        if key:
            ActionChains(self.driver).key_down(key).perform()
        actions = ActionBuilder(self.driver, duration=50)
        for number, fraction in enumerate(path):
            actions.pointer_action.move_to_location(*self.position(*fraction))
            if number == 0:
                actions.pointer_action.pointer_down()
        actions.pointer_action.pointer_up()
        actions.perform()
        if key:
            ActionChains(self.driver).key_up(key).perform()

    def regions(self) -> list[dict[str, Any]]:
        """The regions of the open annotation, prompts too, as they would be submitted."""
        return list(self.driver.execute_script(REGIONS))

    def suggestions(self) -> list[dict[str, Any]]:
        """The regions that the backend suggests and nobody has accepted yet."""
        return list(self.driver.execute_script(SUGGESTED))

    def wait_for_suggestions(self, count: int = 1) -> None:
        """Wait until the backend's answer to the latest click or box is shown."""
        self.wait(ANSWERED, self.request, count)

    def accept_suggestions(self) -> None:
        """Press the tick of the bottom bar; the prompts go, the suggested regions stay."""
        self.press(".lsf-auto-accept__action_type_accept")
        self.wait(f"return ({SUGGESTIONS}) === 0")

    def submit(self) -> None:
        """Press Submit, and wait until Label Studio has the annotation (or shows the next task)."""
        open_one = self.driver.execute_script(ANNOTATION)
        self.press("[aria-label='Submit current annotation']")
        self.wait(SUBMITTED, open_one)

    def screenshot(self, path: Path) -> None:
        self.driver.save_screenshot(str(path))


@contextlib.contextmanager
def opened(server: LabelStudio, folder: Path) -> Iterator[Browser]:
    """A browser with a new profile in `folder`, logged in."""
    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    driver = Chrome(options=options, service=Service(CHROMEDRIVER))
    try:
        browser = Browser(driver, server)
        browser.log_in()
        yield browser
    finally:
        driver.quit()
