"""The images of tasks: fetched as Label Studio serves them, and from nowhere else.

A task can name any URL, and whoever can make tasks must not be able to make this server read what
only it can reach. So only Label Studio itself and listed hosts are asked, at every redirect again.
"""

import base64
import binascii
import ipaddress
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
    if url.startswith("data:"):
        return _from_data_uri(url, settings)
    served = url.startswith((*SERVED, *CLOUD))
    if not served and urlsplit(url).scheme not in ("http", "https"):
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
    is_own = served or (own is not None and host_of(url) == host_of(own))
    token = access_token(settings) if is_own and settings.api_key else ""
    try:
        with GuardedSession(settings) as session, resolver.http_session(session):
            content = resolver.get_base64_content(url, own, token, task_id)
    except requests.HTTPError as error:
        status = error.response.status_code
        remedy = "check --api-key" if status in (401, 403) else "check that the image is there"
        raise UserError(f"{_shown(url)} was refused with status {status}: {remedy}.") from error
    except (requests.RequestException, OSError) as error:
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
        self._is_signed = own is not None and host_of(url) == host_of(own) and "/presign" in url
        response = super().send(
            request, **kwargs | {"stream": True, "timeout": (CONNECT_SECONDS, READ_SECONDS)}
        )
        if not response.is_redirect:
            # Label Studio's resolver reads all of `content`, which this limits.
            response._content = self._limited(response)
        return response

    def _limited(self, response: requests.Response) -> bytes:
        limit = self._settings.max_image_mb * 1_000_000
        content = bytearray()
        for chunk in response.iter_content(CHUNK_BYTES):
            content += chunk
            if len(content) > limit:
                response.close()
                raise _too_large(response.url, self._settings)
        return bytes(content)


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
    except binascii.Error as error:
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
    parts = urlsplit(url)
    if parts.netloc:
        url = f"{parts.scheme}://{parts.hostname}{parts.path}"
    else:
        url = url.partition("?")[0]
    return url if len(url) <= 100 else f"{url[:97]}..."
