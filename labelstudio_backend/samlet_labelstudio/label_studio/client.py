"""Label Studio's own API, through its SDK, with errors that say what to do."""

import re
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
MAX_DETAIL = 600
"""Characters of what Label Studio says about an error."""


class LabelStudioUnavailableError(UserError):
    """Label Studio does not answer, or refuses the API key: other requests will fare no better."""


def connect(settings: Settings) -> LabelStudio:
    """Open Label Studio's API.

    Raises:
        LabelStudioUnavailableError: Label Studio does not answer, or refuses the API key.
        UserError: the address or the API key is missing.
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
        LabelStudioUnavailableError: Label Studio does not answer, or refuses the key.
    """
    client = connect(settings)
    with label_studio_errors(settings):
        return sdk_private.authorization_header(sdk_private.access_token(client))


@contextmanager
def label_studio_errors(settings: Settings) -> Iterator[None]:
    """Turn errors of Label Studio and its SDK into sentences.

    Raises:
        LabelStudioUnavailableError: Label Studio does not answer, or refuses the API key.
        UserError: whatever else it was.
    """
    try:
        yield
    except ApiError as error:
        # 403 is also for a backend's address that Label Studio does not allow.
        is_about_address = "URL" in _detail(error.body)
        if error.status_code in (401, 403) and not is_about_address:
            raise LabelStudioUnavailableError(
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
            f"{error.status_code}: {_detail(error.body)}."
        ) from error
    except httpx.HTTPError as error:
        # A request that takes too long may be the only one that does.
        is_down = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        raise (LabelStudioUnavailableError if is_down else UserError)(
            f"Label Studio does not answer at {settings.label_studio_url} "
            f"({type(error).__name__}): check the address and that it runs."
        ) from error


@lru_cache(maxsize=4)
def _client(url: str, api_key: str) -> LabelStudio:
    return LabelStudio(base_url=url, api_key=api_key, timeout=TIMEOUT_SECONDS)


def _detail(body: object) -> str:
    """What Label Studio says about a request that it refuses, without the links in it."""
    detail = body
    if isinstance(body, dict):
        faults = body.get("validation_errors")
        detail = body.get("detail")
        if isinstance(faults, dict) and faults:
            detail = " ".join(str(fault) for each in faults.values() for fault in each)
    text = " ".join(re.sub(r"<a .*?</a>[^.:]*[.:]?", "", str(detail)).split())
    return text[:MAX_DETAIL].rstrip(".")
