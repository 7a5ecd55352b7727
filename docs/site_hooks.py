"""What the documentation site adds to its Markdown: a page per room, and links into the repository.

MkDocs calls these functions; see `hooks` in mkdocs.yml.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

CORE = Path(__file__).parent.parent / "core" / "samlet"
REFERENCE = Path(__file__).parent / "reference"
SECTION = "Modules"
"""Title of the generated part of the navigation."""

WITHOUT_PAGE = ("cli", "samples", "weights")
_DOCUMENTED = re.compile(r"^::: (\S+)$", re.MULTILINE)
_PARENT_LINK = re.compile(r"(?<=\]\()\.\./[^)#\s]+")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated pages to the navigation."""
    assert config.nav is not None
    pages = [{room: f"modules/{room}.md"} for room in _rooms()]
    for section in config.nav:
        if "API reference" in section:
            section["API reference"].append({SECTION: pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Generate a page per room, with everything that is public in its modules."""
    elsewhere = {
        name: page
        for page in sorted(REFERENCE.glob("*.md"))
        for name in _DOCUMENTED.findall(page.read_text(encoding="utf-8"))
    }
    for room, modules in _rooms().items():
        lines = [f"# samlet.{room}", ""]
        for module, is_package in modules:
            if module in elsewhere and not is_package:
                link = f"[{elsewhere[module].stem}](../reference/{elsewhere[module].name})"
                lines += [f"## {module}", "", f"See the public interface: {link}.", ""]
                continue
            lines += [f"::: {module}", "    options:", "      heading_level: 2"]
            # What a package re-exports is documented where it is defined.
            if is_package:
                lines += ["      members: false"]
            public = [name.rpartition(".") for name in elsewhere]
            hidden = [f"!^{name}$" for parent, _, name in public if parent == module]
            if hidden:
                lines += [f"      filters: {['!^_', *hidden]}"]
            lines += [""]
        files.append(File.generated(config, f"modules/{room}.md", content="\n".join(lines)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point relative links that leave docs/, as GitHub shows them, at the repository."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def in_repository(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[0]))
        return match[0] if path.startswith("docs/") else f"{config.repo_url}/blob/main/{path}"

    return _PARENT_LINK.sub(in_repository, markdown)


def _rooms() -> dict[str, list[tuple[str, bool]]]:
    """Each room's modules by full name, the room itself first, and whether they are packages."""
    rooms = {}
    for room in sorted(CORE.iterdir()):
        if (room / "__init__.py").exists() and room.name not in WITHOUT_PAGE:
            files = sorted(room.rglob("*.py"), key=lambda file: (file.parent, file.stem))
            rooms[room.name] = [_module(file) for file in files]
    return rooms


def _module(file: Path) -> tuple[str, bool]:
    names = file.relative_to(CORE.parent).with_suffix("").parts
    is_package = names[-1] == "__init__"
    return ".".join(names[:-1] if is_package else names), is_package
