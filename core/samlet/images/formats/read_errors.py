"""What goes wrong while a file is read, as one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samlet.errors import UserError


@contextmanager
def explain_read_errors(path: Path) -> Iterator[None]:
    """Turn what a decoder raises into a UserError with one sentence.

    Raises:
        UserError: in place of all exceptions but a MemoryError.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path} does not exist: check the path.") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: check its permissions.") from error
    except (UserError, MemoryError):
        raise
    # On damaged files decoders raise nearly anything: OSError, zlib.error, struct.error, KeyError.
    except Exception as error:
        raise UserError(
            f"{path} cannot be decoded ({error}): it is damaged, cut short or unusual; "
            "copy it again, or export it as PNG."
        ) from error
