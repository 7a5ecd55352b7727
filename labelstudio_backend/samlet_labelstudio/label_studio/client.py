"""Label Studio's own API, through its SDK, with errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from samlet.errors import UserError
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
    with told(settings):
        return _client(settings.label_studio_url, settings.api_key)


def access_token(settings: Settings) -> str:
    """What requests to Label Studio are signed with; a personal access token is exchanged for it.

    Raises:
        UserError: Label Studio does not answer, or refuses the key.
    """
    client = connect(settings)
    with told(settings):
        # The SDK has no public name for what label-studio-ml itself takes from here.
        return str(client._client_wrapper._tokens_client.api_key)


@contextmanager
def told(settings: Settings) -> Iterator[None]:
    """Turn what goes wrong at Label Studio into a sentence.

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
