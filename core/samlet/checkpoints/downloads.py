"""Published checkpoints: downloaded once, verified, and kept in the user's cache folder.

A file gets its final name only after its checksum was verified; until then it is a `.part`.

The transfer is our own, on `requests`: pooch starts an interrupted download again from the first
byte, and huggingface_hub resumes only what lies on its own hub; the largest file has 2.6 GB.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from rich.progress import DownloadColumn, TaskID, TransferSpeedColumn
from rich.progress import Progress as ProgressBar

from samlet.checkpoints.mirror import mirror
from samlet.checkpoints.remote_file import RemoteFile, is_verified, record_verification
from samlet.errors import UserError
from samlet.utils.cache_folder import cache_dir
from samlet.utils.files import replace_durably

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
RETRY_PAUSES = (1.0, 2.0, 4.0)
"""Seconds to wait before each further attempt."""
CHUNK_BYTES = 1 << 16
"""Read at once, and so the most that an interruption can lose."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here, and those of the whole file; None if not known."""


def fetch(
    remote: RemoteFile, folder: Path | None = None, on_progress: Progress | None = None
) -> Path:
    """Return the path of `remote` on this machine, downloading it if it is not there yet.

    Safe to call from several processes at once: one downloads, the others wait for it. Interrupted
    at any moment, the next call resumes. With a mirror (see `samlet.checkpoints.mirror`), nothing
    is fetched from anywhere else.

    Args:
        remote: what to download, for example `MODELS["mobile_sam"].weights` of the registry.
        folder: where to keep it; `cache_dir()` if None.
        on_progress: called while it downloads, instead of drawing a bar in the terminal; what it
            raises ends the download.

    Raises:
        UserError: no connection, a response that is not the file, a wrong checksum, or a folder
            that cannot be written.
    """
    folder = folder or cache_dir()
    path = folder / remote.filename
    source = mirror()
    try:
        # Checked before anything is written, so that a read-only cache works.
        if is_verified(path, remote, folder):
            return path
        if isinstance(source, Path):
            return _take_from_folder(remote, source, folder)
        if source is not None:
            remote = replace(remote, url=f"{source}/{remote.filename}")
        folder.mkdir(parents=True, exist_ok=True)
        with _exclusive(path.with_name(f"{path.name}.lock"), remote.name):
            # Another process may have finished it while this one waited.
            if not is_verified(path, remote, folder):
                _download(remote, path, on_progress)
    except OSError as error:
        raise UserError(
            f"Cannot keep {remote.name} in {folder} ({error.strerror or error}): free space there, "
            "or set SAMLET_CACHE to a folder that can be written."
        ) from error
    return path


def find_local(remote: RemoteFile) -> Path | None:
    """The file in the cache folder or in a folder that is the mirror; None if it is in neither.

    Its content is verified only by `fetch`.

    Raises:
        UserError: see `samlet.checkpoints.mirror.mirror`.
    """
    source = mirror()
    folders = [cache_dir(), *([source] if isinstance(source, Path) else [])]
    return next((f / remote.filename for f in folders if (f / remote.filename).is_file()), None)


def _take_from_folder(remote: RemoteFile, source: Path, folder: Path) -> Path:
    path = source / remote.filename
    remedy = f"save {remote.url} there under this name ({remote.checksum})"
    if not path.is_file():
        raise UserError(f"{source} (SAMLET_MODELS) has no {remote.filename}: {remedy}.")
    try:
        is_intact = is_verified(path, remote, folder)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): check it.") from error
    if not is_intact:
        raise UserError(f"{path} is not the expected {remote.name} (wrong checksum): {remedy}.")
    return path


def _download(remote: RemoteFile, path: Path, on_progress: Progress | None) -> None:
    if path.exists():
        _print_status(
            f"{path} is not the expected {remote.name} (wrong checksum): it will be replaced."
        )
    part = path.with_name(f"{path.name}.part")
    for pause in (*RETRY_PAUSES, None):
        try:
            _resume_download(remote, part, path, on_progress)
            break
        except requests.RequestException as error:
            reason, kept = _describe(error, remote), _size(part)
            # Nothing received at all is not an interruption, and trying again would not help.
            if not kept:
                raise _download_error(remote, path, reason) from error
            if pause is None:
                resumable = f"{decimal(kept)} are kept and the next run resumes there"
                raise _download_error(remote, path, f"{reason}, but {resumable}") from error
            _print_status(f"{remote.name}: {reason}; trying again.")
            time.sleep(pause)
    found = remote.checksum_of(part)
    if found != remote.checksum:
        part.unlink()
        raise _download_error(
            remote, path, f"the server sent another file ({found}), which was not kept"
        )
    replace_durably(part, path)
    record_verification(path, remote, path.parent)


