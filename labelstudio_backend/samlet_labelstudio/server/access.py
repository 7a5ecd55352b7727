"""Who may use the backend: Label Studio, and no web page that an annotator visits.

A page can send requests to every server that its browser can reach, this one on localhost too. It
cannot choose their Origin; nor their Host, unless its own name is made to lead here (DNS
rebinding), and then that name is the Host. Only with the server's consent, which it never gives,
can it send JSON as such.
"""

import hmac
import ipaddress
import re
import socket

from flask import Request

from samlet.errors import UserError
from samlet_labelstudio.hosts import host_of, is_listed
from samlet_labelstudio.settings import Settings

PUBLIC_PATHS = ("/", "/health")
"""Paths that reveal nothing, for whatever monitors the server; / is also the page of browsers."""


class RefusedError(Exception):
    """A request that is refused, and why.

    Attributes:
        status: the HTTP status code.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check(request: Request, settings: Settings) -> None:
    """Check a request, except its body.

    Args:
        request: any.
        settings: the backend's names, and perhaps a user and password.

    Raises:
        RefusedError: the request comes from a web page, through a name that is not the backend's,
            or without the password.
    """
    if request.path in PUBLIC_PATHS and not is_for_browser(request):
        return
    host = host_of(f"{request.scheme}://{request.host}")
    if not (_is_plain(request.host) and (_is_loopback(host) or is_listed(host, settings.names))):
        raise RefusedError(
            403,
            f"The request was sent to {request.host[:100]!r}, which is none of the backend's "
            "names: start it with --name (SAMLET_NAMES) if Label Studio uses that name.",
        )
    origin = request.headers.get("Origin")
    requester = None if origin is None else host_of(origin)
    if requester is not None and requester != host and not is_listed(requester, settings.names):
        raise RefusedError(
            403,
            f"The request is from a web page of {str(origin)[:100]!r}: only Label Studio's server "
            "may send requests.",
        )
    if settings.basic_auth_pass is not None and not _knows_password(request, settings):
        raise RefusedError(
            401,
            "The user or password is missing or wrong: give Label Studio those of the backend, in "
            "the project's settings under Model, and its webhook an Authorization header.",
        )


def is_for_browser(request: Request) -> bool:
    """Whether a request is for the backend's page."""
    return request.path == "/" and "text/html" in request.headers.get("Accept", "")


def check_json(request: Request) -> None:
    """Check that a body is sent as JSON, which a web page cannot do.

    Raises:
        RefusedError: it is not.
    """
    if not request.is_json:
        raise RefusedError(
            415,
            f"The body is sent as {(request.mimetype or 'nothing')[:100]!r}: send it with "
            "Content-Type application/json, as Label Studio does.",
        )


def listening_on(settings: Settings, host: str) -> Settings:
    """The settings of a backend that listens on a host, which is one of its names then.

    Args:
        settings: see there.
        host: name or address to listen on; 0.0.0.0 for all.

    Raises:
        UserError: others can reach it there, and it has no password.
    """
    if settings.basic_auth_pass is None and not _is_this_machine(host):
        raise UserError(
            f"Other machines can reach {host or 'all addresses'}: set BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS, which Label Studio must then give, or listen on 127.0.0.1."
        )
    own = () if host in ("", "0.0.0.0", "::") else (host,)
    return settings.model_copy(update={"names": settings.names + own})


def _is_plain(host: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?", host) is not None


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0]
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_this_machine(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return bool(host) and all(ipaddress.ip_address(at[4][0]).is_loopback for at in found)
    except (OSError, ValueError):
        return False


def _knows_password(request: Request, settings: Settings) -> bool:
    given = request.authorization
    if given is None or given.type != "basic":
        return False
    # Comparing takes as long whether the password is nearly right or not.
    matches = [
        hmac.compare_digest((one or "").encode(), (other or "").encode())
        for one, other in (
            (given.username, settings.basic_auth_user),
            (given.password, settings.basic_auth_pass),
        )
    ]
    return all(matches)
