"""What options say of masks and of the table beside them, as several commands take it."""

from pathlib import Path
from typing import Any, Literal

from equivox.datasets.cohort import MODALITIES, Modality
from equivox.errors import InputError


def edges_of(texts: list[str]) -> dict[str, tuple[float, ...]]:
    """Return column -> inner edges of its groups, from texts such as ``age=40,65``.

    Raises:
        InputError: If a text is none such.
    """
    result = {}
    for text in texts:
        column, equals, edges = text.rpartition("=")
        try:
            result[column] = tuple(float(edge) for edge in edges.split(","))
        except ValueError:
            equals = ""
        if not equals or not column:
            msg = f"--continuous {text}: expected a column and the edges of its groups; write for example age=40,65"
            raise InputError(msg)
    return result


def classes_of(texts: list[str]) -> dict[int, str]:
    """Return value -> class name, from texts such as ``1=liver``.

    Raises:
        InputError: If a text is none such, or a value or a name comes twice.
    """
    result: dict[int, str] = {}
    for text in texts:
        value, equals, name = (piece.strip() for piece in text.partition("="))
        if not equals or not name or not value.isdecimal() or int(value) == 0:
            msg = f"--class {text}: expected a value above 0 and a name; write for example --class 1=liver"
            raise InputError(msg)
        if int(value) in result or name in result.values():
            msg = f"--class {text}: expected each value and each name once, got one twice; leave one out"
            raise InputError(msg)
        result[int(value)] = name
    return result


def settings_of(texts: list[str], option: str) -> dict[str, Any]:
    """Return key -> value, from texts such as ``threshold=0.3``; values are read as YAML.

    Raises:
        InputError: If a text is none such, or a key comes twice.
    """
    import yaml

    result: dict[str, Any] = {}
    for text in texts:
        key, equals, value = (piece.strip() for piece in text.partition("="))
        if not key or not equals or key in result:
            what = "each key once" if key in result else "a key and a value"
            msg = f"{option} {text}: expected {what}; write for example {option} threshold=0.3"
            raise InputError(msg)
        try:
            result[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            msg = f"{option} {text}: expected a number, a word or a list such as [10, 15]; mend it"
            raise InputError(msg) from None
    return result


def modality_of(text: str) -> Modality:
    """Return a modality as cohorts name it, whatever the capitals.

    Raises:
        InputError: If there is no such modality.
    """
    for known in MODALITIES:
        if known == text.upper():
            return known
    msg = f"--modality {text}: expected one of {', '.join(MODALITIES)}; choose one of them"
    raise InputError(msg)


def probability_choice(text: str) -> Literal["auto", "none"] | Path:
    """Return what ``--probabilities`` asks for.

    Example:
        >>> probability_choice("none")
        'none'
    """
    return "auto" if text == "auto" else "none" if text == "none" else Path(text)
