"""What the server may import, and what of the SDK may not move."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
from label_studio_sdk import LabelStudio

from samlet_labelstudio.label_studio import sdk_private
from tests.labelstudio.label_studio import ROOT

BLOCKED = ("label_studio_ml", "redis", "rq")
SERVE_WITHOUT = f"""
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(f"{{fullname}} is blocked")
        return None

sys.meta_path.insert(0, Blocker())

import pkgutil
import samlet_labelstudio

for module in pkgutil.walk_packages(samlet_labelstudio.__path__, "samlet_labelstudio."):
    if not module.name.startswith(("samlet_labelstudio.ml_backend", "samlet_labelstudio.model")):
        __import__(module.name)

from samlet_labelstudio.server.app import create_app
from samlet_labelstudio.service import Service
from samlet_labelstudio.settings import Settings

# Without the thread that loads the model: a process that ends in the middle of it is aborted.
client = create_app(Service(Settings.read()), 2).test_client()
assert client.get("/health").json == {{"status": "UP", "model_class": "SamletBackend"}}
config = (
    '<View><Image name="i" value="$i"/>'
    '<KeyPointLabels name="k" toName="i" smart="true"><Label value="cell"/></KeyPointLabels>'
    '<BrushLabels name="b" toName="i"><Label value="cell"/></BrushLabels></View>'
)
answer = client.post("/setup", json={{"project": "1.17", "schema": config}})
assert answer.json == {{"model_version": "microscopy"}}, answer.json
assert not {set(BLOCKED)!r} & {{name.partition(".")[0] for name in sys.modules}}
try:
    import samlet_labelstudio.model
except ImportError as error:
    assert "label_studio_ml" in str(error)
else:
    raise AssertionError("label-studio-ml was not blocked")
"""


def test_the_server_needs_no_label_studio_ml(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVE_WITHOUT],
        env={**os.environ, "SAMLET_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_default_extra_does_not_install_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: {requirement.partition(">")[0] for requirement in requirements}
        for name, requirements in project["optional-dependencies"].items()
    }
    assert {"label-studio-ml", "redis", "rq", "samlet[labelstudio]"} == extras["labelstudio-ml"]
    assert not extras["labelstudio"] & extras["labelstudio-ml"]


def test_private_names_of_the_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sdk_private` alone uses them; this fails when they move."""
    client = LabelStudio(base_url="http://127.0.0.1:9", api_key="legacy")
    assert sdk_private.access_token(client) == "legacy"
    assert sdk_private.authorization_header("legacy") == "Token legacy"
    path = tmp_path / "a.png"
    path.touch()
    with pytest.raises(httpx.ConnectError):
        sdk_private.upload(client, 3, path)
    monkeypatch.setattr(sdk_private._io, "LOCAL_FILES_DOCUMENT_ROOT", str(tmp_path))
    assert sdk_private.local_file("/data/local-files/?d=a.png") == path
    assert sdk_private.local_file("/data/local-files/?d=b.png") is None
    assert sdk_private.verifies_tls() is True


def test_private_names_are_used_in_one_file() -> None:
    package = Path(sdk_private.__file__).parents[1]
    users = [
        path.name
        for path in package.rglob("*.py")
        if "_extensions" in (text := path.read_text(encoding="utf-8")) or "._client_wrapper" in text
    ]
    assert users == ["sdk_private.py"]
