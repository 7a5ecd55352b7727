"""Whether Label Studio has the names that the guide gives to its buttons and messages."""

from pathlib import Path

import pytest

from tests.labelstudio import guide, label_studio

OWN = {
    "A click has no effect.",
    "A smart click only draws a point.",
    "Label Studio cannot connect the backend.",
    "Opening a task takes seconds.",
    # Of a library, in a page that is made when it is shown.
    "500 Internal Server Error",
    "list.remove(x): x not in list",
    # Of Label Studio's API, in other words on its pages.
    "extra params",
}


@pytest.fixture(scope="module")
def files() -> list[str]:
    """Label Studio's own pages and code."""
    label_studio.install()
    (packages,) = label_studio.venv().glob("lib/python*/site-packages")
    paths: list[Path] = [*(packages / "web" / "dist" / "apps" / "labelstudio").glob("*.js")]
    for folder in ("data_manager", "ml", "core", "projects"):
        paths += (packages / "label_studio" / folder).rglob("*.py")
    paths += (packages / "label_studio_sdk" / "converter").rglob("*.py")
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths]


@pytest.mark.parametrize("name", sorted(set(guide.names()) - OWN))
def test_label_studio_has_this_name(files: list[str], name: str) -> None:
    assert any(name in text for text in files)


def test_only_our_own_words_are_left_out() -> None:
    assert set(guide.names()) >= OWN
