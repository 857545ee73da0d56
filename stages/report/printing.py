"""How an estimate is printed: one rule, plain (in sentences, terminals and Markdown) and as HTML.

The mean is given to the second digit of its interval's half width, both with up to six decimals. Where these would not show
the width, it has an exponent, and so has a small mean. A single seed has no interval and three digits.
"""

from collections.abc import Sequence
from html import escape
from math import isfinite

from rectiflow.statistics import Estimate, estimate

DECIMALS, MOST = 6, 10
SMALL = 1e-3  # below it, exponents are shorter than zeros


def parts(value: Estimate) -> tuple[str, str]:
    """The mean, and half of its interval, empty for a single seed."""
    mean, half = value.mean, value.half
    if not isfinite(half):
        return f"{mean:.3g}", ""
    if half == 0:
        return f"{mean:.3g}", "0"
    decimals = max(0, 1 - _exponent(half))
    if decimals <= DECIMALS:
        return f"{mean:.{decimals}f}", f"{half:.{decimals}f}"
    if abs(mean) >= SMALL:
        return f"{mean:.{min(decimals, MOST)}f}", f"{half:.1e}"
    digits = max(1, _exponent(mean) - _exponent(half) + 1) if mean else 1
    return f"{mean:.{digits}e}", f"{half:.1e}"


def _exponent(x: float) -> int:
    return int(f"{x:e}".split("e")[1])


def plain(value: Estimate | None) -> str:
    """`0.286 ± 0.012`; nothing for None."""
    if value is None:
        return ""
    mean, half = parts(value)
    return f"{mean} ± {half}" if half else mean


def html(value: Estimate | None) -> str:
    """The same with the interval in grey."""
    if value is None:
        return ""
    mean, half = parts(value)
    return f'{mean} <span class="half">± {half}</span>' if half else mean


def shown(values: Sequence[float], link: str = "") -> str:
    """The estimate of some values as HTML, behind which lies the value of every seed; nothing where there are none. With a
    `link` it leads to where they come from.
    """
    if not len(values):
        return ""
    said = html(estimate(values))
    if len(values) < 2 and not link:
        return said
    seeds = " ".join(f"{value:.6g}" for value in values)
    start, end = (f'a href="{escape(link)}"', "a") if link else ("span", "span")
    return f'<{start} class="mean" data-seeds="{seeds}">{said}</{end}>'


def difference(a: Sequence[float], b: Sequence[float]) -> str:
    """`a - b`, seed by seed, as HTML."""
    return shown([x - y for x, y in zip(a, b, strict=True)])
