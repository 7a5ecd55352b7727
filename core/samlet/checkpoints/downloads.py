"""Official checkpoints: downloaded once, verified, and kept in the user's cache folder.

A file gets its final name only after its SHA-256 was verified; until then it is a `.part`.

The transfer is our own, on `requests`: pooch starts an interrupted download again from the first
byte, and huggingface_hub resumes only what lies on its own hub; the largest file has 2.6 GB.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from samlet.errors import UserError
from samlet.utils.cache_folder import cache_dir
from samlet.utils.files import replace_durably, sha256_of

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
RETRY_PAUSES = (1.0, 2.0, 4.0)
"""Seconds to wait before each further attempt."""
CHUNK_BYTES = 1 << 16
"""Read at once, and so the most that an interruption can lose."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web whose content is known in advance.

    Attributes:
        name: what users call it.
        url: its address, http or https.
        filename: its name in the cache folder.
        sha256: of its content, in hexadecimal.
        size: bytes; None if not known.
    """

    name: str
    url: str
    filename: str
    sha256: str
    size: int | None


_SAM = "https://dl.fbaipublicfiles.com/segment_anything"
_MOBILE_SAM = "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights"
_OFFICIAL = (
    ("mobile_sam", f"{_MOBILE_SAM}/mobile_sam.pt", 40_728_226),
    ("sam_vit_b", f"{_SAM}/sam_vit_b_01ec64.pth", 375_042_383),
    ("sam_vit_l", f"{_SAM}/sam_vit_l_0b3195.pth", 1_249_524_607),
    ("sam_vit_h", f"{_SAM}/sam_vit_h_4b8939.pth", 2_564_550_879),
)
_SHA256 = {
    "mobile_sam": "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    "sam_vit_b": "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    "sam_vit_l": "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    "sam_vit_h": "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
}
REMOTE_FILES: dict[str, RemoteFile] = {
    name: RemoteFile(name, url, url.rpartition("/")[2], _SHA256[name], size)
    for name, url, size in _OFFICIAL
}


def fetch(remote: RemoteFile, folder: Path | None = None) -> Path:
    """Return the path of `remote` on this machine, downloading it if it is not there yet.

    Safe to call from several processes at once: one downloads, the others wait for it. Interrupted
    at any moment, the next call resumes.

    Args:
        remote: what to download, for example `REMOTE_FILES["mobile_sam"]`.
        folder: where to keep it; `cache_dir()` if None.

    Raises:
        UserError: no connection, a response that is not the file, a wrong SHA-256, or a folder
            that cannot be written.
    """
    folder = folder or cache_dir()
    path = folder / remote.filename
    try:
        # Checked before anything is written, so that a read-only cache works.
        if not _is_verified(path, remote):
            folder.mkdir(parents=True, exist_ok=True)
            with _exclusive(path.with_name(f"{path.name}.lock"), remote.name):
                # Another process may have finished it while this one waited.
                if not _is_verified(path, remote):
                    _download(remote, path)
    except OSError as error:
        raise UserError(
            f"Cannot keep {remote.name} in {folder} ({error.strerror or error}): free space there, "
            "or set SAMLET_CACHE to a folder that can be written."
        ) from error
    return path


def _is_verified(path: Path, remote: RemoteFile) -> bool:
    """Whether `path` holds the content of `remote`.

    Hashing takes seconds per gigabyte, so a `.verified` file beside it records for which size and
    modification time it was done. A file that was put there by hand is hashed once.
    """
    if not path.is_file():
        return False
    record, content = _verification_record(path, remote)
    with suppress(OSError):
        if record.read_bytes() == content:
            return True
    if sha256_of(path) != remote.sha256:
        return False
    _record_verification(path, remote)
    return True


def _verification_record(path: Path, remote: RemoteFile) -> tuple[Path, bytes]:
    stat = path.stat()
    content = f"{remote.sha256} {stat.st_size} {stat.st_mtime_ns}".encode()
    return path.with_name(f"{path.name}.verified"), content


def _record_verification(path: Path, remote: RemoteFile) -> None:
    record, content = _verification_record(path, remote)
    # In a read-only cache the file is only hashed again next time.
    with suppress(OSError):
        record.write_bytes(content)


def _download(remote: RemoteFile, path: Path) -> None:
    if path.exists():
        _print_status(
            f"{path} is not the expected {remote.name} (wrong SHA-256): it will be replaced."
        )
    part = path.with_name(f"{path.name}.part")
    for pause in (*RETRY_PAUSES, None):
        try:
            _resume_download(remote, part, path)
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
    found = sha256_of(part)
    if found != remote.sha256:
        part.unlink()
        sums = f"SHA-256 {found} instead of {remote.sha256}"
        raise _download_error(
            remote, path, f"the server sent another file ({sums}), which was not kept"
        )
    replace_durably(part, path)
    _record_verification(path, remote)


def _resume_download(remote: RemoteFile, part: Path, path: Path) -> None:
    """Download what is missing at the end of `part`.

    Raises:
        requests.RequestException: the connection failed or was cut; `part` keeps what arrived.
        UserError: the server's response is not the file.
    """
    start = _size(part)
    with _request(remote.url, start) as response:
        status = response.status_code
        if start and status == 416 and sha256_of(part) == remote.sha256:
            return
        continues = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if start and (status == 416 or (status == 206 and not continues)):
            part.unlink()
            _resume_download(remote, part, path)
            return
        if status not in (200, 206):
            raise _download_error(remote, path, f"the server answered {status} {response.reason}")
        start = start if status == 206 else 0
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else remote.size
        # Checked before `part` is touched: the login page of a hotel's network must not replace
        # gigabytes that have been downloaded.
        if remote.size is not None and total != remote.size:
            raise _download_error(
                remote, path, f"the file there has {total} bytes, not {remote.size}"
            )
        _write(response, part, start, total, remote)
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
    response: requests.Response, part: Path, start: int, total: int | None, remote: RemoteFile
) -> None:
    size = "unknown size" if total is None else decimal(total)
    size += f", resuming after {decimal(start)}" if start else ""
    _print_status(f"Downloading {remote.name} ({size}) from {remote.url}")
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    with progress, part.open("ab" if start else "wb") as file:
        task = progress.add_task(remote.name, total=total, completed=start)
        for chunk in response.iter_content(CHUNK_BYTES):
            file.write(chunk)
            # So that a kill loses nothing that was received.
            file.flush()
            progress.update(task, advance=len(chunk))


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
        f"Cannot download {remote.name}: {reason}; to do it by hand, save {remote.url} as "
        f"{path.absolute()}, or pass the path of a checkpoint file instead of a name."
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
