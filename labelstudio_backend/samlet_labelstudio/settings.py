"""The backend's settings: from the command line, or from the environment."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from samlet.errors import UserError
from samlet.images import DEFAULT_MAX_PIXELS
from samlet.utils.cache_folder import EMBEDDINGS_MB, cache_dir, embeddings_dir
from samlet_labelstudio.hosts import host_of

PREFIX = "SAMLET_"

_Hosts = Annotated[tuple[str, ...], NoDecode]
_Positive = Annotated[int, Field(ge=1)]


def _default_folder() -> Path:
    return cache_dir() / "labelstudio"


class PreannotationSettings(BaseModel):
    """What the extra parameters of a project's backend can change.

    Attributes:
        label: of pre-annotations; None takes the first label of the control.
        min_score: least predicted IoU of pre-annotations, 0 to 1.
        min_area: least area of pre-annotations in pixels.
        max_regions: most pre-annotations per image, those with the highest predicted IoU.
        tolerance: how far polygons may deviate from the mask, in pixels.
        likeness: least likeness of what labels such as "all like cell" find, 0 to 1; see
            `samlet.find_similar`.
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    label: str | None = None
    min_score: float = Field(0.0, ge=0, le=1)
    min_area: int = Field(0, ge=0)
    max_regions: int = Field(1000, ge=0)
    tolerance: float = Field(1.0, ge=0)
    likeness: float = Field(0.5, ge=0, le=1)


PER_PROJECT = tuple(PreannotationSettings.model_fields)
"""Names of the settings that the extra parameters of a project's backend can change."""


