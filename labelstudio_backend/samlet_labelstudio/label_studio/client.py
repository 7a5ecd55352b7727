"""Label Studio's own API, through its SDK, with errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from samlet.errors import UserError
from samlet_labelstudio.label_studio import sdk_private
from samlet_labelstudio.settings import Settings

TIMEOUT_SECONDS = 60.0


def connect(settings: Settings) -> LabelStudio:
    """Open Label Studio's API.

    Raises:
        UserError: the address or the API key is missing, or the key has expired.
    """
    if settings.label_studio_url is None or not settings.api_key:
        raise UserError(
            "Label Studio's address and an API key are needed: give --label-studio-url and "
            "--api-key, or set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."
        )
    with label_studio_errors(settings):
        return _client(settings.label_studio_url, settings.api_key)


def authorization(settings: Settings) -> str:
    """The header Authorization of requests to Label Studio.

    Raises:
        UserError: Label Studio does not answer, or refuses the key.
    """
    client = connect(settings)
    with label_studio_errors(settings):
        return sdk_private.authorization_header(sdk_private.access_token(client))


@contextmanager
def label_studio_errors(settings: Settings) -> Iterator[None]:
    """Turn errors of Label Studio and its SDK into sentences.

    Raises:
        UserError: whatever it was.
    """
    try:
        yield
    except ApiError as error:
        if error.status_code in (401, 403):
            raise UserError(
                f"Label Studio at {settings.label_studio_url} refuses the API key: copy a valid "
                "one from Account & Settings."
            ) from error
        if error.status_code == 404:
            raise UserError(
                f"Label Studio at {settings.label_studio_url} has no such project or task, or its "
                "API key may not see it: check the number."
            ) from error
        raise UserError(
            f"Label Studio at {settings.label_studio_url} answers with status "
            f"{error.status_code}: {_detail(error.body)}. Its log may say more."
        ) from error
    except httpx.HTTPError as error:
        raise UserError(
            f"Label Studio does not answer at {settings.label_studio_url} "
            f"({type(error).__name__}): check the address and that it runs."
        ) from error


@lru_cache(maxsize=4)
def _client(url: str, api_key: str) -> LabelStudio:
    return LabelStudio(base_url=url, api_key=api_key, timeout=TIMEOUT_SECONDS)


def _detail(body: object) -> str:
    detail = body.get("detail") if isinstance(body, dict) else body
    return str(detail)[:300].rstrip(".")
