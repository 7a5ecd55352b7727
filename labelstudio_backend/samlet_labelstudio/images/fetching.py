"""The files of tasks' images: fetched as Label Studio serves them, and from nowhere else.

A task can name any URL, and whoever can make tasks must not be able to make this server read what
only it can reach. So only listed hosts are requested, and Label Studio itself, with the API key,
where it serves images.
"""

import base64
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import requests

from samlet.errors import UserError
from samlet_labelstudio.images.guarded_session import GuardedSession, too_large
from samlet_labelstudio.images.urls import (
    display_url,
    is_local_files_path,
    served_path,
    without_sub_path,
)
from samlet_labelstudio.label_studio.sdk_private import local_file, verifies_tls
from samlet_labelstudio.settings import Settings

CLOUD = ("s3://", "gs://", "azure-blob://")


def fetch(url: str, task_id: Any, settings: Settings) -> bytes:
    """Get an image's file.

    Args:
        url: of a task: a data URI, a path by which Label Studio serves images (below a sub-path,
            too), an http(s) URL, or one of S3, Google Cloud Storage or Azure, which Label Studio
            then signs.
        task_id: of the task, which Label Studio needs to know for cloud storage.
        settings: which hosts are allowed, the API key, and how large a file may be.

    Raises:
        UserError: not an address of an image, a host that is not allowed, no or a wrong API key, a
            file that is too large, or no response.
    """
    if url.startswith("data:"):
        content = _from_data_uri(url, settings)
    else:
        content = _download(url, task_id, settings)
    if len(content) > settings.max_image_mb * 1_000_000:
        raise too_large(url, settings)
    return content


def _download(url: str, task_id: Any, settings: Settings) -> bytes:
    try:
        address = _address(url, task_id, settings)
        local = _local_file(address, settings)
        if local is not None:
            return local.read_bytes()
        with GuardedSession(settings) as session:
            response = session.get(address, verify=verifies_tls())
            response.raise_for_status()
            return response.content
    except requests.HTTPError as error:
        status = error.response.status_code
        remedy = "check --api-key" if status in (401, 403) else "check that the image is there"
        raise UserError(
            f"{display_url(url)} was refused with status {status}: {remedy}."
        ) from error
    except UserError:
        raise
    # Malformed URLs raise ValueError.
    except (requests.RequestException, OSError, ValueError) as error:
        raise UserError(
            f"{display_url(url)} cannot be fetched ({type(error).__name__}): check the address, "
            "and that this machine can reach it."
        ) from error


def _address(url: str, task_id: Any, settings: Settings) -> str:
    """Where to request what a task names; what Label Studio serves is below its own address.

    Raises:
        UserError: not an address of an image, or Label Studio's address is needed and not known.
    """
    if url.lower().startswith(("http://", "https://")):
        # As it will be sent: the check must be about the very address that is requested.
        url = requests.Request("GET", url).prepare().url or ""
        public = settings.label_studio_host
        served = public and settings.label_studio_url and served_path(url, public)
        if not served:
            return url
    elif url.startswith(CLOUD):
        served = _signing_path(url, task_id)
    else:
        path, question, query = url.partition("#")[0].partition("?")
        path = path if path.startswith("/") else f"/{path}"
        path = f"/data{path}" if path.startswith("/upload/") else path
        # The sub-path that browsers see Label Studio below need not be the one from here.
        served = without_sub_path(path)
        if served is None:
            raise UserError(
                f"{display_url(url)} is no address of an image: give tasks an upload, an http(s) "
                "URL, cloud storage or a data URI."
            )
        served += question + query
    if settings.label_studio_url is None:
        raise UserError(
            f"{display_url(url)} is served by Label Studio, whose address is not known: start the "
            "backend with --label-studio-url and --api-key."
        )
    return settings.label_studio_url.rstrip("/") + served


def _signing_path(url: str, task_id: Any) -> str:
    """Where Label Studio signs an address in cloud storage."""
    # The number becomes part of a path.
    if not re.fullmatch("[0-9]+", str(task_id)):
        raise UserError(
            f"{display_url(url)} can only be signed for a task of Label Studio: send the task's "
            'number as its "id".'
        )
    encoded = base64.urlsafe_b64encode(url.encode()).decode()
    return f"/tasks/{task_id}/presign/?fileuri={encoded}"


def _local_file(address: str, settings: Settings) -> Path | None:
    """The file on this machine, if the environment says where local files are."""
    own = settings.label_studio_url
    served = None if own is None else served_path(address, own)
    return local_file(served) if served is not None and is_local_files_path(served) else None


def _from_data_uri(url: str, settings: Settings) -> bytes:
    header, comma, body = url.partition(",")
    if not comma:
        raise UserError("The task's data URI holds no data: it needs a comma before the data.")
    # Base64 has four letters for three bytes, percent-encoding three letters for one.
    if len(body) > settings.max_image_mb * 4_000_000:
        raise too_large(header, settings)
    try:
        if header.endswith(";base64"):
            return base64.b64decode(unquote_to_bytes(body), validate=True)
        return unquote_to_bytes(body)
    # binascii.Error, or characters that cannot be encoded.
    except ValueError as error:
        raise UserError(
            "The task's data URI is not valid Base64: encode the image again."
        ) from error
