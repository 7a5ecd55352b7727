"""Tar shards in the layout of SA-1B: `sa_1.jpg`, `sa_1.json`, `sa_2.jpg`, ..."""

import importlib
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from samlet.errors import UserError
from samlet.images import IMAGE_SUFFIXES
from samlet.storage.locations import PROTOCOLS, READ_ONLY, Url, parse_location
from samlet.storage.remote import explain_errors, open_stream


def is_shard(name: str) -> bool:
    """Whether a path or URL names a tar file."""
    return urlsplit(name).path.lower().endswith(".tar")


def check_shard(name: str) -> str:
    """Return the path or URL of a shard.

    Raises:
        UserError: there is no such file, or it is not a URL that can be read safely.
    """
    if _is_in_object_storage(name):
        parse_location(name)
    elif "://" in name or name.startswith("pipe:"):
        # webdataset fetches addresses with curl in a shell, and runs what follows "pipe:".
        if not re.fullmatch(r"https?://[\w.:/%?=&~+,@-]+", name):
            raise UserError(
                f"{name} is not a URL that can be read: give a path, https://, or that of object "
                "storage (s3://, gs://, az://)."
            )
    elif not Path(name).is_file():
        raise UserError(f"There is no shard {name}; check the path.")
    return name


def _is_in_object_storage(name: str) -> bool:
    protocol = name.partition("://")[0]
    return protocol in PROTOCOLS and protocol not in READ_ONLY


def shard_name(shard: str) -> str:
    """The file name of a path or URL."""
    return Path(urlsplit(shard).path).name


def count_images(shard: str) -> int:
    """The number of images in a local tar file.

    Raises:
        UserError: the shard cannot be read.
    """
    with _read_errors(shard), tarfile.open(shard) as tar:
        return sum(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in tar.getnames())


def read_shard(shard: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The images of one tar file, as a stream; nothing is unpacked to disk.

    Yields:
        a key and a function that gives the file's bytes.

    Raises:
        UserError: the shard cannot be read, or ends in the middle.
    """
    import webdataset

    if _is_in_object_storage(shard):
        url = Url(shard)
        # By default it runs gsutil, and knows no s3:// and az://.
        schemes = importlib.import_module("webdataset.gopen").gopen_schemes
        schemes[url.protocol] = lambda name, *options, **more: open_stream(Url(name))
    with _read_errors(shard):
        stream = webdataset.WebDataset([shard], shardshuffle=False, empty_check=False)
        for sample in stream:
            for suffix in IMAGE_SUFFIXES:
                content = sample.get(suffix[1:])
                if content is not None:
                    key = f"{shard_name(shard)}/{sample['__key__']}{suffix}"
                    yield key, partial(bytes, content)
                    break


@contextmanager
def _read_errors(shard: str) -> Iterator[None]:
    """Turn what a broken shard raises into one sentence."""
    try:
        with explain_errors(Url(shard), "read") if "://" in shard else nullcontext():
            yield
    except UserError:
        raise
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        raise UserError(
            f"The shard {shard} cannot be read ({error}): fetch it again, or take it out of the "
            "list."
        ) from error
