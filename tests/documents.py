"""The documents of the project, and the blocks of code in them."""

import re
from typing import NamedTuple

from imports import ROOT

FENCE = re.compile(r"^( *)(`{3,})(\w*)(.*)$")


class Block(NamedTuple):
    """A fenced block: the document and the line that it begins after, the kind that it says it is of, its text."""

    document: str
    line: int
    kind: str
    text: str


def documents() -> list[str]:
    """README, CONTRIBUTING and every page."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    return ["README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in pages)]


def blocks(document: str, text: str | None = None) -> list[Block]:
    """All blocks of a document in order. Raises ValueError for one that does not end, or says no kind."""
    found: list[Block] = []
    opened: tuple[int, str, str, str] | None = None
    kept: list[str] = []
    for number, line in enumerate((text or (ROOT / document).read_text()).splitlines(), 1):
        fence = FENCE.match(line)
        if opened is None:
            if fence is None:
                continue
            indent, ticks, kind, rest = fence.groups()
            if not kind or rest.strip():
                raise ValueError(f"{document}:{number}: {line.strip()}: a block says of what kind it is, and no more")
            opened, kept = (number, indent, ticks, kind), []
        elif fence and fence[2] == opened[2] and not fence[3]:
            start, indent, _, kind = opened
            found.append(Block(document, start, kind, "".join(f"{part.removeprefix(indent)}\n" for part in kept)))
            opened = None
        else:
            kept.append(line)
    if opened is not None:
        raise ValueError(f"{document}:{opened[0]}: a block does not end")
    return found


def of_kind(document: str, kind: str) -> list[Block]:
    """A document's blocks of a kind."""
    return [block for block in blocks(document) if block.kind == kind]


def lines(document: str) -> list[str]:
    """The commands of a document's console blocks, once each, without comments."""
    parts = (
        re.sub(r"(^|\s)#.*", "", line).strip() for one in of_kind(document, "console") for line in one.text.splitlines()
    )
    return list(dict.fromkeys(filter(None, parts)))


def script(document: str) -> str:
    """A document's Python, one block after the other, each on the lines that it has there."""
    text: list[str] = []
    for block in of_kind(document, "python"):
        text += [""] * (block.line - len(text)) + block.text.splitlines()
    return "\n".join(text) + "\n"
