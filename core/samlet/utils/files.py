"""Writing files and folders atomically, hashing files, and listing folders."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import xxhash

from samlet.errors import UserError

_ALGORITHMS: dict[str, Callable[[], Any]] = {"sha256": hashlib.sha256, "xxh128": xxhash.xxh128}

TEMPORARY_PREFIX = ".samlet-"
"""Begins the names of temporary files and folders."""

_DISK_FULL_BYTES = 1 << 20
"""With less free space than this, a library that failed to write is taken to have run out of it."""

_IO_ERROR = re.compile(
    r"os error \d+|I/O error|IoError|PytorchStreamWriter|inline_container|iostream|No space left"
)
"""What safetensors, torch and OpenVINO write in their own exceptions instead of an OSError."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path that is renamed to `path` when the block ends without an error.

    The folder is created if necessary. On an error the temporary file is removed and `path` is left
    as it was. The suffix is kept, since many writers choose their format by it. A symbolic link
    stays one: the file that it points to is replaced. When the block has ended, the file is safe
    against a power failure.

    Raises:
        UserError: the folder or file cannot be written.
    """
    target = Path(os.path.realpath(path))
    suffix = target.suffix if len(target.suffix) <= 16 else ""
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{suffix}")
    try:
        with explain_write_errors(path, target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            # With the permissions that the umask gives every new file.
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            permissions = stat.S_IMODE(temporary.stat().st_mode)
            yield temporary
            # Some writers, such as safetensors, put a file for the owner alone in its place.
            temporary.chmod(permissions)
            with suppress(FileNotFoundError):
                shutil.copymode(target, temporary)
            replace_durably(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """As `atomic_path`, for a folder of files; an existing folder is replaced as a whole.

    Raises:
        UserError: the folder cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        with explain_write_errors(path, target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            yield temporary
            for file in temporary.iterdir():
                _sync_file(file)
            _sync_folder(temporary)
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
            _sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_durably(temporary: Path, target: Path) -> None:
    """Rename a finished file so that a power failure leaves either the old file or the new one.

    Raises:
        OSError: it cannot be renamed.
    """
    _sync_file(temporary)
    temporary.replace(target)
    _sync_folder(target.parent)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, without reading it into memory as a whole.

    Args:
        path: an existing file of any size.

    Raises:
        OSError: the file cannot be read.
    """
    return checksum_of(path, "sha256").partition(":")[2]


def checksum_of(path: str | Path, algorithm: str) -> str:
    """Return "ALGORITHM:HEXADECIMAL" of a file, without reading it into memory as a whole.

    Args:
        path: an existing file of any size.
        algorithm: sha256 or xxh128. The latter detects damage, but not forgery.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, _ALGORITHMS[algorithm])
    return f"{algorithm}:{digest.hexdigest()}"


@contextmanager
def explain_write_errors(path: str | Path, folder: Path) -> Iterator[None]:
    """Turn exceptions that mean that `path` cannot be written into a UserError.

    Args:
        path: the file or folder that the block writes.
        folder: an existing folder on the same disk.

    Raises:
        UserError: in place of such an exception of any library; other exceptions are passed on.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = _reason(error, folder)
        if reason is None:
            raise
        is_folder = reason == os.strerror(errno.EISDIR)
        remedy = "Name a file" if is_folder else "Choose another folder or free space"
        raise UserError(f"Cannot write {path}: {reason}. {remedy}.") from error


def _reason(error: Exception, folder: Path) -> str | None:
    # Libraries that write to a file object raise their own exception in place of the OSError.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__context__
    if _free_bytes(folder) < _DISK_FULL_BYTES:
        return os.strerror(errno.ENOSPC)
    return str(error) if isinstance(error, OSError) or _IO_ERROR.search(str(error)) else None


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return float("inf")


def walk_files(
    folder: Path, exclude: str | None = None, folders_as_files: tuple[str, ...] = ()
) -> Iterator[Path]:
    """All files below a folder. Links to folders are followed, and each folder is listed once.

    Args:
        folder: the folder to search; hidden files and folders are skipped.
        exclude: real path of a folder that is skipped, unless it is `folder` itself.
        folders_as_files: suffixes of folders that are listed as files are, in lower case.

    Raises:
        UserError: a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise UserError(
            f"{error.filename} cannot be listed ({error.strerror}): check its permissions."
        ) from error

    seen: set[str] = set()
    for where, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(where)
        if real in seen or (real == exclude and where != str(folder)):
            folders.clear()
            continue
        seen.add(real)
        as_files = [name for name in folders if name.lower().endswith(folders_as_files)]
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in as_files
        )
        yield from (Path(where, name) for name in files + as_files if not name.startswith("."))


def _sync_file(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    # Without this a power failure can undo a rename. Windows has no such call, and some network
    # file systems refuse it.
    if os.name == "nt":
        return
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
