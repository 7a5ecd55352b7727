"""HTTP that only reaches allowed hosts, whatever address a task names, at every redirect again."""

import ipaddress
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from samlet.errors import UserError
from samlet.images import IMAGE_SUFFIXES
from samlet_labelstudio.hosts import host_of, is_listed
from samlet_labelstudio.images.urls import display_url, is_signing_path, served_path
from samlet_labelstudio.label_studio.client import authorization
from samlet_labelstudio.settings import Settings

CONNECT_SECONDS = 10
READ_SECONDS = 60
CHUNK_BYTES = 1 << 20
USER_AGENT = "Mozilla/5.0 (compatible; samlet)"
"""Some hosts refuse Python libraries by their user agent."""


class GuardedSession(requests.Session):
    """Requests only allowed hosts, and reads no more than is allowed.

    Label Studio's key goes where Label Studio serves images, and nowhere else. Other image files on
    its host are requested without it. Where Label Studio itself redirects to signed cloud storage,
    that may be any host with a public address: tasks cannot choose that one.

    Args:
        settings: which hosts are allowed, the key, and how large a file may be.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.headers["User-Agent"] = USER_AGENT
        self._settings = settings
        self._is_signed = False
        self._sent_key: str | None = None
        self.hooks["response"].append(self._read_limited)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """As requests does; redirects come through here, too.

        Raises:
            UserError: a host that is not allowed, a path of Label Studio by which it serves no
                images, no or a wrong API key, or a response that is too large.
        """
        url, own = request.url or "", self._settings.label_studio_url
        served = None if own is None else served_path(url, own)
        if served is None:
            self._check_host(url)
        key = self._key(url) if served is not None else None
        if key is not None:
            request.headers["Authorization"] = key
        elif self._sent_key is not None and request.headers.get("Authorization") == self._sent_key:
            # requests keeps it when it is redirected on the same host.
            del request.headers["Authorization"]
        self._sent_key = key or self._sent_key
        self._is_signed = served is not None and is_signing_path(served)
        return super().send(
            request, **kwargs | {"stream": True, "timeout": (CONNECT_SECONDS, READ_SECONDS)}
        )

    def _check_host(self, url: str) -> None:
        if is_allowed(url, self._settings):
            return
        own = self._settings.label_studio_url
        if own is not None and host_of(url) == host_of(own):
            suffix = Path(urlsplit(url).path).suffix.lower()
            if not self._is_signed and suffix not in IMAGE_SUFFIXES:
                raise UserError(
                    f"{display_url(url)} is a path of Label Studio that images may not come from: "
                    "give tasks an upload, a local file or cloud storage."
                )
        elif not (self._is_signed and is_public(url)):
            raise UserError(
                f"{display_url(url)} is on a host that images may not come from: start the backend "
                f"with --allow-host {urlsplit(url).hostname} if it should be."
            )

    def _key(self, url: str) -> str:
        if not self._settings.api_key:
            raise UserError(
                f"{display_url(url)} needs an API key: start the backend with --api-key, from "
                "Account & Settings in Label Studio."
            )
        return authorization(self._settings)

    def _read_limited(self, response: requests.Response, **kwargs: Any) -> None:
        """Read what `content` will give, here and in requests itself at a redirect."""
        limit = self._settings.max_image_mb * 1_000_000
        content = bytearray()
        for chunk in response.iter_content(CHUNK_BYTES):
            content += chunk
            if len(content) > limit:
                response.close()
                raise too_large(response.url, self._settings)
        response._content = bytes(content)


def is_allowed(url: str, settings: Settings) -> bool:
    """Tell whether a URL's host is listed."""
    return is_listed(host_of(url), settings.allowed_hosts)


def is_public(url: str) -> bool:
    """Tell whether all addresses of a URL's host are public, none of this machine or network."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
        return all(ipaddress.ip_address(each[4][0]).is_global for each in found)
    except (OSError, ValueError):
        return False


def too_large(url: str, settings: Settings) -> UserError:
    """The error of a file that is larger than allowed."""
    return UserError(
        f"{display_url(url)} has more than {settings.max_image_mb} MB: start the backend with a "
        "higher SAMLET_MAX_IMAGE_MB if that is intended."
    )
