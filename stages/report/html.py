"""The pieces of a page that opens offline: the document with its style and scripts, sections that fold, figures, tables."""

from collections.abc import Sequence
from html import escape
from string import Template
from typing import NamedTuple

from stages.report.browser import folding, tables
from stages.report.browser.style import STYLE

OPEN = 2  # sections that are not folded at first

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style></head><body data-seeds="$seeds">
<h1>$heading</h1>
$lead<nav aria-label="contents"><ol>$contents</ol>
<p><button type="button" class="unfold">open all</button> <button type="button" class="fold">fold all</button></p></nav>
<div class="tools" role="search" hidden><label>rows of all tables with <input type="search"
placeholder="every word must be there"></label> <output aria-live="polite"></output></div>
<main>
$body
</main>
<script>"use strict";
$script</script>
</body></html>
""")


class Section(NamedTuple):
    """What stands under a title; the name is that of the link to it. The body is HTML already."""

    name: str
    title: str
    body: str

    def html(self, unfolded: bool) -> str:
        """The section, open or folded."""
        start = f'<details class="section" id="{self.name}"' + " open" * unfolded
        return f"{start}><summary><h2>{escape(self.title)}</h2></summary>\n{self.body}\n</details>"

    @property
    def link(self) -> str:
        """The entry of the contents."""
        return f'<li><a href="#{self.name}">{escape(self.title)}</a></li>'


def document(
    title: str,
    heading: str,
    sections: Sequence[Section],
    lead: str = "",
    style: str = "",
    scripts: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> str:
    """The whole page; `lead` stands between heading and contents, `style` and `scripts` are added to those of all pages, and
    `seeds` are those whose values lie behind the means. Texts are HTML already.
    """
    return PAGE.substitute(
        title=title, style=STYLE + style, heading=heading, lead=lead, seeds=" ".join(map(str, seeds)),
        contents="".join(of.link for of in sections), script="".join((tables.SCRIPT, *scripts, folding.SCRIPT)),
        body="\n".join(of.html(k < OPEN) for k, of in enumerate(sections)),
    )  # fmt: skip


def section(name: str, title: str, *parts: str) -> Section:
    """A heading with what stands under it."""
    return Section(name, title, "\n".join(parts))


def figure(source: str, caption: str) -> str:
    image = f'<img src="{source}" alt="{escape(caption)}" decoding="async">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def part(title: str, *parts: str, unfolded: bool = False) -> str:
    """What folds within a section."""
    start = '<details class="part"' + " open" * unfolded
    return "\n".join([f"{start}><summary><h3>{escape(title)}</h3></summary>", *parts, "</details>"])


def note(text: str) -> str:
    """Small print; `text` is HTML already."""
    return f'<p class="note">{text}</p>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already, the header is not. What is too wide for the page scrolls by itself."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return wide(f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>", header[0])


def wide(content: str, label: str) -> str:
    """A box that scrolls, by keyboard too."""
    return f'<div class="wide" role="group" tabindex="0" aria-label="{escape(label)}">{content}</div>'
