"""Checks of arguments: each raises ValueError whose message begins with the argument's name and gives its value.

Arguments come by name, `at_least(1, width=width, depth=depth)`; the first that fails is named. NaN fails every check.
"""

import operator
from collections.abc import Collection


def at_least(low: float, **values: float) -> None:
    """Every value is `low` or greater."""
    for name, value in values.items():
        if not value >= low:
            raise ValueError(f"{name}: {value} must be at least {low}")


def positive(**values: float) -> None:
    """Every value is greater than 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}: {value} must be greater than 0")


def inside(interval: str, **values: float) -> None:
    """Every value lies in the interval, which is written as in mathematics: `[0, 1)` holds 0 and not 1."""
    low, high = map(float, interval[1:-1].split(","))
    above = operator.ge if interval[0] == "[" else operator.gt
    below = operator.le if interval[-1] == "]" else operator.lt
    for name, value in values.items():
        if not (above(value, low) and below(value, high)):
            raise ValueError(f"{name}: {value} must lie in {interval}")


def among(choices: Collection[str], **values: str) -> None:
    """Every value is one of the choices, or of a table's names."""
    for name, value in values.items():
        if value not in choices:
            raise ValueError(f"{name}: {value!r} is not one of {', '.join(choices)}")
