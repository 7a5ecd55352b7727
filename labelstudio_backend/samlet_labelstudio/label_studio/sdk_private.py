"""What is used of label_studio_sdk that it does not promise to keep, all in one place.

`pyproject.toml` has an upper bound for it, and `tests/labelstudio/test_dependencies.py` fails when
something moves.
"""

from pathlib import Path

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk._extensions.label_studio_tools.core.utils import io as _io


def access_token(client: LabelStudio) -> str:
    """What requests are signed with; a personal access token is exchanged for it."""
    return str(client._client_wrapper._tokens_client.api_key)


def authorization_header(token: str) -> str:
    """The value of the header Authorization: an access token is a JWT, a legacy token is not."""
    return f"{'Bearer' if _io.is_jwt_well_formed(token) else 'Token'} {token}"


def upload(client: LabelStudio, project: int, path: Path) -> httpx.Response:
    """Upload a file to a project as a web page does; the SDK has no method for that.

    Args:
        client: of the Label Studio.
        project: its number.
        path: the file.
    """
    with path.open("rb") as file:
        return client._client_wrapper.httpx_client.request(
            f"api/projects/{project}/import", method="POST", files={"file": (path.name, file)}
        )


def local_file(served_path: str) -> Path | None:
    """The file on this machine that Label Studio serves as a local file; None if it is not here.

    Args:
        served_path: path and query: "/data/local-files/?d=folder/name.png".
    """
    path = _io.resolve_local_storage_file(served_path)
    return Path(path) if path and Path(path).exists() else None


def verifies_tls() -> bool:
    """Whether certificates are checked, as Label Studio's own tools decide it (VERIFY_SSL)."""
    return bool(_io.VERIFY_SSL)
