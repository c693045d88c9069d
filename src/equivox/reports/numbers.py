"""How the report writes numbers: the same number reads the same wherever it stands."""

import math
from collections.abc import Mapping
from typing import Any, Final

from equivox.definitions import METRICS, MetricDefinition, MetricKind

MISSING: Final = "–"

_MOST_PLACES: Final = 3

Number = float | int
"""Counts and whole values come as integers from JSON."""


def metric_text(key: str) -> MetricDefinition:
    """Return what is said about a metric; one that is not known is shown under its key, as a fraction."""
    return METRICS.get(key) or MetricDefinition(key, key, "", "", "fraction", "high", "overlap")


def formula(key: str, settings: Mapping[str, Any]) -> str:
    """Return the definition of a metric under the settings: conventions of HD95 differ."""
    if key == "hd95" and settings.get("hd95") in ("pooled", "medpy"):
        return "P₉₅ of the distances d(∂R → ∂P) and d(∂P → ∂R) taken together"
    return metric_text(key).formula


def metric_unit(key: str, settings: Mapping[str, Any]) -> str:
    """Return the unit of a metric as a page writes it, empty for fractions, ratios and counts."""
    kind = metric_text(key).kind
    return unit_text(str(settings[f"{kind}_unit"])) if kind in ("distance", "volume") else ""


def unit_text(unit: str) -> str:
    """Return a unit as a page writes it; a 2D image has an area in place of a volume."""
    return {"mm2": "mm²"}.get(unit, unit)


def size_word(settings: Mapping[str, Any]) -> str:
    """Return what the size of a structure is called."""
    return "area" if settings["volume_unit"] == "mm2" else "volume"


def decimals(kind: MetricKind, value: Number | None, low: Number | None = None, high: Number | None = None) -> int:
    """Return the decimals that the interval supports; without one, those that the size of the value suggests.

    A fraction or ratio has three decimals where its interval is narrower than 0.02, else two. A distance, volume or
    mean count has as many as make the interval's width 2 or more of the last digit and show a digit of the value, from
    none to three.

    Example:
        >>> decimals("fraction", 0.84, 0.80, 0.88), decimals("fraction", 0.842, 0.834, 0.85)
        (2, 3)
        >>> decimals("distance", 4.2, 3.1, 5.9), decimals("volume", 1200.0)
        (1, 0)
        >>> decimals("volume", -0.04, -0.3, 0.2), decimals("volume", -0.14, -0.3, 0.2)
        (2, 1)
    """
    if low is not None and high is not None:
        width = high - low
        if kind in ("fraction", "relative"):
            return 3 if width < 0.02 else 2
        # At least one decimal below 20 units: a whole number would look like a count.
        places = 0 if width >= 20 else 1 if width >= 0.2 else 2 if width >= 0.02 else _MOST_PLACES
        # An end of so wide an interval is not 0 in these decimals, and the value beside it should not be either.
        return shown_places(value, places)
    if kind in ("fraction", "relative") or value is None:
        return 2
    size = abs(value)
    return 0 if size >= 100 else 1 if size >= 10 else 2


def shown_places(value: Number | None, places: int) -> int:
    """Return the decimals, `places` or more, that show a digit of the value; `places` where it would take over three.

    Example:
        >>> shown_places(0.004, 1), shown_places(0.4, 1), shown_places(0.0, 1), shown_places(0.0001, 1)
        (3, 1, 1, 1)
    """
    more = range(places, _MOST_PLACES + 1)
    return next((one for one in more if _is_shown(value, one)), places)


def number(value: float | int | None, places: int) -> str:
    """Write a number with a true minus sign and thousands set apart; an unknown one is a dash.

    Example:
        >>> number(-0.0512, 2), number(None, 2), number(12345.6, 0), number(-0.001, 2)
        ('−0.05', '–', '12,346', '0.00')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:,.{places}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("-")
    return text.replace("-", "−")


def signed(value: Number | None, places: int) -> str:
    """Write a difference, with its sign.

    Example:
        >>> signed(0.05, 2), signed(-0.05, 2), signed(0.0, 2)
        ('+0.05', '−0.05', '0.00')
    """
    text = number(value, places)
    return f"+{text}" if value is not None and value > 0 and any(digit in text for digit in "123456789") else text


def p_value(value: Number | None) -> str:
    """Write a p-value with no more digits than a permutation test supports.

    Example:
        >>> p_value(0.0002), p_value(0.0134), p_value(0.34), p_value(1.0)
        ('< .001', '.013', '.340', '1.000')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def interval(low: Number | None, high: Number | None, places: int, *, sign: bool = False) -> str:
    """Write an interval, or nothing where there is none.

    Example:
        >>> interval(-0.08, 0.01, 2, sign=True)
        '−0.08 to +0.01'
    """
    if low is None or high is None:
        return ""
    write = signed if sign else number
    return f"{write(low, places)} to {write(high, places)}"


def _is_shown(value: Number | None, places: int) -> bool:
    return any(digit in number(value, places) for digit in "123456789")