class Settings(PreannotationSettings, BaseSettings):
    """All settings. Those that are not given come from the environment, then from the defaults.

    Those of `PreannotationSettings` are among them. The variable of a setting is SAMLET_ and its
    name in capitals, unless noted otherwise; the entries of lists are separated by commas. An empty
    variable counts as unset.

    Attributes:
        model: a name from `samlet models`, or a checkpoint.
        engine: see `samlet.engines.open_engine`.
        precision: of the image encoder, see there.
        label_studio_url: where Label Studio is, as seen from here (LABEL_STUDIO_URL); with None,
            only images that tasks contain themselves, or from `allowed_hosts`, can be used.
        label_studio_host: where browsers find Label Studio, if elsewhere: Label Studio's own
            LABEL_STUDIO_HOST. Images at http(s) addresses that begin like this are requested at
            `label_studio_url`.
        api_key: of a Label Studio user: an access token or a legacy token
            (LABEL_STUDIO_API_KEY). Never shown nor logged.
        allowed_hosts: further hosts that images may come from, as "host" or "host:port".
        names: further names by which the backend itself is reached, as "host" or "host:port".
        basic_auth_user: who may use the backend (BASIC_AUTH_USER); None for everybody.
        basic_auth_pass: the password (BASIC_AUTH_PASS). Never shown nor logged.
        folder: for trained models, and for embeddings if it is chosen; by default in samlet's cache
            folder.
        memory_mb: limit of embeddings in memory.
        disk_mb: limit of embeddings on disk.
        max_image_mb: larger files are refused.
        max_pixels: images with more pixels are refused.
        prefetch_tasks: how many of the tasks that follow a clicked one are encoded ahead.
        train_on_annotations: train also when annotations arrive, not only on request.
        train_pause: seconds without a new annotation before that starts.
        train_steps: length of a training; None for 200 steps, or fewer if these would take longer
            than `train_minutes`.
        train_minutes: how long a training may take, as measured in its first steps.

    Raises:
        UserError: a value of the wrong type, or out of its range.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, populate_by_name=True
    )

    model: str = "microscopy"
    engine: str = "auto"
    precision: str = "auto"
    label_studio_url: str | None = Field(None, validation_alias="LABEL_STUDIO_URL")
    label_studio_host: str | None = Field(None, validation_alias="LABEL_STUDIO_HOST")
    api_key: str | None = Field(None, validation_alias="LABEL_STUDIO_API_KEY", repr=False)
    allowed_hosts: _Hosts = ()
    names: _Hosts = ()
    basic_auth_user: str | None = Field(None, validation_alias="BASIC_AUTH_USER")
    basic_auth_pass: str | None = Field(None, validation_alias="BASIC_AUTH_PASS", repr=False)
    folder: Path = Field(default_factory=_default_folder)
    memory_mb: _Positive = 1000
    disk_mb: _Positive = EMBEDDINGS_MB
    max_image_mb: _Positive = 500
    max_pixels: _Positive = DEFAULT_MAX_PIXELS
    prefetch_tasks: int = Field(2, ge=0, le=20)
    train_on_annotations: bool = False
    train_pause: float = Field(60.0, ge=0)
    train_steps: _Positive | None = None
    train_minutes: float = Field(20.0, gt=0)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(_message(error.errors()[0], _variable_of)) from None

    @classmethod
    def read(cls, given: Mapping[str, Any] | None = None) -> Self:
        """Take what is given, and the environment for the rest.

        Args:
            given: by name; values that are None count as not given.

        Raises:
            UserError: a value of the wrong type, or out of its range.
        """
        return cls(**{name: value for name, value in (given or {}).items() if value is not None})

    def with_extra_params(self, params: Mapping[str, Any]) -> Self:
        """Change what a project may change by itself: how its tasks are pre-annotated.

        Args:
            params: by name, as text or JSON values; names other than `PER_PROJECT` are ignored.

        Raises:
            UserError: a value of the wrong type, or out of its range.
        """
        given = {name: params[name] for name in PER_PROJECT if params.get(name) is not None}
        try:
            checked = PreannotationSettings.model_validate(given)
        except ValidationError as error:
            raise UserError(_message(error.errors()[0], "The extra parameter {}".format)) from None
        return self.model_copy(update=checked.model_dump(include=set(given)))

    @property
    def embeddings_folder(self) -> Path:
        """Where embeddings are kept: the folder that programs share, unless `folder` was chosen."""
        return embeddings_dir() if self.folder == _default_folder() else self.folder / "embeddings"

    @field_validator("allowed_hosts", "names", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        url = self.label_studio_url
        is_http = url is not None and url.lower().startswith(("http://", "https://"))
        # A password in it would be used instead of the API key, and be shown.
        if url is not None and (not is_http or not host_of(url) or "@" in url):
            raise UserError(
                f"Label Studio's address (LABEL_STUDIO_URL) is {url.rpartition('@')[2]!r}: give it "
                "as http://host:port or https://host, without a user or password."
            )
        for name in ("allowed_hosts", "names"):
            for host in getattr(self, name):
                if "/" in host:
                    raise UserError(
                        f"{_variable_of(name)} contains {host!r}: give a host, or host:port."
                    )
        self._check_password()
        return self

    def _check_password(self) -> None:
        if (self.basic_auth_user is None) != (self.basic_auth_pass is None):
            raise UserError(
                "A user and a password belong together: set both BASIC_AUTH_USER and "
                "BASIC_AUTH_PASS, or neither."
            )
        user, password = self.basic_auth_user or "", self.basic_auth_pass or ""
        # Clients encode other characters differently.
        if ":" in user or not (user + password).isascii() or not (user + password).isprintable():
            raise UserError(
                "BASIC_AUTH_USER and BASIC_AUTH_PASS may only contain printable ASCII characters, "
                "and the user no colon: choose others."
            )


def _variable_of(name: str) -> str:
    """The environment variable of a setting."""
    field = Settings.model_fields.get(name)
    alias = field.validation_alias if field else name
    return str(alias) if alias else PREFIX + name.upper()


def _message(error: ErrorDetails, name_of: Callable[[str], str]) -> str:
    """One sentence about a value that pydantic, or a validator above, refuses."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    name = str(error["loc"][0])
    field = Settings.model_fields.get(name)
    shown = " is wrong" if field and not field.repr else f" is {str(error['input'])[:100]!r}"
    reason = error["msg"].replace("Input should be", "it must be")
    return f"{name_of(name)}{shown}: {reason}."
