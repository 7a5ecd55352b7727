"""The container, which no daemon is here to build: its files are installed, its settings are read.

And docker-compose, by what its services are started with.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from samlet import samples
from samlet_labelstudio.hosts import is_listed
from samlet_labelstudio.server.access import listening_on
from samlet_labelstudio.settings import Settings
from tests.labelstudio.label_studio import ROOT, LabelStudio

BACKEND = ROOT / "labelstudio_backend"
DOCKERFILE = (BACKEND / "Dockerfile").read_text(encoding="utf-8")
SECRETS = {
    "LABEL_STUDIO_PASSWORD": "for-people",
    "LABEL_STUDIO_TOKEN": "0123456789abcdef",
    "SAMLET_PASSWORD": "for-label-studio",
}


def instructions(name: str) -> list[list[str]]:
    """The words of each instruction of a name."""
    return [line.split()[1:] for line in DOCKERFILE.splitlines() if line.startswith(f"{name} ")]


def wheel_of(sources: list[str], folder: Path) -> zipfile.ZipFile:
    """What `pip` makes of some of this repository's files and folders."""
    tree = folder / "samlet"
    tree.mkdir()
    for source in sources:
        if (ROOT / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / source, tree / source, ignore=ignored)
        else:
            shutil.copy(ROOT / source, tree)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*build, "-w", str(folder), str(tree)], check=True)
    (wheel,) = folder.glob("samlet-*.whl")
    return zipfile.ZipFile(wheel)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where exactly the files that the Dockerfile copies are installed."""
    copied = []
    for *sources, target in instructions("COPY"):
        for source in sources:
            is_folder = (ROOT / source).is_dir()
            assert target == (f"/samlet/{source}" if is_folder else "/samlet/")
            copied.append(source)
    (command,) = (
        words for words in instructions("RUN") if "samlet[labelstudio]" in " ".join(words)
    )
    assert '"/samlet[labelstudio]"' in command
    folder = tmp_path_factory.mktemp("image")
    with wheel_of(copied, folder) as wheel:
        wheel.extractall(folder / "installed")
    return folder / "installed"


def run(installed: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with what was installed, and nothing of this repository."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_container_has_all_that_runs(installed: Path) -> None:
    for folder in ("core", "labelstudio_backend"):
        sources = {
            path.relative_to(ROOT / folder)
            for package in (ROOT / folder).glob("samlet*")
            for path in package.rglob("*")
            if path.suffix in (".py", ".pyi", ".safetensors", ".typed")
        }
        assert len(sources) > 20
        assert not [path for path in sources if not (installed / path).is_file()]
    code = (
        "import samlet, samlet_labelstudio.server.serving, samlet.training.job; "
        "print(samlet.__file__, samlet_labelstudio.__file__, samlet.load('microscopy').name)"
    )
    done = run(installed, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        str(installed / "samlet/__init__.py"),
        str(installed / "samlet_labelstudio/__init__.py"),
        "microscopy",
    ]


def test_the_container_is_started_with_a_password(installed: Path, tmp_path: Path) -> None:
    (command,) = instructions("CMD")
    arguments = re.findall(r'"(.*?)"', " ".join(command))
    code = "from samlet_labelstudio.cli import main; main()"
    done = run(installed, "-c", code, *arguments, SAMLET_CACHE=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Other machines can reach 0.0.0.0: set BASIC_AUTH_USER")


def test_a_wheel_has_all_packages(tmp_path: Path) -> None:
    """Each folder with an `__init__.py`, however it is called, and none besides."""
    roots = [ROOT / name for name in ("core", "labelstudio_backend", "napari_plugin")]
    expected = {
        path.parent.relative_to(root).as_posix()
        for root in roots
        for path in root.rglob("__init__.py")
    }
    assert {"samlet/training", "samlet_labelstudio/regions", "samlet_napari"} <= expected
    sources = ["pyproject.toml", "README.md", "LICENSE", *(root.name for root in roots)]
    with wheel_of(sources, tmp_path) as wheel:
        names = set(wheel.namelist())
    assert {name.rpartition("/")[0] for name in names if name.endswith(".py")} == expected
    assert {"samlet_napari/napari.yaml", "samlet/samples/README.md"} <= names
    assert {"samlet/py.typed", "samlet/weights/microscopy.safetensors"} <= names
    pictures = [name for name in names if re.match(r"samlet/samples/\w+/\w+\.png", name)]
    assert len(pictures) == 2 * len(samples.NAMES)


@pytest.fixture
def services() -> dict[str, Any]:
    """Docker-compose's services, with what `.env` must hold."""
    text = (BACKEND / "docker-compose.yml").read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(\w+):\?", text))
    # Neither starts without them.
    assert required == set(re.findall(r"\$\{(\w+)", text)) == SECRETS.keys()
    for name, value in SECRETS.items():
        text = re.sub(rf"\$\{{{name}(:\?[^}}]*)?\}}", value, text)
    return dict(yaml.safe_load(text)["services"])


def test_compose_opens_nothing_to_others(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports and all(str(port).startswith("127.0.0.1:") for port in ports)
    label_studio = services["label-studio"]["environment"]
    assert label_studio["LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK"] == "true"
    assert label_studio["LABEL_STUDIO_USERNAME"] and label_studio["LABEL_STUDIO_PASSWORD"]


def test_compose_lets_label_studio_in_alone(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services["samlet"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = listening_on(Settings.read(), "0.0.0.0")
    assert settings.basic_auth_pass == SECRETS["SAMLET_PASSWORD"]
    assert settings.api_key == services["label-studio"]["environment"]["LABEL_STUDIO_USER_TOKEN"]
    # As Label Studio calls it in their network.
    assert is_listed("samlet:9090", settings.names)


def test_nobody_signs_up(server: LabelStudio) -> None:
    """Label Studio understands the variable; tests start it with the same."""
    with requests.Session() as session:
        page = f"{server.url}/user/signup/"
        session.get(page, timeout=30)
        body = {"email": "mallory@example.org", "password": "mallory-1234"}
        token = {"csrfmiddlewaretoken": session.cookies.get("csrftoken", "")}
        answer = session.post(page, data=body | token, headers={"Referer": page}, timeout=30)
    assert answer.status_code == 403
    assert "mallory" not in server.call("GET", "users/").text
