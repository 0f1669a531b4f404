"""The pages of the documentation, and the blocks of code in them."""

import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
# A fence with its word, its lines, and its end.
_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Block:
    """Code on a page.

    Attributes:
        word: what its fence says it is.
        text: its lines.
        line: the number of its first line on the page, from 1.
    """

    word: str
    text: str
    line: int

    @property
    def lines(self):
        """The lines, without empty ones."""
        return [line for line in self.text.splitlines() if line.strip()]


def blocks(text):
    """The blocks of a page's text, in order."""
    found = _FENCE.finditer(text)
    return [Block(match[1], match[2], text.count("\n", 0, match.start(2)) + 1) for match in found]


def prose(text):
    """A page's text without its blocks."""
    return _FENCE.sub("", text)
