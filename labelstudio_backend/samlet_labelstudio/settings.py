"""What the backend is told when it starts: by the command line, or by the environment."""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from samlet.errors import UserError
from samlet.images import DEFAULT_MAX_PIXELS
from samlet.utils.cache_folder import cache_dir

PREFIX = "SAMLET_"
STANDARD = {
    "label_studio_url": "LABEL_STUDIO_URL",
    "label_studio_host": "LABEL_STUDIO_HOST",
    "api_key": "LABEL_STUDIO_API_KEY",
    "basic_auth_user": "BASIC_AUTH_USER",
    "basic_auth_pass": "BASIC_AUTH_PASS",
}
"""Variables that all backends of Label Studio share, and Label Studio's own."""


@dataclass(frozen=True)
class Settings:
    """All of it; each can be set by the variable SAMLET_ and its name in capitals.

    Attributes:
        model: a name from `samlet models`, or a checkpoint.
        engine: see `samlet.engines.open_engine`.
        label_studio_url: where Label Studio is, as seen from here (LABEL_STUDIO_URL); None can only
            use images that tasks carry in themselves, or from `allowed_hosts`.
        label_studio_host: where browsers find Label Studio, if elsewhere: Label Studio's own
            LABEL_STUDIO_HOST. Images at http(s) addresses that begin like this are asked for at
            `label_studio_url`.
        api_key: of a Label Studio user: an access token or a legacy token
            (LABEL_STUDIO_API_KEY). Never shown nor logged.
        allowed_hosts: further hosts that images may come from, as "host" or "host:port".
        names: further names that the backend itself is reached by, as "host" or "host:port".
        basic_auth_user: who may use the backend (BASIC_AUTH_USER); None for everybody.
        basic_auth_pass: the password (BASIC_AUTH_PASS). Never shown nor logged.
        folder: for embeddings and trained models; samlet's cache folder if not given.
        memory_mb: for embeddings in memory.
        disk_mb: for embeddings on disk.
        max_image_mb: larger files are refused.
        max_pixels: images with more pixels are refused.
        label: what pre-annotations are labelled as; None takes the first label of the control.
        min_score: pre-annotations have at least this predicted IoU, 0 to 1.
        min_area: and so many pixels.
        max_regions: and are at most so many an image, the most trusted.
        tolerance: pixels that a polygon may be off the mask.
        train_on_annotations: train also when annotations arrive, not only when asked to.
        train_pause: seconds without a new annotation before that starts.
        train_steps: how long a training is.
    """

    model: str = "nuclei"
    engine: str = "auto"
    label_studio_url: str | None = None
    label_studio_host: str | None = None
    api_key: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    basic_auth_user: str | None = None
    basic_auth_pass: str | None = field(default=None, repr=False)
    folder: Path = field(default_factory=lambda: cache_dir() / "labelstudio")
    memory_mb: int = 1000
    disk_mb: int = 5000
    max_image_mb: int = 500
    max_pixels: int = DEFAULT_MAX_PIXELS
    label: str | None = None
    min_score: float = 0.0
    min_area: int = 0
    max_regions: int = 1000
    tolerance: float = 1.0
    train_on_annotations: bool = False
    train_pause: float = 60.0
    train_steps: int = 200

    def __post_init__(self) -> None:
        url = self.label_studio_url
        is_http = url is not None and url.lower().startswith(("http://", "https://"))
        # A password in it would be used instead of the API key, and be shown.
        if url is not None and (not is_http or not host_of(url) or "@" in url):
            raise UserError(
                f"Label Studio's address is {url.rpartition('@')[2]!r}: give it as "
                "http://host:port or https://host, without a user or password."
            )
        for name in ("allowed_hosts", "names"):
            for host in getattr(self, name):
                if "/" in host:
                    raise UserError(f"{name} has {host!r}: give a host, or host:port.")
        if (self.basic_auth_user is None) != (self.basic_auth_pass is None):
            raise UserError(
                "A user and a password belong together: set both BASIC_AUTH_USER and "
                "BASIC_AUTH_PASS, or none of them."
            )
        user, password = self.basic_auth_user or "", self.basic_auth_pass or ""
        # Of other characters, clients send different bytes.
        if ":" in user or not (user + password).isascii() or not (user + password).isprintable():
            raise UserError(
                "BASIC_AUTH_USER and BASIC_AUTH_PASS can only have letters, digits and signs of "
                "ASCII, and the user no colon: choose others."
            )
        if not 0 <= self.min_score <= 1:
            raise UserError(f"min_score is {self.min_score}: give a number from 0 to 1.")
        for name in ("memory_mb", "disk_mb", "max_image_mb", "max_pixels", "train_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: give at least 1.")
        for name in ("min_area", "max_regions", "tolerance", "train_pause"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}: give a number, at least 0.")

    @classmethod
    def read(cls, given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> "Settings":
        """Take what was given, the environment for the rest, and defaults for what is left.

        Args:
            given: by name; values that are None do not count.
            environ: the environment.

        Raises:
            UserError: a value of the wrong kind, or out of its range.
        """
        values: dict[str, Any] = {}
        for each in fields(cls):
            variable = STANDARD.get(each.name, PREFIX + each.name.upper())
            if given.get(each.name) is not None:
                values[each.name] = given[each.name]
            elif environ.get(variable):
                values[each.name] = _from_text(each.type, environ[variable], variable)
        return cls(**values)

    def with_texts(self, texts: Mapping[str, Any], source: str) -> "Settings":
        """Change what a project may change by itself: how its tasks are pre-annotated.

        Args:
            texts: by name, as text or JSON values; other names are passed over.
            source: names where they come from, to start a sentence.

        Raises:
            UserError: a value of the wrong kind, or out of its range.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        for each in fields(self):
            if each.name in PER_PROJECT and texts.get(each.name) is not None:
                text = str(texts[each.name])
                values[each.name] = _from_text(each.type, text, f"{source} {each.name}")
        return Settings(**values)


PER_PROJECT = ("label", "min_score", "min_area", "max_regions", "tolerance")
"""Settings that the extra parameters of a project's backend can change."""


def host_of(url: str) -> str:
    """The "host:port" of a URL in lower case, with its scheme's port if it names none; or ""."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ""
    return f"{parts.hostname.lower()}:{port}" if parts.hostname else ""


def is_listed(host: str, listed: Iterable[str]) -> bool:
    """Tell whether a "host:port" as of `host_of` is in a list, where "host" means any port."""
    known = {each.lower() for each in listed}
    return bool(host) and (host in known or host.rpartition(":")[0] in known)


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", Path: "a folder"}


def _from_text(kind: Any, text: str, name: str) -> Any:
    try:
        if kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
                text.lower()
            ]
        if kind in (int, float, Path):
            return kind(text)
    except (KeyError, ValueError) as error:
        raise UserError(f"{name} is {text!r}: give {_KINDS[kind]}.") from error
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text
