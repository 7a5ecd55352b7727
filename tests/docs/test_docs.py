"""The guides, the README and CONTRIBUTING: code runs, commands exist, links lead somewhere."""

import multiprocessing.dummy
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec
from urllib.parse import unquote

import numpy as np
import pytest
import torch
import typer.main
from PIL import Image

import samlet
import samlet.export
from samlet import samples
from samlet.cli.main import app as samlet_app
from samlet.modeling.sam import Sam
from samlet_labelstudio.cli import app as labelstudio_app
from tests.core.conftest import SMALL

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
PROGRAMS = ("samlet", "samlet-distill", "samlet-labelstudio")
OTHER_PROGRAMS = {"--num_processes", "--no_python", "--nproc-per-node", "--no-python"}
"""Options in the guides that belong to accelerate and torchrun."""

_FENCE = re.compile(r"^```(\w*).*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SCRIPT = re.compile(r"python ((?:benchmarks|recipes|examples)/\S+\.py)|python -m (\w+(?:\.\w+)+)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [code for kind, code in found if kind == language]


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What code in the guides takes for granted: images, files, and names that are small and here.

    Every model is a small one with random weights, and nothing is downloaded, exported or run in
    other processes.
    """
    torch.manual_seed(0)
    model = Sam(SMALL)
    model.card = {"zoom": True}
    image = samlet.images.read(samples.IMAGES / "stained_1.png")[:100, :140]
    picture = Image.fromarray(image)
    picture.save(tmp_path / "cells.tif")
    picture.save(tmp_path / "stack.tif", save_all=True, append_images=[picture])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(samlet, "load", lambda name: model)
    monkeypatch.setattr(samlet, "sam_model_registry", {"vit_t": lambda checkpoint: model})
    monkeypatch.setattr(samlet.export, "export", create_autospec(samlet.export.export))
    # What is converted for OpenVINO, and grids of 1024 points, are tested elsewhere.
    torch_predictor, generator = samlet.Predictor, samlet.SamAutomaticMaskGenerator
    monkeypatch.setattr(
        samlet,
        "Predictor",
        lambda model, engine="auto", zoom=None, **_: torch_predictor(model, "torch", zoom),
    )
    monkeypatch.setattr(
        samlet,
        "SamAutomaticMaskGenerator",
        lambda sam: generator(sam, points_per_side=4, engine="torch"),
    )
    predictor = samlet.Predictor(model)
    return {
        "samlet": samlet,
        "torch": torch,
        "multiprocessing": SimpleNamespace(get_context=lambda _: multiprocessing.dummy),
        "image": image,
        "model": model,
        "predictor": predictor,
        "embedding": predictor.encode(image),
        "points": np.array([[120, 80]]),
        "labels": np.array([1]),
        "paths": ["cells.tif"],
        "segment_one": lambda predictor, path: predictor.encode(samlet.images.read(path)),
    }


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_in_the_guides_runs(page: Path, namespace: dict[str, Any]) -> None:
    for code in blocks(page, "python"):
        exec(compile(code, name_of(page), "exec"), namespace)


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every line of the guides that starts one of samlet's programs, with its page."""
    for page in PAGES:
        for code in blocks(page, ""):
            for line in code.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                programs = [word for word in words if word in PROGRAMS]
                if programs and words[0] not in ("pip", "napari"):
                    yield name_of(page), words[words.index(programs[0]) :]


@pytest.mark.parametrize(("page", "words"), command_lines(), ids=str)
def test_commands_in_the_guides_are_understood(
    page: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *arguments = words
    # Where the guides have trained a model, there is one.
    monkeypatch.chdir(tmp_path)
    for path in map(Path, arguments):
        if path.suffix == ".safetensors" and not path.is_absolute():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    if program == "samlet-distill":
        program, arguments = "samlet", ["distill", *arguments]
    command: Any = typer.main.get_command(
        {"samlet": samlet_app, "samlet-labelstudio": labelstudio_app}[program]
    )
    if arguments and arguments[0] in command.commands:
        command = command.commands[arguments.pop(0)]
    else:
        assert program == "samlet-labelstudio", f"{arguments[0]} is no command of {program}"
    command.make_context(program, arguments)  # Parses all of them; an error says what is wrong.


def test_options_in_the_guides_exist() -> None:
    known = {*OTHER_PROGRAMS, "--help"}
    for app in (samlet_app, labelstudio_app):
        group: Any = typer.main.get_command(app)
        for command in (group, *group.commands.values()):
            for parameter in command.params:
                known.update(parameter.opts, parameter.secondary_opts)
    for page in PAGES:
        for code in re.findall(r"`(?!python )([^`\n]+)`", prose(page)):
            for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", code):
                assert option in known, f"{name_of(page)}: {code}"


def test_variables_in_the_guides_exist() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("core", "labelstudio_backend", "napari_plugin")
        for path in (ROOT / folder).rglob("*.py")
    )
    for page in PAGES:
        for variable in set(re.findall(r"\bSAMLET_[A-Z_]+\b", page.read_text(encoding="utf-8"))):
            setting = variable.removeprefix("SAMLET_").lower()
            assert variable in source or re.search(rf"^    {setting}: ", source, re.MULTILINE), (
                f"{name_of(page)}: {variable}"
            )


def test_scripts_in_the_guides_exist() -> None:
    for page in PAGES:
        for path, module in _SCRIPT.findall(page.read_text(encoding="utf-8")):
            script = path or module.replace(".", os.sep) + ".py"
            assert (ROOT / script).is_file(), f"{name_of(page)}: {script}"


def anchors(page: Path) -> set[str]:
    """What GitHub and the site call the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if re.match(r"\w+:", target):
            continue
        path = page.parent / unquote(target) if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def test_every_room_is_on_the_map() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    packages = (
        "core/samlet",
        "labelstudio_backend/samlet_labelstudio",
        "napari_plugin/samlet_napari",
    )
    for package in packages:
        for room in (ROOT / package).glob("*/__init__.py"):
            assert f"{Path(package).name}/{room.parent.name}`" in contributing
