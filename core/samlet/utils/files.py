"""Writing files and folders so that nobody ever sees half of one, whatever happens meanwhile."""

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from samlet.errors import UserError

TEMPORARY_PREFIX = ".samlet-"
"""How the names of temporary files and folders begin."""

_NO_ROOM = 1 << 20
"""With fewer bytes than this left, a library that failed to write has failed for want of room."""

_SAYS_IO = re.compile(
    r"os error \d+|I/O error|IoError|PytorchStreamWriter|inline_container|iostream|No space left"
)
"""How safetensors, torch and OpenVINO report, in exceptions of their own, what is an OSError."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends without an error.

    The folder is created if needed. On an error the temporary file is removed and `path` is left
    as it was. The suffix is kept, since many writers choose their format by it. A symbolic link
    stays one: the file that it names is replaced. When the block has ended, the file is on the
    disk, also if the power fails the next moment.

    Raises:
        UserError: the folder or file cannot be written.
    """
    target = Path(os.path.realpath(path))
    suffix = target.suffix if len(target.suffix) <= 16 else ""
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{suffix}")
    try:
        with explain_write_errors(path, target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            # The umask decides who may read it, as for every new file.
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            yield temporary
            with suppress(FileNotFoundError):
                shutil.copymode(target, temporary)
            replace_durably(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """The same for a folder of files; an older folder of this name is replaced as a whole.

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
    """Give a finished file its name, in such an order that a power cut leaves the old or the new.

    Raises:
        OSError: it cannot be renamed.
    """
    _sync_file(temporary)
    temporary.replace(target)
    _sync_folder(target.parent)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, reading it piece by piece.

    Args:
        path: an existing file of any size.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def explain_write_errors(path: str | Path, folder: Path) -> Iterator[None]:
    """Say in one sentence that `path` cannot be written, in whatever way a library reports it.

    Args:
        path: what is written.
        folder: the folder whose disk it goes to.

    Raises:
        UserError: in place of the library's exception; others pass as they are.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = _reason(error, folder)
        if reason is None:
            raise
        raise UserError(
            f"Cannot write {path}: {reason}. Choose another folder or free space."
        ) from error


def _reason(error: Exception, folder: Path) -> str | None:
    # Libraries that are handed a file raise their own exception on top of what the disk has told.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__context__
    if _free_bytes(folder) < _NO_ROOM:
        return os.strerror(errno.ENOSPC)
    return str(error) if isinstance(error, OSError) or _SAYS_IO.search(str(error)) else None


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return float("inf")


def walk_files(folder: Path, left_out: str | None = None) -> Iterator[Path]:
    """All files of a folder and those in it, links to folders included, each folder once.

    Args:
        folder: where to look. Hidden files and folders in it are passed over.
        left_out: real path of a folder that is passed over, too, unless it is `folder` itself.

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
        if real in seen or (real == left_out and where != str(folder)):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(where, name) for name in files if not name.startswith("."))


def _sync_file(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    # Without this a rename can be lost, and with it a file whose old version is gone. Windows has
    # no such call, and some network file systems refuse it.
    if os.name == "nt":
        return
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
