"""The pieces of a page that opens offline: the document with its style, sections, figures, tables."""

from collections.abc import Sequence
from html import escape
from string import Template

Section = tuple[str, str]  # the section itself, and the link to it

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2430; max-width: 1280px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #dde1e7; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87rem; }
th, td { padding: .22rem .7rem; text-align: right; border-bottom: 1px solid #eef0f3; white-space: nowrap; }
th { border-bottom: 2px solid #c8ced8; } th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; } figure { margin: 1rem 0; } img { max-width: 100%; } .half { color: #78808c; }
.best { font-weight: 650; }
figcaption, .note { color: #545d6b; font-size: .87rem; }
pre { background: #f5f6f8; padding: 1rem; overflow-x: auto; font-size: .8rem; }
nav a { margin-right: 1rem; }
"""

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style></head><body>
<h1>$heading</h1>
$lead<nav>$contents</nav>
$body
</body></html>
""")


def document(title: str, heading: str, sections: Sequence[Section], lead: str = "", style: str = "") -> str:
    """The whole page; `lead` stands between heading and contents, `style` is added to that of all pages. Texts are HTML
    already.
    """
    bodies, links = zip(*sections, strict=True)
    contents, body = " ".join(links), "\n".join(bodies)
    return PAGE.substitute(title=title, style=STYLE + style, heading=heading, lead=lead, contents=contents, body=body)


def section(name: str, title: str, *parts: str) -> Section:
    """A heading with what stands under it, and the link to it."""
    return f'<h2 id="{name}">{escape(title)}</h2>\n' + "\n".join(parts), f'<a href="#{name}">{escape(title)}</a>'


def figure(source: str, caption: str) -> str:
    return f'<figure><img src="{source}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'


def note(text: str) -> str:
    """Small print; `text` is HTML already."""
    return f'<p class="note">{text}</p>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already, the header is not."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'
