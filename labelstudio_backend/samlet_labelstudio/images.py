"""The images of tasks: fetched as Label Studio serves them, and from nowhere else.

A task can name any URL, and whoever can make tasks must not be able to make this server read what
only it can reach. So only Label Studio itself and listed hosts are asked, at every redirect again.
"""

import base64
import ipaddress
import logging
import re
import socket
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import requests
from label_studio_sdk._extensions.label_studio_tools.core.utils import io as resolver

from samlet.errors import UserError
from samlet_labelstudio.label_studio import access_token
from samlet_labelstudio.settings import Settings, host_of

CONNECT_SECONDS = 10
READ_SECONDS = 60
CHUNK_BYTES = 1 << 20
CLOUD = ("s3://", "gs://", "azure-blob://")
SERVED = ("/data/", "data/", "/upload", "upload", "/storage-data/", "storage-data/")
"""How the paths begin that Label Studio serves itself."""

# It logs whole URLs, with what is secret in them.
resolver.logger.setLevel(logging.CRITICAL)


def fetch(url: str, task_id: Any, settings: Settings) -> bytes:
    """Get an image's file.

    Args:
        url: of a task: a data URI, a path that Label Studio serves, an http(s) URL, or one of S3,
            Google Cloud Storage or Azure, which Label Studio then signs.
        task_id: of the task, which Label Studio needs to know for cloud storage.
        settings: say who may be asked, with which key, and how large a file may be.

    Raises:
        UserError: not an address of an image, a host that is not allowed, no or a wrong API key, a
            file that is too large, or nobody answers.
    """
    content = (
        _from_data_uri(url, settings) if url.startswith("data:") else _asked(url, task_id, settings)
    )
    if len(content) > settings.max_image_mb * 1_000_000:
        raise _too_large(url, settings)
    return content


def _asked(url: str, task_id: Any, settings: Settings) -> bytes:
    served = url.startswith((*SERVED, *CLOUD))
    if url.startswith(("data/", "storage-data/")):
        url = f"/{url}"
    if not served and not url.lower().startswith(("http://", "https://")):
        raise UserError(
            f"{_shown(url)} is no address of an image: give tasks an upload, an http(s) URL, cloud "
            "storage or a data URI."
        )
    if served and settings.label_studio_url is None:
        raise UserError(
            f"{_shown(url)} is served by Label Studio, whose address is not known: start the "
            "backend with --label-studio-url and --api-key."
        )
    own = settings.label_studio_url
    if served and not settings.api_key:
        raise UserError(
            f"{_shown(url)} needs an API key: start the backend with --api-key, from Account & "
            "Settings in Label Studio."
        )
    if url.startswith(CLOUD) and not re.fullmatch("[0-9]+", str(task_id)):
        # It becomes part of a path.
        raise UserError(
            f"{_shown(url)} can only be signed for a task of Label Studio: send the task's number "
            'as its "id".'
        )
    is_own = served or (own is not None and host_of(url) == host_of(own))
    token = access_token(settings) if is_own and settings.api_key else ""
    try:
        with GuardedSession(settings) as session, resolver.http_session(session):
            content = resolver.get_base64_content(url, own, token, task_id)
    except requests.HTTPError as error:
        status = error.response.status_code
        remedy = "check --api-key" if status in (401, 403) else "check that the image is there"
        raise UserError(f"{_shown(url)} was refused with status {status}: {remedy}.") from error
    except UserError:
        raise
    # Of odd URLs, ValueError.
    except (requests.RequestException, OSError, ValueError) as error:
        raise UserError(
            f"{_shown(url)} cannot be fetched ({type(error).__name__}): check the address, and "
            "that this machine can reach it."
        ) from error
    return base64.b64decode(content)


class GuardedSession(requests.Session):
    """Asks allowed hosts alone, and reads no more than is allowed.

    Where Label Studio itself redirects to signed cloud storage, it may lead to any host with a
    public address: tasks cannot choose that one.

    Args:
        settings: see `fetch`.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._is_signed = False
        self.hooks["response"].append(self._limit)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """As requests does; it comes here for every redirect, too.

        Raises:
            UserError: a host that is not allowed, or an answer that is too large.
        """
        url = request.url or ""
        if not is_allowed(url, self._settings) and not (self._is_signed and is_public(url)):
            raise UserError(
                f"{_shown(url)} is on a host that images may not come from: start the backend with "
                f"--allow-host {urlsplit(url).hostname} if it should be."
            )
        own = self._settings.label_studio_url
        is_own = own is not None and host_of(url) == host_of(own)
        self._is_signed = is_own and urlsplit(url).path.endswith("/presign/")
        return super().send(
            request, **kwargs | {"stream": True, "timeout": (CONNECT_SECONDS, READ_SECONDS)}
        )

    def _limit(self, response: requests.Response, **kwargs: Any) -> None:
        """Read what others, requests at a redirect too, will read all of as `content`."""
        limit = self._settings.max_image_mb * 1_000_000
        content = bytearray()
        for chunk in response.iter_content(CHUNK_BYTES):
            content += chunk
            if len(content) > limit:
                response.close()
                raise _too_large(response.url, self._settings)
        response._content = bytes(content)


def is_allowed(url: str, settings: Settings) -> bool:
    """Tell whether a URL is Label Studio's or of a listed host."""
    host = host_of(url)
    return bool(host) and (host in settings.hosts or host.rpartition(":")[0] in settings.hosts)


def is_public(url: str) -> bool:
    """Tell whether no address of a URL's host is of this machine or its network."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
        return all(ipaddress.ip_address(place[4][0]).is_global for place in found)
    except (OSError, ValueError):
        return False


def _from_data_uri(url: str, settings: Settings) -> bytes:
    header, comma, body = url.partition(",")
    if not comma:
        raise UserError("The task's data URI holds no data: it needs a comma before them.")
    # Four letters of Base64 are three bytes, three letters of a percent-encoding one.
    if len(body) > settings.max_image_mb * 4_000_000:
        raise _too_large(header, settings)
    try:
        if header.endswith(";base64"):
            return base64.b64decode(unquote_to_bytes(body), validate=True)
        return unquote_to_bytes(body)
    # binascii.Error, or characters that no text has.
    except ValueError as error:
        raise UserError(
            "The task's data URI is not valid Base64: encode the image again."
        ) from error


def _too_large(url: str, settings: Settings) -> UserError:
    return UserError(
        f"{_shown(url)} has more than {settings.max_image_mb} MB: start the backend with "
        "SAMLET_MAX_IMAGE_MB set higher if that is meant."
    )


def _shown(url: str) -> str:
    """A URL for people: without what may be secret in it (user, query), and not endless."""
    # A data URI holds the image itself.
    url = re.split("[?#,]" if url.startswith("data:") else "[?#]", url, maxsplit=1)[0]
    scheme, slashes, rest = url.rpartition("//")
    url = scheme + slashes + rest.rpartition("@")[2]
    return url if len(url) <= 100 else f"{url[:97]}..."
