"""Hosts of URLs, as "host:port"."""

from collections.abc import Iterable
from urllib.parse import urlsplit


def host_of(url: str) -> str:
    """The "host:port" of a URL in lower case, with its scheme's port if it names none; or ""."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ""
    return f"{parts.hostname.lower()}:{port}" if parts.hostname else ""


def is_listed(host: str, listed: Iterable[str]) -> bool:
    """Tell whether a "host:port" from `host_of` is in a list, where "host" means any port."""
    known = {each.lower() for each in listed}
    return bool(host) and (host in known or host.rpartition(":")[0] in known)
