"""The guide, read by a test from its first to its last line."""

import re
import shlex

from tests.labelstudio.label_studio import ROOT

GUIDE = ROOT / "docs" / "labelstudio.md"


class Guide:
    """Where in the guide a test is.

    Each step names the line that it performs; a line that is no longer there, or has moved before
    one that was performed already, fails.
    """

    def __init__(self) -> None:
        self._text = GUIDE.read_text(encoding="utf-8")
        self._position = 0

    def says(self, sentence: str) -> None:
        """Go on to a sentence, or a part of one; lines may be broken elsewhere."""
        pattern = r"\s+".join(re.escape(word) for word in sentence.split())
        found = re.compile(pattern).search(self._text, self._position)
        assert found is not None, f"The guide does not say, or not here: {sentence}"
        self._position = found.start()

    def command(self, beginning: str) -> list[str]:
        """Go on to a command, by how its line begins, and give its words."""
        found = re.compile(rf"^{re.escape(beginning)}.*$", re.MULTILINE).search(
            self._text, self._position
        )
        assert found is not None, f"The guide has no such command, or not here: {beginning}"
        self._position = found.end()
        return shlex.split(found[0], comments=True)


def names() -> list[str]:
    """What the guide has in italics: the names that users see, and some words of its own."""
    prose = re.sub(r"```.*?```", "", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", prose)
    return sorted({" ".join(name.split()) for name in found})
