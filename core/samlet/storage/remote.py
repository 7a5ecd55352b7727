"""Reading, writing and listing by URL, through fsspec; what goes wrong becomes one sentence."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

from samlet.errors import UserError
from samlet.storage.locations import Url

TIMEOUT_S = 30.0
"""Seconds without an answer, or without further data, after which a server is given up."""
ATTEMPTS = 2
"""How often a request is made whose server does not answer."""

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_WEB_PACKAGE = "aiohttp"
_EXTRA = "pip install 'samlet[remote]'"
_REMEDIES = {
    "fsspec": _EXTRA,
    "s3fs": _EXTRA,
    "aiohttp": _EXTRA,
    "gcsfs": "pip install gcsfs",
    "adlfs": "pip install adlfs",
}


def download(url: Url, path: Path) -> None:
    """Copy a file to this machine.

    Raises:
        UserError: there is no such file, it may not be read, or its server does not answer.
    """
    with explain_errors(url, "read"):
        _file_system(url.protocol).get_file(url.text, str(path))


def open_stream(url: Url) -> IO[bytes]:
    """A file's bytes from its start; what goes wrong later is not explained.

    Raises:
        UserError: there is no such file, it may not be read, or its server does not answer.
    """
    with explain_errors(url, "read"):
        return _file_system(url.protocol).open(url.text, "rb")


def upload(path: Path, url: Url) -> None:
    """Copy a file from this machine; nobody sees a part of it.

    Object storage shows a file, or a new version of one, only when its upload has ended.

    Raises:
        UserError: it may not be written there, or the server does not answer.
    """
    with explain_errors(url, "write"):
        _file_system(url.protocol).put_file(str(path), url.text)


def remove(url: Url) -> None:
    """Delete a file; nothing happens if there is none.

    Raises:
        UserError: it may not be deleted, or the server does not answer.
    """
    with explain_errors(url, "write"):
        try:
            _file_system(url.protocol).rm_file(url.text)
        except FileNotFoundError:
            return


def exists(url: Url) -> bool:
    """Whether there is a file.

    Raises:
        UserError: its server does not answer, or not to us.
    """
    with explain_errors(url, "read"):
        try:
            _file_system(url.protocol).info(url.text)
        except FileNotFoundError:
            return False
        return True


def list_files(folder: Url) -> Iterator[Url]:
    """All files below a folder, in no particular order; none if there is no such folder.

    Hidden files, and those in hidden folders, are skipped.

    Raises:
        UserError: its server does not answer, or not to us.
    """
    with explain_errors(folder, "read"):
        system = _file_system(folder.protocol)
        # A bucket that is missing raises FileNotFoundError here, and below is an empty folder.
        system.ls(_bucket(folder), detail=False)
        names = system.find(folder.text)
    for name in names:
        file = folder / _below(name, folder, system)
        if not any(part.startswith(".") for part in file.relative_to(folder).parts):
            yield file


def names_beginning(folder: Url, prefix: str) -> list[str]:
    """The names of the files in a folder, not below it, that begin with `prefix`.

    Raises:
        UserError: its server does not answer, or not to us.
    """
    with explain_errors(folder, "read"):
        system = _file_system(folder.protocol)
        try:
            found = system.find(folder.text, prefix=prefix)
        except FileNotFoundError:
            return []
    names = [_below(name, folder, system) for name in found]
    return [name for name in names if name.startswith(prefix) and "/" not in name]


@contextmanager
def explain_errors(url: Url, doing: str) -> Iterator[None]:
    """Turn what a file system raises into one sentence with the remedy.

    Args:
        url: that is read or written.
        doing: "read" or "write".

    Raises:
        UserError: in place of exceptions that mean that the URL cannot be used.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        sentence = _sentence(url, doing, error)
        if sentence is None:
            raise
        raise UserError(sentence) from error


def _sentence(url: Url, doing: str, error: Exception) -> str | None:
    chain = list(_causes(error))
    names = {kind.__name__ for each in chain for kind in type(each).__mro__}
    if names & _NO_CREDENTIALS:
        return (
            f"{url} cannot be {_past(doing)}: there are no credentials for {url.protocol}:// on "
            "this machine: set them as its command line client has them (docs/scale.md)."
        )
    if any(isinstance(each, TimeoutError) for each in chain) or names & _TIMEOUTS:
        return (
            f"{url} cannot be {_past(doing)}: its server did not answer within {TIMEOUT_S:.0f} "
            "seconds: check the endpoint and the network, and run the same command again."
        )
    if any(isinstance(each, PermissionError) for each in chain) or names & _REFUSED:
        return (
            f"{url} cannot be {_past(doing)}: the server refuses our credentials ({error}): check "
            f"that they are right, and may {doing} there."
        )
    if any(isinstance(each, FileNotFoundError) for each in chain):
        return f"{url} does not exist: check the URL, and the name of the bucket."
    if any(isinstance(each, OSError) for each in chain) or names & _UNREACHABLE:
        return (
            f"{url} cannot be {_past(doing)} ({error}): check the endpoint and the network, and "
            "run the same command again."
        )
    return None


# The exceptions of the clients of s3, gs, az and https, by name, as any may not be installed.
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "DefaultCredentialsError",
    "ClientAuthenticationError",
}
_TIMEOUTS = {
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "FSTimeoutError",
    "ServerTimeoutError",
    "ServiceRequestTimeoutError",
    "ServiceResponseTimeoutError",
}
_REFUSED = {"RefreshError"}
_UNREACHABLE = {
    "EndpointConnectionError",
    "HTTPClientError",
    "ClientError",
    "BotoCoreError",
    "ServiceRequestError",
    "HttpResponseError",
    "HttpError",
}


def _past(doing: str) -> str:
    return "read" if doing == "read" else "written"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _bucket(url: Url) -> str:
    protocol, _, path = url.text.partition("://")
    return url.text if protocol in ("http", "https") else f"{protocol}://{path.partition('/')[0]}"


def _below(name: str, folder: Url, system: Any) -> str:
    """The path below a folder of what a file system has listed, with or without protocol."""
    inside = PurePosixPath(system._strip_protocol(name))
    return inside.relative_to(system._strip_protocol(folder.text)).as_posix()


@cache
def _file_system(protocol: str) -> Any:
    package = _PACKAGES.get(protocol, _WEB_PACKAGE)
    for name in ("fsspec", package):
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"{protocol}:// needs {name}: run `{_REMEDIES[name]}` on every machine that takes "
                "part."
            )
    import fsspec

    # Others write there as well, so listings are not kept.
    return fsspec.filesystem(protocol, use_listings_cache=False, **_options(protocol))


def _options(protocol: str) -> dict[str, Any]:
    """What makes a server that does not answer an error; by default some wait for ever."""
    if protocol == "s3":
        retries = {"max_attempts": 0}
        limits = {"connect_timeout": TIMEOUT_S, "read_timeout": TIMEOUT_S, "retries": retries}
        return {"config_kwargs": limits}
    if protocol == "gs":
        return {"requests_timeout": TIMEOUT_S}
    if protocol in ("az", "abfs"):
        return {"connection_timeout": int(TIMEOUT_S), "read_timeout": int(TIMEOUT_S)}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=TIMEOUT_S)
    return {"client_kwargs": {"timeout": timeout}}
