"""A published file, and whether a file on this machine holds its content."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from samlet.utils.files import checksum_of


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web whose content is known in advance.

    Attributes:
        name: what users call it.
        url: its address, http or https.
        filename: its name in the cache folder.
        checksum: of its content, "sha256:HEXADECIMAL" or "xxh128:HEXADECIMAL".
        size: bytes; None if not known.
    """

    name: str
    url: str
    filename: str
    checksum: str
    size: int | None

    def checksum_of(self, path: Path) -> str:
        """The checksum of another file, by the same algorithm."""
        return checksum_of(path, self.checksum.partition(":")[0])


def is_verified(path: Path, remote: RemoteFile, folder: Path) -> bool:
    """Whether a file holds the content of `remote`.

    Hashing takes seconds per gigabyte, so a `.verified` file records for which size and
    modification time it was done. A file that was put there by hand is hashed once.

    Args:
        path: the file; it need not exist.
        remote: what it should be.
        folder: of the record.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.is_file():
        return False
    record, content = _verification_record(path, remote, folder)
    with suppress(OSError):
        if record.read_bytes() == content:
            return True
    if remote.checksum_of(path) != remote.checksum:
        return False
    record_verification(path, remote, folder)
    return True


def _verification_record(path: Path, remote: RemoteFile, folder: Path) -> tuple[Path, bytes]:
    stat = path.stat()
    content = f"{remote.checksum} {stat.st_size} {stat.st_mtime_ns}".encode()
    return folder / f"{path.name}.verified", content


def record_verification(path: Path, remote: RemoteFile, folder: Path) -> None:
    """Record in `folder` that `path` holds the content of `remote`."""
    record, content = _verification_record(path, remote, folder)
    # In a read-only cache the file is only hashed again next time.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        record.write_bytes(content)
