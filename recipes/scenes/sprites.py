"""Pictures of rendered objects with clean alpha: npm's `@lobehub/fluent-emoji-3d` (MIT).

    python -m recipes.scenes.sprites data/sprites

downloads the package (16 MB), checks it, and unpacks its 3,391 pictures of 256 x 256 pixels.
The licence stands in its package.json and README. The pictures are Microsoft's Fluent Emoji, MIT as
well.
"""

import base64
import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, overload

import numpy as np
import requests
import typer
from PIL import Image

from samlet.errors import UserError
from samlet.utils.console import run_app
from samlet.utils.files import atomic_folder

URL = "https://registry.npmjs.org/@lobehub/fluent-emoji-3d/-/fluent-emoji-3d-1.1.0.tgz"
INTEGRITY = (
    "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKo"
    "ehDHXuVJ2Qaecgl5wRBv60lUAG3h7g=="
)
"""As npm publishes it: base64 of the SHA-512 of the package."""
MAX_PICTURE_BYTES = 1_000_000
TIMEOUT_SECONDS = 60

app = typer.Typer(add_completion=False)


class Sprites(Sequence[np.ndarray]):
    """The pictures of a folder, read when they are needed.

    Args:
        folder: holds .webp files, as `unpack` writes them.

    Raises:
        UserError: there are none.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.webp"))
        if not self.paths:
            raise UserError(
                f"{folder} holds no .webp pictures: run `python -m recipes.scenes.sprites "
                f"{folder}`."
            )

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        """RGBA, uint8, h x w x 4, cropped to what is not transparent."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        with Image.open(self.paths[index]) as image:
            rgba = image.convert("RGBA")
        box = rgba.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox()
        return np.asarray(rgba.crop(box))


def download(url: str = URL) -> bytes:
    """The package, not yet checked.

    Raises:
        UserError: it cannot be reached.
    """
    try:
        response = requests.get(url, timeout=TIMEOUT_SECONDS)
        response.raise_for_status()
    except requests.RequestException as error:
        raise UserError(
            f"Cannot download {url} ({type(error).__name__}): download it by hand and give it as "
            "--package."
        ) from error
    return response.content


def verify(package: bytes, integrity: str = INTEGRITY) -> None:
    """Compare with npm's checksum.

    Raises:
        UserError: it is another file.
    """
    found = f"sha512-{base64.b64encode(hashlib.sha512(package).digest()).decode()}"
    if found != integrity:
        raise UserError(
            f"The package has checksum {found[:23]}... instead of {integrity[:23]}...: it is not "
            f"the file at {URL}, or was not downloaded completely."
        )


def unpack(package: bytes, folder: Path) -> int:
    """Write the package's pictures into a folder, which is replaced.

    Args:
        package: a gzipped tar archive.
        folder: gets the .webp files, without subfolders.

    Returns:
        The number of pictures.

    Raises:
        UserError: the package has a name that leads out of it, a link, or no pictures, or cannot be
            read, or the folder cannot be written.
    """
    pictures: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if (
                    path.is_absolute()
                    or ".." in path.parts
                    or not (member.isreg() or member.isdir())
                ):
                    raise UserError(f"The package is refused: its entry {member.name!r} is unsafe.")
                file = archive.extractfile(member) if path.suffix == ".webp" else None
                if file is None:
                    continue
                if member.size > MAX_PICTURE_BYTES or path.name in pictures:
                    raise UserError(
                        f"The package is refused: {member.name!r} is too large or there twice."
                    )
                pictures[path.name] = file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"The package is not a readable .tgz file ({error}).") from error
    if not pictures:
        raise UserError("The package holds no .webp pictures.")
    with atomic_folder(folder) as temporary:
        for name, content in pictures.items():
            (temporary / name).write_bytes(content)
    return len(pictures)


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="Where the pictures go; replaced if it exists.")],
    package: Annotated[
        Path | None, typer.Option(help="The .tgz file, if it was downloaded by hand.")
    ] = None,
) -> None:
    """Download, check and unpack the pictures of rendered objects."""
    if folder.exists() and any(path.suffix != ".webp" for path in folder.iterdir()):
        raise UserError(f"{folder} holds other files, which would be lost: choose a new folder.")
    if package is not None and not package.is_file():
        raise UserError(f"{package} is not a file.")
    content = download() if package is None else package.read_bytes()
    verify(content)
    print(f"{unpack(content, folder)} pictures are in {folder}")


if __name__ == "__main__":
    run_app(app)
