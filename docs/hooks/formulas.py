"""Formulas, `$...$` and `$$...$$`, become MathML while the pages are built: browsers draw it without a script."""

import re
from html import unescape
from typing import Any

from math_core import LatexError, LatexToMathML
from mkdocs.exceptions import PluginError

# What pymdownx.arithmatex leaves of a formula.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """The page with its formulas. Raises PluginError for one that cannot be read."""
    converter = LatexToMathML(fancy_error=False)

    def formula(found: re.Match[str]) -> str:
        latex = unescape(found[3]).strip()
        try:
            return converter.convert_with_local_state(latex, displaystyle=found[2] == "[")
        except LatexError as error:
            raise PluginError(f"{page.file.src_path}: {latex}: {error}") from error

    return FORMULA.sub(formula, html)
