"""The words that stand in a table for a value that nobody knows."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

# fmt: off
UNKNOWN_WORDS: Final = frozenset({
    "n/a", "na", "n.a.", "n.a", "#n/a", "nan", "<na>", "null", "none", "nil", "unknown", "unk", "unk.", "not known",
    "not reported", "not available", "not recorded", "not specified", "not stated", "not disclosed", "unspecified",
    "undisclosed", "unavailable", "undefined", "missing", "no data", "?", "??", "-", "--", "\u2013", "\u2014", ".",
})
# fmt: on
"""What people and programs write into such a cell, in small letters."""


def unknown_words(cells: Iterable[str], names: Mapping[str, str] | None = None) -> dict[str, int]:
    """Return the spellings in one column that stand for an unknown value, and how many cells have each.

    Capitals and spaces around a word do not count. A minus is a value where the column also has a plus.

    Args:
        cells: The column, an empty cell as ``""``; empty ones are not counted.
        names: What the codes of the column mean. A word that has a name there is a value, as somebody said so; another
            code is unknown where its name is one of the words.

    Example:
        >>> unknown_words(["F", "unknown", "Unknown", "NA", "NA", ""])
        {'unknown': 1, 'Unknown': 1, 'NA': 2}
        >>> unknown_words(["+", "-", "?"])
        {'?': 1}
        >>> unknown_words(["1", "9", "NA"], {"1": "female", "9": "unknown", "NA": "North America"})
        {'9': 1}
    """
    counts = Counter(cells)
    names = names or {}
    signed = any(_plain(cell) == "+" for cell in counts)
    return {cell: count for cell, count in counts.items() if _is_unknown(cell, names) and not (signed and cell == "-")}


def _is_unknown(cell: str, names: Mapping[str, str]) -> bool:
    if _plain(cell) in UNKNOWN_WORDS:
        return cell not in names
    return _plain(names.get(cell, "")) in UNKNOWN_WORDS


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
