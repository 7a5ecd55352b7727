"""The backend's settings from the environment, and values that are refused."""

from pathlib import Path
from typing import Any

import pytest

from samlet.errors import UserError
from samlet.utils.cache_folder import embeddings_dir, embeddings_limit
from samlet_labelstudio.settings import PER_PROJECT, Settings


def test_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "LABEL_STUDIO_URL": "http://localhost:8080",
        "LABEL_STUDIO_HOST": "https://label.example.org",
        "LABEL_STUDIO_API_KEY": "key",
        "BASIC_AUTH_USER": "user",
        "BASIC_AUTH_PASS": "password",
        "SAMLET_MODEL": "mobile_sam",
        "SAMLET_ALLOWED_HOSTS": "a.example.org, b.example.org:81,",
        "SAMLET_NAMES": "samlet",
        "SAMLET_FOLDER": str(tmp_path),
        "SAMLET_MIN_SCORE": "0.5",
        "SAMLET_LABEL": "cell",
        "SAMLET_TRAIN_ON_ANNOTATIONS": "1",
        "SAMLET_TRAIN_PAUSE": "2.5",
        "SAMLET_MAX_PIXELS": "",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings.read({"model": "microscopy", "label": None})
    assert settings.model == "microscopy" and settings.label == "cell"
    assert settings.label_studio_url == "http://localhost:8080"
    assert settings.label_studio_host == "https://label.example.org"
    assert (settings.api_key, settings.basic_auth_user) == ("key", "user")
    assert settings.basic_auth_pass == "password"
    assert settings.allowed_hosts == ("a.example.org", "b.example.org:81")
    assert settings.names == ("samlet",) and settings.folder == tmp_path
    assert settings.embeddings_folder == tmp_path / "embeddings"
    assert settings.min_score == 0.5 and settings.train_pause == 2.5
    assert settings.train_on_annotations is True
    # An empty variable counts as unset.
    assert settings.max_pixels == Settings.model_fields["max_pixels"].default
    # What is given explicitly comes first, by whatever name the variable has.
    assert Settings(label_studio_url=None).label_studio_url is None
    assert Settings(label_studio_url="http://other").label_studio_url == "http://other"


def test_embeddings_are_shared_unless_a_folder_is_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SAMLET_FOLDER", raising=False)
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path))
    monkeypatch.setenv("SAMLET_DISK_MB", "700")
    assert Settings.read().embeddings_folder == embeddings_dir() == tmp_path / "embeddings"
    assert Settings.read().disk_mb * 1_000_000 == embeddings_limit()


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("SAMLET_MIN_SCORE", "2", "SAMLET_MIN_SCORE is '2': it must be less than or equal to 1."),
        ("SAMLET_MIN_SCORE", "nan", "SAMLET_MIN_SCORE is 'nan': it must be a finite number."),
        ("SAMLET_MAX_REGIONS", "-1", "SAMLET_MAX_REGIONS is '-1': it must be greater than or"),
        ("SAMLET_MEMORY_MB", "0", "SAMLET_MEMORY_MB is '0': it must be greater than or equal to 1"),
        ("SAMLET_MAX_PIXELS", "many", "SAMLET_MAX_PIXELS is 'many': it must be a valid integer"),
        ("SAMLET_TRAIN_PAUSE", "inf", "SAMLET_TRAIN_PAUSE is 'inf': it must be a finite number."),
        ("SAMLET_TRAIN_ON_ANNOTATIONS", "perhaps", "SAMLET_TRAIN_ON_ANNOTATIONS is 'perhaps': it"),
        ("SAMLET_NAMES", "a,http://b", "SAMLET_NAMES contains 'http://b': give a host"),
        ("LABEL_STUDIO_URL", "localhost:8080", "(LABEL_STUDIO_URL) is 'localhost:8080': give it"),
        ("BASIC_AUTH_USER", "user", "set both BASIC_AUTH_USER and BASIC_AUTH_PASS, or neither."),
    ],
)
def test_wrong_values(
    variable: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError) as caught:
        Settings.read()
    message = str(caught.value)
    assert sentence in message and message.endswith(".") and "\n" not in message


@pytest.mark.parametrize("given", [{"api_key": ["S3CR3T"]}, {"basic_auth_pass": {"S3CR3T": 1}}])
def test_secrets_are_not_shown(given: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        Settings(**given)
    assert "S3CR3T" not in str(caught.value)
    assert "S3CR3T" not in repr(Settings(api_key="S3CR3T"))


def test_extra_parameters() -> None:
    settings = Settings(model="mobile_sam", min_area=3, max_regions=9)
    changed = settings.with_extra_params(
        {"label": 5, "max_regions": "7", "min_score": None, "max_pixels": 1}
    )
    assert (changed.label, changed.max_regions, changed.min_area) == ("5", 7, 3)
    assert changed.max_pixels == settings.max_pixels and changed.model == "mobile_sam"
    assert settings.max_regions == 9
    assert set(PER_PROJECT) == {
        "label", "min_score", "min_area", "max_regions", "tolerance", "likeness"
    }  # fmt: skip