def _resume_download(
    remote: RemoteFile, part: Path, path: Path, on_progress: Progress | None
) -> None:
    """Download what is missing at the end of `part`.

    Raises:
        requests.RequestException: the connection failed or was cut; `part` keeps what arrived.
        UserError: the server's response is not the file.
    """
    start = _size(part)
    with _request(remote.url, start) as response:
        status = response.status_code
        if start and status == 416 and remote.checksum_of(part) == remote.checksum:
            return
        continues = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if start and (status == 416 or (status == 206 and not continues)):
            part.unlink()
            _resume_download(remote, part, path, on_progress)
            return
        if status not in (200, 206):
            raise _download_error(remote, path, f"the server answered {status} {response.reason}")
        # Checked, like the size, before `part` is touched: the login page of a hotel's network must
        # not replace gigabytes that have been downloaded.
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _download_error(remote, path, "the server sent a web page")
        start = start if status == 206 else 0
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else remote.size
        if remote.size is not None and total != remote.size:
            raise _download_error(
                remote, path, f"the file there has {total} bytes, not {remote.size}"
            )
        _write(response, part, start, total, remote, on_progress)
        # urllib3 before 2.0 takes a cut connection for the end of the file.
        if total is not None and _size(part) < total:
            raise requests.ConnectionError("the server stopped early")


def _request(url: str, start: int) -> requests.Response:
    # Compressed bytes could be neither counted nor resumed.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    timeout = (CONNECT_SECONDS, READ_SECONDS)
    try:
        return requests.get(url, headers=headers, stream=True, timeout=timeout)
    except requests.RequestException:
        raise
    except OSError as error:
        # How requests says that REQUESTS_CA_BUNDLE names no file.
        raise requests.exceptions.SSLError(str(error)) from error


def _write(
    response: requests.Response,
    part: Path,
    start: int,
    total: int | None,
    remote: RemoteFile,
    on_progress: Progress | None,
) -> None:
    size = "unknown size" if total is None else decimal(total)
    size += f", resuming after {decimal(start)}" if start else ""
    _print_status(f"Downloading {remote.name} ({size}) from {remote.url}")
    with _progress_bar(remote.name) as draw, part.open("ab" if start else "wb") as file:
        report, received = on_progress or draw, start
        report(received, total)
        for chunk in response.iter_content(CHUNK_BYTES):
            file.write(chunk)
            # So that a kill loses nothing that was received.
            file.flush()
            received += len(chunk)
            report(received, total)


@contextmanager
def _progress_bar(name: str) -> Iterator[Progress]:
    """A bar in the terminal, which is drawn once something is reported."""
    console = Console(stderr=True)
    columns = (*ProgressBar.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with ProgressBar(*columns, console=console, disable=not console.is_terminal) as bar:
        task: list[TaskID] = []

        def draw(received: int, total: int | None) -> None:
            if not task:
                task.append(bar.add_task(name, total=total, completed=received))
            bar.update(task[0], completed=received)

        yield draw


def _describe(error: requests.RequestException, remote: RemoteFile) -> str:
    host = urlsplit(remote.url).hostname
    match error:
        case requests.exceptions.SSLError():
            remedy = "behind a company's proxy, set REQUESTS_CA_BUNDLE to its certificate file"
            return f"the certificate of {host} cannot be verified ({remedy})"
        case requests.exceptions.ProxyError():
            return "the proxy named in HTTPS_PROXY or HTTP_PROXY does not answer"
        case requests.Timeout():
            return f"{host} does not answer"
        case requests.ConnectionError() | requests.exceptions.ChunkedEncodingError():
            return f"the connection to {host} failed"
        case _:
            return "its address does not lead to a file on an http or https server"


def _download_error(remote: RemoteFile, path: Path, reason: str) -> UserError:
    return UserError(
        f"Cannot download {remote.name}: {reason}; to do it by hand, save {remote.url} "
        f"({remote.checksum}) as {path.absolute()}, or pass the path of a checkpoint file instead "
        "of a name."
    )


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _print_status(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _exclusive(lock_path: Path, name: str) -> Iterator[None]:
    """Hold a lock against other processes, waiting for it if need be.

    The operating system releases it when its process ends, however that ends.
    """
    lock = FileLock(lock_path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        _print_status(f"Another process is downloading {name}: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
