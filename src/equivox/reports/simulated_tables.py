"""What intervals and tests are worth at these numbers of patients, as tables of the methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_TITLES: Final = {
    "coverage": "How often 95 % intervals cover what they are about",
    "tests": "How often the test finds a difference where there is none",
    "detectable_gaps": "How often a gap as large as the smallest that could be seen is found",
    "answers": "What the report says when the true gap is known",
}
_COUNTS: Final = ("patients",)
_PLAIN: Final = ("gap", "true_gap", "margin")


@dataclass(frozen=True)
class SimulatedTable:
    """One table.

    Attributes:
        title: What it says.
        heads: Of the columns.
        rows: One a situation; shares in percent.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def simulated_tables(methods: Mapping[str, Any]) -> tuple[str, list[SimulatedTable]]:
    """Return a sentence on the simulations and their tables; no tables where the summary holds none.

    Args:
        methods: The part of that name of the summary.
    """
    found = methods.get("simulated_table") or {}
    tables = [
        SimulatedTable(title, [_head(key) for key in found[name][0]], [_row(record) for record in found[name]])
        for name, title in _TITLES.items()
        if found.get(name)
    ]
    return str(found.get("about", "")), tables


def _head(key: str) -> str:
    text = key.replace("_", " ")
    return text[:1].upper() + text[1:]


def _row(record: Mapping[str, Any]) -> list[str]:
    return [_cell(key, value) for key, value in record.items()]


def _cell(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if key in _COUNTS:
        return f"{value:,}"
    return f"{value:g}" if key in _PLAIN else f"{100 * value:.1f} %"
