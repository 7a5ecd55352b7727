"""The images of tasks: fetched as Label Studio serves them, and from nowhere else.

A task can name any URL, and whoever can make tasks must not be able to make this server read what
only it can reach. So only listed hosts are asked, and Label Studio itself, with the API key, where
it serves images; at every redirect again.
"""

import base64
import ipaddress
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import requests
from label_studio_sdk._extensions.label_studio_tools.core.utils import io as resolver

from samlet.errors import UserError
from samlet.images import IMAGE_SUFFIXES
from samlet_labelstudio.label_studio.client import access_token
from samlet_labelstudio.settings import Settings, host_of, is_listed

CONNECT_SECONDS = 10
READ_SECONDS = 60
CHUNK_BYTES = 1 << 20
CLOUD = ("s3://", "gs://", "azure-blob://")
USER_AGENT = "Mozilla/5.0 (compatible; samlet)"
"""Some hosts refuse what Python's libraries call themselves."""

_SIGNING = r"/(?:tasks|projects)/[0-9]+/(?:presign|resolve)/"
_LOCAL = r"/data/local-files/?"
_PLACES = rf"/data/upload/.+|{_LOCAL}|/storage-data/uploaded/?|{_SIGNING}"
"""Paths by which Label Studio serves images, in its urls.py: uploads, local files, uploads that it
keeps in cloud storage, and cloud storage of projects."""
_BELOW = re.compile(rf"(?:/[A-Za-z0-9_.~-]+)*?(?P<place>{_PLACES})")
"""The same below any sub-path."""


def fetch(url: str, task_id: Any, settings: Settings) -> bytes:
    """Get an image's file.

    Args:
        url: of a task: a data URI, a path by which Label Studio serves images (below a sub-path,
            too), an http(s) URL, or one of S3, Google Cloud Storage or Azure, which Label Studio
            then signs.
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
    try:
        address = _address(url, task_id, settings)
        local = _local_file(address, settings)
        if local is not None:
            return local.read_bytes()
        with GuardedSession(settings) as session:
            response = session.get(address, verify=resolver.VERIFY_SSL)
            response.raise_for_status()
            return response.content
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


def _address(url: str, task_id: Any, settings: Settings) -> str:
    """Where to ask for what a task names; what Label Studio serves is below its own address.

    Raises:
        UserError: not an address of an image, or Label Studio's address or key is needed, and not
            known.
    """
    if url.lower().startswith(("http://", "https://")):
        # As it will be sent: what is decided must not be about another address than is asked.
        url = requests.Request("GET", url).prepare().url or ""
        public = settings.label_studio_host
        served = public and settings.label_studio_url and _served(url, public)
        if not served:
            return url
    elif url.startswith(CLOUD):
        if not re.fullmatch("[0-9]+", str(task_id)):
            # It becomes part of a path.
            raise UserError(
                f"{_shown(url)} can only be signed for a task of Label Studio: send the task's "
                'number as its "id".'
            )
        encoded = base64.urlsafe_b64encode(url.encode()).decode()
        served = f"/tasks/{task_id}/presign/?fileuri={encoded}"
    else:
        path, question, query = url.partition("#")[0].partition("?")
        path = path if path.startswith("/") else f"/{path}"
        path = f"/data{path}" if path.startswith("/upload/") else path
        found = _BELOW.fullmatch(path)
        if found is None:
            raise UserError(
                f"{_shown(url)} is no address of an image: give tasks an upload, an http(s) URL, "
                "cloud storage or a data URI."
            )
        # Below which path browsers see Label Studio need not be what it is called from here.
        served = found["place"] + question + query
    if settings.label_studio_url is None:
        raise UserError(
            f"{_shown(url)} is served by Label Studio, whose address is not known: start the "
            "backend with --label-studio-url and --api-key."
        )
    return settings.label_studio_url.rstrip("/") + served


def _served(url: str, label_studio: str) -> str | None:
    """What an address asks of a Label Studio that serves images: path and query; None if nothing.

    Args:
        url: as it is sent.
        label_studio: its own address.
    """
    asked, own = urlsplit(url), urlsplit(label_studio)
    below = own.path.rstrip("/")
    if asked.scheme != own.scheme.lower() or host_of(url) != host_of(label_studio):
        return None
    path = asked.path.removeprefix(below)
    if not asked.path.startswith(below) or not re.fullmatch(_PLACES, path) or _climbs(path):
        return None
    return f"{path}?{asked.query}" if asked.query else path


def _climbs(path: str) -> bool:
    """Whether a server may take a path for one of another folder, however often it decodes it."""
    while not {".", ".."} & set(re.split(r"[/\\]", path)):
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True


def _local_file(address: str, settings: Settings) -> Path | None:
    """The file on this machine, where whoever starts the backend says where local files lie."""
    own = settings.label_studio_url
    served = None if own is None else _served(address, own)
    if served is None or not re.fullmatch(_LOCAL, served.partition("?")[0]):
        return None
    path = resolver.resolve_local_storage_file(served)
    return Path(path) if path and Path(path).exists() else None


class GuardedSession(requests.Session):
    """Asks allowed hosts alone, and reads no more than is allowed.

    Label Studio's key goes where Label Studio serves images, and nowhere else. Other image files on
    its host are asked for without it. Where Label Studio itself redirects to signed cloud storage,
    it may lead to any host with a public address: tasks cannot choose that one.

    Args:
        settings: see `fetch`.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.headers["User-Agent"] = USER_AGENT
        self._settings = settings
        self._is_signed = False
        self._sent: str | None = None
        self.hooks["response"].append(self._limit)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """As requests does; it comes here for every redirect, too.

        Raises:
            UserError: a host that is not allowed, a path of Label Studio by which it serves no
                images, no or a wrong API key, or an answer that is too large.
        """
        url, own = request.url or "", self._settings.label_studio_url
        served = None if own is None else _served(url, own)
        if served is None and not is_allowed(url, self._settings):
            if own is not None and host_of(url) == host_of(own):
                suffix = Path(urlsplit(url).path).suffix.lower()
                if not self._is_signed and suffix not in IMAGE_SUFFIXES:
                    raise UserError(
                        f"{_shown(url)} is a path of Label Studio that images may not come from: "
                        "give tasks an upload, a local file or cloud storage."
                    )
            elif not (self._is_signed and is_public(url)):
                raise UserError(
                    f"{_shown(url)} is on a host that images may not come from: start the backend "
                    f"with --allow-host {urlsplit(url).hostname} if it should be."
                )
        key = self._key(url) if served is not None else None
        if key is not None:
            request.headers["Authorization"] = key
        elif self._sent is not None and request.headers.get("Authorization") == self._sent:
            # Redirected on the same host, requests keeps it.
            del request.headers["Authorization"]
        self._sent = key or self._sent
        self._is_signed = served is not None and bool(re.match(_SIGNING, served))
        return super().send(
            request, **kwargs | {"stream": True, "timeout": (CONNECT_SECONDS, READ_SECONDS)}
        )

    def _key(self, url: str) -> str:
        if not self._settings.api_key:
            raise UserError(
                f"{_shown(url)} needs an API key: start the backend with --api-key, from Account & "
                "Settings in Label Studio."
            )
        token = access_token(self._settings)
        return f"{'Bearer' if resolver.is_jwt_well_formed(token) else 'Token'} {token}"

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
    """Tell whether a URL is of a listed host."""
    return is_listed(host_of(url), settings.allowed_hosts)


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
